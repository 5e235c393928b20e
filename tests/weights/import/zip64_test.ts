/** Checkpoints beyond 4 GiB: sizes, places and offsets that 32 bits do not hold, in files with holes. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openWeights } from "../../../src/weights/import/checkpoint.ts";
import { type FarTensor, writeSparseZip } from "./checkpoints.ts";

const row = (first: number) => Float32Array.from({ length: 6 }, (_, i) => first + i);
const TENSORS: readonly FarTensor[] = [
  { name: "before", elements: 100, offset: 3, values: row(10) },
  { name: "across", elements: 2 ** 30 + 64, offset: 2 ** 30 - 2, values: row(20) }, // from 4 GiB − 8 bytes on
  { name: "behind", elements: 50, offset: 0, values: row(30) }, // its header begins beyond 4 GiB
  { name: "second", elements: 2 ** 30 - 1, offset: 2 ** 30 - 7, values: row(40) }, // 4 GiB − 4 bytes: the most without zip64
];

Deno.test({
  name: "a zip checkpoint beyond 4 GiB: zip64 sizes, places and records; what is cut off or points outside is one line",
  ignore: Deno.build.os === "windows", // holes are filled there
  fn() {
    const folder = Deno.makeTempDirSync(), path = join(folder, "large.ckpt");
    try {
      writeSparseZip(path, TENSORS);
      const { size, blocks } = Deno.statSync(path);
      assert.ok(size > 2 ** 33 && (blocks ?? 0) * 512 < 2 ** 21, `${size} bytes, ${blocks} blocks`);
      const start = performance.now();
      {
        using weights = openWeights(path);
        assert.deepEqual(weights.names(), TENSORS.map(({ name }) => name));
        for (const { name, values } of TENSORS) assert.deepEqual(weights.float32(name), values, name);
      }
      assert.ok(performance.now() - start < 2000, "holes were read");

      // The place of the zip64 record (8 bytes in the locator), then of the directory in that record.
      const file = Deno.openSync(path, { read: true, write: true });
      const wrong = (at: number, value: bigint, message: RegExp) => {
        const before = new Uint8Array(8);
        file.seekSync(at, Deno.SeekMode.Start);
        file.readSync(before);
        for (const bytes of [new Uint8Array(BigUint64Array.of(value).buffer), before]) {
          file.seekSync(at, Deno.SeekMode.Start);
          file.writeSync(bytes);
          if (bytes !== before) assert.throws(() => openWeights(path), message);
        }
      };
      const [locator, record] = [size - 22 - 20, size - 22 - 20 - 56];
      wrong(
        locator + 8,
        2n ** 64n - 1n,
        /^UserError: .*large\.ckpt: the file is truncated: the zip64 directory's end /,
      );
      wrong(locator + 8, 64n, /^UserError: .*large\.ckpt: not a whole zip archive: the zip64 record is damaged$/);
      wrong(record + 48, 2n ** 40n, /^UserError: .*large\.ckpt: the file is truncated: the directory /);
      wrong(record + 40, 2n ** 40n, /^UserError: .*large\.ckpt: .* its directory claims 1099511627776 bytes$/);
      wrong(record + 32, 7n, /^UserError: .*large\.ckpt: .* entry 6 is damaged$/);
      file.truncateSync(2 ** 32 + 2 ** 20); // as a download that FAT ended
      assert.throws(
        () => openWeights(path),
        /^UserError: .*large\.ckpt: not a whole zip archive: the directory .* missing$/,
      );
      file.close();
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  },
});
