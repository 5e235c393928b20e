/** Pickles and what PyTorch puts into them: files that PyTorch wrote (`fixtures/import/make.py`), and hostile ones by hand. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { UserError } from "../../../src/errors.ts";
import { ByteReader, ByteSource } from "../../../src/weights/import/bytes.ts";
import { openTorch, openWeights } from "../../../src/weights/import/checkpoint.ts";
import { Global, Opaque, type Value } from "../../../src/weights/import/pickle_machine.ts";
import { opaqueNames, readPickle } from "../../../src/weights/import/pickle.ts";
import { Random } from "../../../src/random/philox.ts";
import { type Storage, torchHooks, type TorchTensor } from "../../../src/weights/import/torch.ts";

const fixture = (name: string) => fileURLToPath(new URL(`../../../fixtures/import/${name}`, import.meta.url));
const bytesOf = (text: string) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
const read = (text: string) => readPickle(new ByteReader(ByteSource.of(bytesOf(text), "x.ckpt"), "the pickle"));
const refused = (text: string, message: RegExp) =>
  assert.throws(() => read(text), (error: Error) => {
    assert.match(error.message, message);
    assert.match(error.message, /^x\.ckpt: the pickle /);
    return error.name === "UserError" && !error.message.includes("\n");
  });

const count = (size: number) => Array.from({ length: size }, (_, i) => i);
/** What make.py saved, by name: element type, shape, values. */
const EXPECTED: Record<string, [string, number[], number[]]> = {
  plain: ["float32", [4, 6], count(24)],
  row: ["float32", [6], [12, 13, 14, 15, 16, 17]],
  turned: ["float32", [6, 4], count(24).map((i) => (i % 4) * 6 + Math.floor(i / 4))],
  stepped: ["float32", [2, 3], [1, 3, 5, 13, 15, 17]],
  half: ["float16", [2, 3], count(6)],
  brain: ["bfloat16", [5], count(5)],
  double: ["float64", [2], [0, Math.fround(1 / 3)]],
  long: ["int64", [3], [-1, 0, 1]],
  flag: ["bool", [2], [1, 0]],
  scalar: ["float32", [], [7]],
  parameter: ["float32", [2, 2], count(4)],
  empty: ["float32", [0, 3], []],
};

for (const name of ["zip.ckpt", "stream.ckpt"]) {
  Deno.test(`PyTorch's own ${name}: tensors of every type, shared and strided; other data; unknown classes stay names`, () => {
    using weights = openWeights(fixture(name));
    assert.deepEqual(weights.names(), Object.keys(EXPECTED));
    for (const [tensor, [dtype, shape, values]] of Object.entries(EXPECTED)) {
      assert.equal(weights.info(tensor).dtype, dtype, tensor);
      assert.deepEqual([...weights.info(tensor).shape], shape, tensor);
      assert.deepEqual([...weights.float32(tensor)], values, tensor);
    }
    using file = openTorch(fixture(name));
    const root = file.value as Map<string, Value>;
    assert.equal(root.get("epoch"), 3);
    assert.equal(root.get("global_step"), 2 ** 40);
    assert.equal(root.get("big"), 2n ** 70n);
    assert.equal(root.get("nothing"), null);
    assert.deepEqual(root.get("list"), [1, 2.5, [true, "ä"], bytesOf("bytes")]);
    const settings = root.get("settings");
    assert.ok(settings instanceof Opaque && settings.global.path === "__main__.Settings");
    assert.deepEqual(settings.state, new Map([["lr", 0.5]]));
    assert.deepEqual(opaqueNames(file.value), ["__main__.Settings"]);
  });
}

Deno.test("the tar form of the first PyTorch: storages, a view of one, strides", () => {
  using weights = openWeights(fixture("tar.pt"));
  assert.deepEqual(weights.names(), ["whole", "part"]);
  assert.deepEqual([...weights.float32("whole")], count(6));
  assert.deepEqual([...weights.float32("part")], [2, 4, 3, 5]);
});

Deno.test("pickle: every protocol's way to write the same values", () => {
  const expected = new Map<Value, Value>([["a", [1, -2, 1.5, null, true]], ["b", [7n ** 30n, "é\n"]]]);
  const zero = `(dS'a'\n(lI1\naI-2\naF1.5\naNaI01\nasS'b'\n(L${7n ** 30n}L\nV\xe9\\u000a\ntp0\ns.`;
  assert.deepEqual(read(zero), expected);
  const four = "\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94](K\x01J\xfe\xff\xff\xffG\x3f\xf8" +
    "\0\0\0\0\0\0N\x88e\x8c\x01bC\x02hiu.";
  const map = read(four) as Map<Value, Value>;
  assert.deepEqual(map.get("a"), expected.get("a"));
  assert.deepEqual(map.get("b"), bytesOf("hi"));
  assert.deepEqual(read("\x80\x05\x8f(K\x01K\x02\x90."), new Set([1, 2]));
  assert.deepEqual(read("ccollections\nOrderedDict\n]\x8c\x01kK\x05\x86a\x85R."), new Map([["k", 5]]));
  const circular = read("]q\x00h\x00a.") as Value[];
  assert.ok(circular[0] === circular && opaqueNames(circular).length === 0);
});

Deno.test("pickle: what Python would call is only ever a name, and names that no checkpoint needs are refused", () => {
  const value = read("cpytorch_lightning.callbacks\nModelCheckpoint\n(K\x01tR}(\x8c\x01sK\x02ub.");
  assert.ok(value instanceof Opaque && value.global instanceof Global);
  assert.deepEqual([value.global.path, value.args, value.state], [
    "pytorch_lightning.callbacks.ModelCheckpoint",
    [1],
    new Map([["s", 2]]),
  ]);
  refused("cos\nsystem\n(S'touch hacked'\ntR.", /asks for os\.system/);
  refused("cposix\nsystem\n(S'touch hacked'\ntR.", /asks for posix\.system/);
  refused("\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", /asks for builtins\.eval/);
  refused("(S'x'\nisubprocess\nPopen\n.", /asks for subprocess\.Popen/);
});

Deno.test("pickle: damage is told in one line", () => {
  refused("", /is truncated at byte 0/);
  refused("(K\x01", /is truncated/);
  refused("R.", /a value is missing/);
  refused("K\x01t.", /a mark is missing/);
  refused("h\x05.", /nothing is kept under 5/);
  refused("}K\x01a.", /items for what is no list/);
  refused("K\x01K\x02b\xff.", /unknown instruction \(0xff\)/);
  refused("\x8b\xff\xff\xff\x7f.", /an integer of 2147483647 bytes/);
  refused("X\xff\xff\xff\xff.", /is truncated/);
  refused("Ix\n.", /a number is not one/);
  refused("K\x01Q.", /a reference to something outside/);
});

Deno.test("tensors that reach beyond their storage, or have impossible shapes, are refused by name", () => {
  const source = ByteSource.of(new Uint8Array(16), "x.ckpt"), storages = new Map<string, Storage>();
  const hooks = torchHooks("x.ckpt", storages), kind = new Global("torch", "FloatStorage");
  const storage = hooks.persistent!(["storage", kind, "0", "cpu", 4]);
  storages.get("0")!.begin = 0;
  const rebuild = (...words: Value[]) =>
    hooks.reduce!(new Global("torch._utils", "_rebuild_tensor_v2"), [storage, ...words]) as TorchTensor;
  assert.equal(rebuild(0, [4], [1]).float32(source, "w").length, 4);
  assert.throws(() => rebuild(1, [4], [1]).float32(source, "w"), /tensor "w" needs 5 elements of a storage that has 4/);
  assert.throws(() => rebuild(0, [2, 2], [3, 1]).float32(source, "w"), /"w" needs 5 elements/);
  assert.equal(rebuild(1, [2, 3], [0, 1]).float32(source, "w").length, 6);
  assert.throws(() => rebuild(0, [2 ** 40], [0]).float32(source, "w"), /"w" repeats its storage to \d+ elements/);
  assert.throws(() => rebuild(0, [-1], [1]), /described wrongly/);
  assert.throws(() => rebuild(0, [2 ** 30, 2 ** 30], [0, 0]), /impossible shape/);
  assert.throws(() => rebuild(0, [4], []), /impossible shape/);
  assert.throws(() => hooks.persistent!(["storage", new Global("torch", "OddStorage"), "1", "cpu", 4]), /unknown kind/);
  assert.throws(() => hooks.persistent!(["storage", kind, "0", "cpu", 5]), /described in two ways/);
});

/** One to three random changes of a file's bytes, most of them where it does not hold zeros. */
function damaged(whole: Uint8Array, random: Random): Uint8Array {
  let bytes = whole.slice();
  for (let changes = 1 + random.integer(0, 3); changes > 0 && bytes.length > 0; changes--) {
    const below = (n: number) => random.integer(0, n), size = bytes.length;
    let at = below(size);
    for (let tries = 0; bytes[at] === 0 && tries < 20; tries++) at = below(size);
    const end = Math.min(size, at + 1 + below(8));
    [
      () => bytes.subarray(at, end).forEach((_, i) => bytes[at + i] = below(256)),
      () => bytes.fill(random.pick([0, 127, 128, 255]), at, end),
      () => bytes.copyWithin(at, below(size), size),
      () => bytes = bytes.slice(0, at),
      () => bytes[at] ^= 1 << below(8),
      () => bytes[at] = random.pick([..."cRbQPt(lX}us.]0123JKM"]).charCodeAt(0), // instructions of a pickle
    ][below(6)]();
  }
  return bytes;
}

for (const name of ["zip.ckpt", "stream.ckpt", "tar.pt"]) {
  Deno.test(`${name}, damaged in many ways: one clear line, or tensors of the sizes it says`, () => {
    const whole = Deno.readFileSync(fixture(name)), random = new Random(2, `damage/${name}`);
    const path = Deno.makeTempFileSync({ suffix: ".pt" });
    let refused = 0;
    try {
      for (let i = 0; i < 1000; i++) {
        Deno.writeFileSync(path, damaged(whole, random));
        try {
          using weights = openWeights(path);
          for (const tensor of weights.names()) {
            const size = weights.info(tensor).shape.reduce((a, b) => a * b, 1);
            assert.equal(weights.float32(tensor).length, size);
          }
        } catch (error) {
          assert.ok(error instanceof UserError, `change ${i}: ${error}`);
          assert.ok(error.message.startsWith(`${path}: `) && !/\p{Cc}/u.test(error.message), error.message);
          refused++;
        }
      }
    } finally {
      Deno.removeSync(path);
    }
    assert.ok(refused > 200, `only ${refused} of 1000 were noticed`);
  });
}
