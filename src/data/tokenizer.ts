/**
 * BERT's uncased WordPiece tokeniser (Devlin et al. 2019; Wu et al. 2016): text → ids of a vocabulary file. The file
 * decides; `bert-base-uncased` and a small one of our own work alike.
 */

import { UserError } from "../errors.ts";

/** Longer words become [UNK], as in the reference. */
const longestWord = 100;

/** ASCII signs count as punctuation even where Unicode calls them symbols ($, +, ^, `, |, ~). */
const punctuation = /[!-/:-@[-`{-~]|\p{P}/u;
const ideograph = /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/u;

/** Lower-case words and single punctuation marks, accents stripped. */
export function splitWords(text: string): string[] {
  const plain = text.replace(/[\t\n\r]/g, " ").replace(/[\p{Cc}\p{Cf}\p{Co}\ufffd]/gu, "").toLowerCase()
    .normalize("NFD").replace(/\p{Mn}/gu, "");
  let spaced = "";
  for (const sign of plain) spaced += punctuation.test(sign) || ideograph.test(sign) ? ` ${sign} ` : sign;
  return spaced.split(/\s+/u).filter((word) => word.length > 0);
}

/**
 * A tokeniser over a vocabulary.
 * @example
 * ```ts
 * import { Tokenizer } from "./tokenizer.ts";
 * const tokenizer = new Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "*", "crack", "##s"]);
 * const ids = tokenizer.encode("A photo of *: cracks", 10);
 * if (ids.join() !== "2,4,5,6,7,1,8,9,3,0") throw new Error("not the expected ids");
 * if (tokenizer.placeholderColumn(ids, "*") !== 4) throw new Error("not the expected column");
 * ```
 */
export class Tokenizer {
  readonly #ids = new Map<string, number>();
  readonly #special: Record<"[PAD]" | "[UNK]" | "[CLS]" | "[SEP]", number>;

  /**
   * A tokenizer for word pieces in the order of their ids.
   * @param vocab word pieces by id, continuations with `##`
   * @throws {UserError} if [PAD], [UNK], [CLS] or [SEP] is missing
   */
  constructor(vocab: readonly string[]) {
    vocab.forEach((piece, id) => {
      if (!this.#ids.has(piece)) this.#ids.set(piece, id);
    });
    const id = (piece: string) => {
      const found = this.#ids.get(piece);
      if (found === undefined) throw new UserError(`the vocabulary has no ${piece}`, "use the model's own vocab.txt");
      return found;
    };
    this.#special = { "[PAD]": id("[PAD]"), "[UNK]": id("[UNK]"), "[CLS]": id("[CLS]"), "[SEP]": id("[SEP]") };
  }

  /** The id of one piece, or undefined. */
  id(piece: string): number | undefined {
    return this.#ids.get(piece);
  }

  /** Ids of a text without [CLS], [SEP] and [PAD]. */
  pieces(text: string): number[] {
    return splitWords(text).flatMap((word) => this.#word(word));
  }

  /**
   * [CLS] … [SEP], cut to `maxLength` and filled up with [PAD].
   * @returns `maxLength` ids
   */
  encode(text: string, maxLength: number): Int32Array<ArrayBuffer> {
    const ids = new Int32Array(maxLength).fill(this.#special["[PAD]"]);
    ids.set([this.#special["[CLS]"], ...this.pieces(text).slice(0, maxLength - 2), this.#special["[SEP]"]]);
    return ids;
  }

  /**
   * Where words of a text stand in {@linkcode encode}'s ids.
   * @param words which ones, counted from 0 as {@linkcode splitWords} splits the text
   * @returns columns of all their pieces that `maxLength` leaves
   */
  columns(text: string, words: readonly number[], maxLength: number): number[] {
    const wanted = new Set(words), columns: number[] = [];
    let at = 1; // after [CLS]
    splitWords(text).forEach((word, i) => {
      for (const end = at + this.#word(word).length; at < end; at++) if (wanted.has(i)) columns.push(at);
    });
    return columns.filter((column) => column < maxLength - 1);
  }

  /**
   * Where the placeholder stands.
   * @throws {UserError} unless it stands there exactly once
   */
  placeholderColumn(ids: ArrayLike<number>, placeholder: string): number {
    const id = this.#ids.get(placeholder), list = Array.from(ids);
    if (id === undefined) throw new UserError(`the vocabulary has no "${placeholder}" for learned vectors to replace`);
    const column = list.indexOf(id);
    if (column < 0) throw new UserError(`the prompt has no "${placeholder}", or it lies beyond the longest prompt`);
    if (list.indexOf(id, column + 1) >= 0) throw new UserError(`the prompt has more than one "${placeholder}"`);
    return column;
  }

  /** Longest pieces first, from the left; [UNK] for the whole word where none fits. */
  #word(word: string): number[] {
    const letters = [...word], ids: number[] = [];
    if (letters.length > longestWord) return [this.#special["[UNK]"]];
    for (let start = 0; start < letters.length;) {
      let end = letters.length, id: number | undefined;
      for (; end > start; end--) {
        id = this.#ids.get((start > 0 ? "##" : "") + letters.slice(start, end).join(""));
        if (id !== undefined) break;
      }
      if (id === undefined) return [this.#special["[UNK]"]];
      ids.push(id);
      start = end;
    }
    return ids;
  }
}
