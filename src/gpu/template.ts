/**
 * A small text template for WGSL: constants, conditions and loops that are unrolled before the shader is compiled.
 *
 * - `{{expression}}` is replaced by the value of an integer expression, or by the text of a string constant;
 * - `//#if expression`, `//#elif expression`, `//#else`, `//#end` keep or drop lines;
 * - `//#for name in from..to` … `//#end` repeats lines for name = from, …, to − 1.
 *
 * Loops are unrolled here and not in WGSL because Naga adds a counter to every WGSL loop and a clamp to every index of a
 * private array (design: register tiles of 8×4 ran 16 against 7 GFLOPS, 2026-08, llvmpipe).
 */

/** Values that a template may name: numbers, booleans (1 or 0) and text that is pasted as it is. */
export type Defines = Readonly<Record<string, number | boolean | string>>;

type Names = Record<string, number | string>;

/** Evaluates an integer expression: numbers, names, `( ) ! * / % + - < <= > >= == != && ||`. */
export function evaluate(text: string, names: Names): number | string {
  const tokens = text.match(/\d+|[A-Za-z_]\w*|==|!=|<=|>=|&&|\|\||[-+*/%()<>!]/g) ?? [];
  let at = 0;
  const levels = [["||"], ["&&"], ["==", "!="], ["<", "<=", ">", ">="], ["+", "-"], ["*", "/", "%"]];
  const unary = (): number | string => {
    const token = tokens[at++];
    if (token === undefined) throw new Error(`template: "${text}" ends too early`);
    if (token === "(") {
      const value = binary(0);
      if (tokens[at++] !== ")") throw new Error(`template: "${text}" lacks a )`);
      return value;
    }
    if (token === "!") return unary() ? 0 : 1;
    if (token === "-") return -Number(unary());
    if (/^\d/.test(token)) return Number(token);
    if (!(token in names)) throw new Error(`template: "${token}" in "${text}" has no value`);
    return names[token];
  };
  const binary = (level: number): number | string => {
    if (level === levels.length) return unary();
    let left = binary(level + 1);
    while (levels[level].includes(tokens[at])) {
      const operator = tokens[at++], right = binary(level + 1);
      const a = Number(left), b = Number(right);
      switch (operator) {
        case "||":
          left = left || right ? 1 : 0;
          break;
        case "&&":
          left = left && right ? 1 : 0;
          break;
        case "==":
          left = left === right ? 1 : 0;
          break;
        case "!=":
          left = left !== right ? 1 : 0;
          break;
        case "<":
          left = a < b ? 1 : 0;
          break;
        case "<=":
          left = a <= b ? 1 : 0;
          break;
        case ">":
          left = a > b ? 1 : 0;
          break;
        case ">=":
          left = a >= b ? 1 : 0;
          break;
        case "+":
          left = a + b;
          break;
        case "-":
          left = a - b;
          break;
        case "*":
          left = a * b;
          break;
        case "/":
          left = Math.trunc(a / b);
          break;
        default:
          left = a % b;
      }
    }
    return left;
  };
  const value = binary(0);
  if (at !== tokens.length) throw new Error(`template: "${text}" has something left over`);
  return value;
}

/**
 * Expands a template.
 * @throws Error naming the line whose directive cannot be read
 * @example
 * ```ts
 * import { expand } from "./template.ts";
 * const text = expand("//#for i in 0..N\nlet x{{i}} = {{i*4}};\n//#end\n", { N: 2 });
 * if (text !== "let x0 = 0;\nlet x1 = 4;\n") throw new Error(text);
 * ```
 */
export function expand(source: string, defines: Defines): string {
  const names: Names = {};
  for (const [key, value] of Object.entries(defines)) names[key] = typeof value === "boolean" ? Number(value) : value;
  const lines = source.split("\n");

  /** Index of the next directive of the same depth among `kinds`, from line `from`. */
  const find = (from: number, kinds: RegExp): number => {
    let depth = 0;
    for (let i = from; i < lines.length; i++) {
      const line = lines[i].trim();
      if (depth === 0 && kinds.test(line)) return i;
      if (/^\/\/#(if|for)\b/.test(line)) depth++;
      else if (/^\/\/#end\b/.test(line)) depth--;
    }
    throw new Error(`template: line ${from} opens a block that no //#end closes`);
  };

  const block = (from: number, to: number, scope: Names): string[] => {
    const out: string[] = [];
    for (let i = from; i < to; i++) {
      const line = lines[i].trim();
      const loop = line.match(/^\/\/#for (\w+) in (.+)\.\.(.+)$/);
      if (loop) {
        const end = find(i + 1, /^\/\/#end\b/);
        const first = Number(evaluate(loop[2], scope)), last = Number(evaluate(loop[3], scope));
        for (let value = first; value < last; value++) out.push(...block(i + 1, end, { ...scope, [loop[1]]: value }));
        i = end;
      } else if (line.startsWith("//#if ")) {
        let condition: string | null = line.slice(6), start = i + 1, taken = false;
        while (true) {
          const end = find(start, /^\/\/#(elif|else|end)\b/);
          if (!taken && (condition === null || evaluate(condition, scope))) {
            taken = true;
            out.push(...block(start, end, scope));
          }
          const next = lines[end].trim();
          start = end + 1;
          if (next.startsWith("//#end")) {
            i = end;
            break;
          }
          condition = next.startsWith("//#elif ") ? next.slice(8) : null;
        }
      } else if (line.startsWith("//#")) {
        throw new Error(`template: line ${i + 1}: cannot read "${line}"`);
      } else {
        out.push(lines[i].replace(/\{\{(.+?)\}\}/g, (_, expression) => String(evaluate(expression, scope))));
      }
    }
    return out;
  };
  return block(0, lines.length, names).join("\n");
}
