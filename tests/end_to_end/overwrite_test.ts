/** A run that is to be replaced and the one that replaces it: at every moment one of them is there, whole. */
import assert from "node:assert/strict";
import { savePng } from "../../src/data/image.ts";
import { tinyNormal } from "../support/tiny_data.ts";
import { exists, Workshop } from "./program.ts";

const shop = new Workshop();
const PAIRS = "baseline --method cutpaste --data @data --part plate --defect dent";
await shop.good(`${PAIRS} --count 2 --out @old`);
await shop.good(`${PAIRS} --count 1 --seed 5 --out @new`);
const old = shop.products("old"), fresh = shop.products("new");

/** A copy of the old run. */
function copy(name: string): void {
  for (const path of Object.keys(old)) {
    const to = shop.file(name, path);
    Deno.mkdirSync(to.slice(0, to.lastIndexOf("/")), { recursive: true });
    Deno.copyFileSync(shop.file("old", path), to);
  }
}

/** Whether a folder holds these files and no others. */
function holds(folder: string, expected: Record<string, string>): boolean {
  const found = shop.products(folder), names = Object.keys(found);
  return names.length === Object.keys(expected).length && names.every((name) => found[name] === expected[name]);
}

Deno.test("a run that is replaced dies at any change to the disk: the old one comes back, or the new one goes on", async () => {
  const line = `${PAIRS} --count 1 --seed 5`, ends = { old: 0, new: 0 };
  let died = true;
  for (let writes = 1; died; writes++) {
    const name = `run-${writes}`;
    copy(name);
    died = await shop.runUntilWrite(writes, `${line} --out @${name} --overwrite`);
    await shop.runUntilWrite(1 + writes % 9, `${line} --out @${name}`); // and once more where the next start puts it right
    const { code, err } = await shop.run(`${line} --out @${name}`);
    assert.match(err, /already holds a run of baseline/);
    assert.equal(code, 1);
    if (holds(name, old)) ends.old++;
    else {
      await shop.good(`${line} --out @${name} --resume`);
      assert.ok(holds(name, fresh), `died at write ${writes}`);
      ends.new++;
    }
  }
  assert.ok(ends.old > 5 && ends.new > 5, JSON.stringify(ends));
});

Deno.test("what is refused once the folder is open leaves the run in it", async () => {
  copy("kept");
  const refused = async (line: string, message: RegExp) => {
    const { code, err } = await shop.run(`${line} --out @kept --overwrite`);
    assert.match(err, message);
    assert.ok(code === 1 || code === 2);
    assert.ok(holds("kept", old), line);
  };
  await refused("train --data @nowhere", /nowhere: not a folder/);
  await refused("generate --data @data --train-run @nowhere", /embeddings\.safetensors is missing/);
  await refused("inspect train --pairs @nowhere --data @data", /nowhere/);
  await refused(PAIRS.replace("dent", "rust"), /no defect rust/);
  Deno.mkdirSync(shop.file("mine"));
  savePng(shop.file("mine/photo.png"), tinyNormal("plate", 0));
  assert.match((await shop.run(`${PAIRS} --out @mine --overwrite`)).err, /is not empty and holds no run/);
  assert.ok(exists(shop.file("mine/photo.png")));
});
