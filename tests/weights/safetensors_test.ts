import assert from "node:assert/strict";
import { join } from "node:path";
import { encodeSafetensors, Safetensors, toFloat32, writeSafetensors } from "../../src/weights/safetensors.ts";

const tensors = {
  f32: { shape: [2, 2], data: new Float32Array([1, -2, 3.5, 1e-30]) },
  f16: { dtype: "F16" as const, shape: [3], data: Uint16Array.of(0x3c00, 0xc000, 0x3555) },
  bf16: { dtype: "BF16" as const, shape: [2], data: Uint16Array.of(0x3f80, 0xc000) },
  i32: { shape: [1], data: Int32Array.of(-7) },
  i64: { shape: [2], data: BigInt64Array.of(-1n, 2n ** 40n) },
  u8: { shape: [5], data: Uint8Array.of(1, 2, 3, 4, 255) },
  scalar: { shape: [], data: new Float32Array([9]) },
  empty: { shape: [0, 4], data: new Float32Array(0) },
};

/** A file with this header text and `size` payload bytes. */
function handMade(header: string, size: number): Uint8Array {
  const json = new TextEncoder().encode(header), bytes = new Uint8Array(8 + json.length + size);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

Deno.test("safetensors: every element type comes back, from memory and from a file", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const path = join(folder, "all.safetensors");
    const lazy = { ...tensors, f32: { ...tensors.f32, dtype: "F32" as const, data: () => tensors.f32.data } };
    writeSafetensors(path, lazy, { salt: "alpha", "größe": "√3" });
    assert.deepEqual(Deno.readFileSync(path), encodeSafetensors(tensors, { salt: "alpha", "größe": "√3" }));
    assert.deepEqual([...Deno.readDirSync(folder)].map((entry) => entry.name), ["all.safetensors"]);
    for (const file of [Safetensors.open(path), Safetensors.parse(Deno.readFileSync(path))]) {
      using open = file;
      assert.deepEqual(open.metadata, { salt: "alpha", "größe": "√3" });
      assert.deepEqual(open.names(), Object.keys(tensors));
      for (const [name, { shape, data }] of Object.entries(tensors)) {
        assert.deepEqual(open.get(name).shape, shape);
        assert.deepEqual(open.get(name).data, data);
      }
      assert.deepEqual([...open.float32("bf16")], [1, -2]);
      assert.deepEqual([...open.float32("f16")], [1, -2, Math.fround(0x555 / 4096)]);
      assert.deepEqual([...open.float32("i64")], [-1, 2 ** 40]);
      assert.deepEqual([...open.float32("u8")], [1, 2, 3, 4, 255]);
      assert.throws(() => open.get("gone"), /no tensor "gone"/);
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("safetensors: values start at a multiple of eight, and half views at an odd offset are read right", () => {
  const bytes = encodeSafetensors({ a: { shape: [1], data: Uint8Array.of(1) }, h: tensors.f16 });
  assert.equal(new DataView(bytes.buffer).getUint32(0, true) % 8, 0);
  assert.deepEqual([...toFloat32(Safetensors.parse(bytes).get("h"))].slice(0, 2), [1, -2]);
});

Deno.test("safetensors: truncated, overlapping and ill-formed files are refused in one line", () => {
  const refused = (bytes: Uint8Array, message: RegExp) =>
    assert.throws(() => Safetensors.parse(bytes, "m.safetensors"), (error: Error) => {
      assert.match(error.message, message);
      assert.match(error.message, /^m\.safetensors: /);
      assert.ok(!error.message.includes("\n"));
      return error.name === "UserError";
    });
  const whole = encodeSafetensors(tensors);
  refused(whole.subarray(0, whole.length - 1), /ends after the end of the file/);
  refused(whole.subarray(0, 20), /the header claims/);
  refused(whole.subarray(0, 3), /it has 3 bytes/);
  refused(handMade("{oops", 0), /not JSON/);
  refused(handMade("[1]", 0), /not a JSON object/);
  const entry = (range: number[], rest = `"dtype":"F32","shape":[2]`) => `{${rest},"data_offsets":[${range}]}`;
  refused(handMade(`{"a":${entry([0, 8])},"b":${entry([4, 12])}}`, 12), /"b" overlaps another/);
  refused(handMade(`{"a":${entry([0, 12])}}`, 12), /"a" of shape \[2\] has 12 bytes/);
  refused(handMade(`{"a":${entry([0, 8], `"dtype":"F64","shape":[1]`)}}`, 8), /element type F64; known are F32/);
  refused(handMade(`{"a":${entry([0, 8], `"dtype":"F32","shape":[-2]`)}}`, 8), /"a" has no shape/);
  refused(handMade(`{"a":{"dtype":"F32","shape":[2]}}`, 8), /"a" has no byte range/);
});

Deno.test("safetensors: a file that is not there, and data that does not fill its shape", () => {
  assert.throws(() => Safetensors.open("no/such.safetensors"), /no\/such\.safetensors: no such file/);
  assert.throws(
    () => encodeSafetensors({ a: { shape: [3], data: new Float32Array(2) } }),
    /"a" of shape \[3\] has 8 bytes/,
  );
  assert.throws(() => encodeSafetensors({ a: { shape: [1], data: Uint16Array.of(1) } }), /say its dtype/);
});

Deno.test("safetensors: a write that fails leaves the old file and no litter", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const path = join(folder, "w.safetensors");
    writeSafetensors(path, { a: tensors.u8 });
    const before = Deno.readFileSync(path);
    const failing = () => {
      throw new Error("power cut");
    };
    assert.throws(() => writeSafetensors(path, { a: { dtype: "U8", shape: [5], data: failing } }), /power cut/);
    assert.deepEqual(Deno.readFileSync(path), before);
    assert.deepEqual([...Deno.readDirSync(folder)].length, 1);
    assert.throws(() => writeSafetensors(join(folder, "none", "w"), {}), /its folder does not exist/);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
