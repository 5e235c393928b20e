import assert from "node:assert/strict";
import { placeholder, promptTemplates } from "../../src/data/prompts.ts";
import { splitWords, Tokenizer } from "../../src/data/tokenizer.ts";

const letters = [..."abcdefghijklmnopqrstuvwxyz"];
const vocab = [
  "[PAD]",
  "[UNK]",
  "[CLS]",
  "[SEP]",
  "[MASK]",
  "*",
  "-",
  ".",
  "crack",
  "un",
  "##aff",
  "##able",
  "photo",
  ...letters,
  ...letters.map((x) => `##${x}`),
];
const tokenizer = new Tokenizer(vocab);
const pieces = (text: string) => tokenizer.pieces(text).map((id) => vocab[id]);

Deno.test("tokenizer: words are lower-cased, accents stripped, punctuation and ideographs set apart", () => {
  assert.deepEqual(splitWords("A close-up,  of\tÉtÀl\n$5.00*"), [
    "a",
    "close",
    "-",
    "up",
    ",",
    "of",
    "etal",
    "$",
    "5",
    ".",
    "00",
    "*",
  ]);
  assert.deepEqual(splitWords("Größe\u00a0ok\u200b\u0000\ue000"), ["große", "ok"]);
  assert.deepEqual(splitWords("ah\u6f22\u5b57!"), ["ah", "\u6f22", "\u5b57", "!"]);
  assert.deepEqual(splitWords("  "), []);
});

Deno.test("tokenizer: the longest piece wins; a word that does not fit is unknown as a whole", () => {
  assert.deepEqual(pieces("Unaffable cracks."), ["un", "##aff", "##able", "crack", "##s", "."]);
  assert.deepEqual(pieces("crack7 photo"), ["[UNK]", "photo"]);
  assert.deepEqual(pieces("a".repeat(100)).length, 100);
  assert.deepEqual(pieces("a".repeat(101)), ["[UNK]"]);
});

Deno.test("tokenizer: starts, ends, is filled up or cut to the length", () => {
  const [pad, , cls, sep] = [0, 1, 2, 3];
  assert.deepEqual([...tokenizer.encode("photo *", 6)], [cls, 12, 5, sep, pad, pad]);
  assert.deepEqual([...tokenizer.encode("photo * photo photo photo", 5)], [cls, 12, 5, 12, sep]);
  assert.deepEqual([...tokenizer.encode("", 3)], [cls, sep, pad]);
});

Deno.test("tokenizer: columns of words, all their pieces, as far as the length goes", () => {
  const ids = tokenizer.encode("photo unable - crack", 9); // [CLS] photo un ##able - crack [SEP]
  assert.deepEqual(tokenizer.columns("photo unable - crack", [1, 3], 9), [2, 3, 5]);
  assert.deepEqual([2, 3, 5].map((i) => vocab[ids[i]]), ["un", "##able", "crack"]);
  assert.deepEqual(tokenizer.columns("photo unable - crack", [1, 3], 6), [2, 3]);
  assert.deepEqual(tokenizer.columns("photo unable - crack", [], 9), []);
});

Deno.test("tokenizer: BERT's ids for “a photo of a *”", () => {
  // The lines of bert-base-uncased that matter, at their places.
  const bert = Array.from({ length: 30522 }, (_, i) => `[unused${i}]`);
  for (
    const [id, piece] of Object.entries({
      0: "[PAD]",
      100: "[UNK]",
      101: "[CLS]",
      102: "[SEP]",
      1008: "*",
      1037: "a",
      1997: "of",
      6302: "photo",
    })
  ) {
    bert[Number(id)] = piece;
  }
  const ids = new Tokenizer(bert).encode("a photo of a *", 77);
  assert.deepEqual([...ids.subarray(0, 8)], [101, 1037, 6302, 1997, 1037, 1008, 102, 0]);
  assert.equal(ids.length, 77);
  assert.equal(new Tokenizer(bert).placeholderColumn(ids, "*"), 5);
});

Deno.test("tokenizer: the placeholder must stand there once", () => {
  const column = (text: string) => tokenizer.placeholderColumn(tokenizer.encode(text, 6), "*");
  assert.equal(column("photo a *"), 3);
  assert.throws(() => column("photo"), /the prompt has no "\*"/);
  assert.throws(() => column("a a a a a *"), /beyond the longest prompt/);
  assert.throws(() => column("* *"), /more than one/);
  assert.throws(() => tokenizer.placeholderColumn([1], "@"), /the vocabulary has no "@"/);
  assert.throws(() => new Tokenizer(["[PAD]", "[UNK]", "[CLS]"]), /no \[SEP\]/);
});

Deno.test("prompts: every template holds the placeholder once and leaves room for twelve vectors in 24 positions", () => {
  for (const template of promptTemplates) {
    const words = splitWords(template);
    assert.equal(words.filter((word) => word === placeholder).length, 1);
    assert.ok(words.length - 1 + 12 + 2 <= 24, template);
  }
  assert.equal(new Set(promptTemplates).size, promptTemplates.length);
});
