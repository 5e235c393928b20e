/** What the page of `serve` asks for: normal images, masks to begin with, a defect drawn into a painted mask, a pair kept. */

import type { BaseModel } from "../../src/anomaly/base_model.ts";
import type { AnomalyEmbedding } from "../../src/anomaly/embedding.ts";
import { type GeneratedPair, PairGenerator, type PairSettings } from "../../src/anomaly/generate.ts";
import { type Image, loadImage, loadMask, type Mask, toPng } from "../../src/data/image.ts";
import { UserError } from "../../src/errors.ts";
import { readJsonLines, type RunFolder } from "../run_folder.ts";
import { type Kind, nameIn } from "./dataset.ts";
import { type MaskGround, maskGround, placedMask } from "./masks.ts";
import { adapterName, fit, MANIFEST, type ManifestRecord, masksOf, readMask } from "./pairs.ts";

/** What the page draws with. */
export interface StudioRun {
  readonly base: BaseModel;
  readonly embedding: AnomalyEmbedding;
  /** SHA-256 of the embedding file. */
  readonly embeddingHash: string;
  /** Kinds that were learned. */
  readonly kinds: readonly Kind[];
  readonly data: string;
  /** Masks of generate-masks, if any. */
  readonly masks?: string;
  /** All but what the page sets. */
  readonly settings: Omit<PairSettings, "batch" | "seed" | "steps" | "guidance">;
  /** Where pairs are kept. */
  readonly runFolder: RunFolder;
}

/** What one picture is drawn from. */
export interface DrawRequest {
  readonly part: string;
  readonly defect: string;
  /** Index of the normal image. */
  readonly image: number;
  /** In the size of that image. */
  readonly mask: Mask;
  readonly seed: number;
  readonly steps: number;
  readonly guidance: number;
}

/** Where masks to begin with come from. */
export const MASK_SOURCES = ["training", "placed", "made"] as const;

/** Names a mask's source. */
export type MaskSource = typeof MASK_SOURCES[number];

/** Draws one picture at a time. */
export class Studio {
  readonly run: StudioRun;
  readonly #grounds = new Map<string, Promise<MaskGround>>();

  constructor(run: StudioRun) {
    this.run = run;
  }

  /** Parts with the number of their normal images and the defects that were learned. */
  parts(): { name: string; good: number; defects: string[] }[] {
    const byPart = Map.groupBy(this.run.kinds, ({ part }) => part.name);
    return [...byPart].map(([name, kinds]) => ({
      name,
      good: kinds[0].part.good.length,
      defects: kinds.map(({ defect }) => defect.name),
    }));
  }

  /** @throws UserError where nothing of that name was learned */
  kind(part: string, defect?: string): Kind {
    const kind = this.run.kinds.find((one) =>
      one.part.name === part && (defect === undefined || one.defect.name === defect)
    );
    if (!kind) throw new UserError(`nothing was learned for ${defect === undefined ? part : `${part}+${defect}`}`);
    return kind;
  }

  /** Path of a normal image. */
  sourcePath(part: string, index: number): string {
    const { good } = this.kind(part).part;
    if (!(index in good)) throw new UserError(`${part} has normal images 0 to ${good.length - 1}, not ${index}`);
    return good[index];
  }

  /** A mask to begin with, in the size of a normal image; `number` counts on and begins again after the last. */
  async mask(source: MaskSource, part: string, defect: string, image: number, number: number): Promise<Mask> {
    const kind = this.kind(part, defect), size = await loadImage(this.sourcePath(part, image));
    if (source === "placed") {
      if (!this.#grounds.has(kind.key)) this.#grounds.set(kind.key, maskGround(kind, this.run.base.side));
      return fit(placedMask(await this.#grounds.get(kind.key)!, 0, kind.key, number), size);
    }
    if (source === "training") {
      const { train } = kind.defect;
      return fit(await loadMask(train[number % train.length].mask), size);
    }
    if (!this.run.masks) throw new UserError("no masks of generate-masks are at hand", "start with --masks");
    const made = masksOf(this.run.masks, kind);
    return fit(await readMask(made[number % made.length]), size);
  }

  /**
   * Draws a defect.
   * @param onStep called after each sampling step has run; throw in it to stop
   */
  async draw(request: DrawRequest, onStep: () => void): Promise<GeneratedPair> {
    const { base, embedding } = this.run, { part, defect, image, mask, seed, steps, guidance } = request;
    const { key } = this.kind(part, defect), source = await loadImage(this.sourcePath(part, image));
    if (mask.width !== source.width || mask.height !== source.height) {
      throw new UserError(
        `the mask has ${mask.width}×${mask.height} pixels, the image ${source.width}×${source.height}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 20)); // what comes next blocks: let answers go out first
    using generator = new PairGenerator(base, embedding, { ...this.run.settings, batch: 1, seed, steps, guidance });
    // Waiting for the device keeps the page answered and the count of steps true.
    const step = async () => {
      await base.gpu.device.queue.onSubmittedWorkDone();
      onStep();
    };
    const job = { index: 0, attempt: 0, key, source, mask };
    for await (const pair of generator.generate([job], { onStep: step })) return pair;
    throw new Error("no pair was made");
  }

  /** Keeps a pair in the run folder, in MVTec layout with a line in the manifest; returns that line. */
  async keep({ part, defect, image: index, seed, steps, guidance }: DrawRequest, pair: GeneratedPair) {
    const { base, runFolder, embeddingHash, data, settings } = this.run;
    const before = await readJsonLines<ManifestRecord>(runFolder.file(MANIFEST));
    const mine = before.filter((record) => record.part === part && record.defect === defect);
    const stem = String(mine.length).padStart(4, "0"), mask = `${part}/ground_truth/${defect}/${stem}_mask.png`;
    const record: ManifestRecord = {
      part,
      defect,
      index: pair.job.index,
      image: `${part}/test/${defect}/${stem}.png`,
      mask,
      source: nameIn(data, this.sourcePath(part, index)),
      maskSource: mask, // painted: there is no other file of it
      seed,
      attempt: pair.attempt,
      accepted: true,
      refused: [],
      feather: Math.ceil(1000 * pair.feather) / 1000,
      figures: Object.fromEntries(Object.entries(pair.figures).map(([k, v]) => [k, Number(v.toFixed(5))])),
      model: base.sha256,
      embeddings: embeddingHash,
      adapter: adapterName(base.gpu),
      settings: { ...settings, seed, steps, guidance },
    };
    await runFolder.write(record.image, toPng(pair.image));
    await runFolder.write(record.mask, toPng(pair.job.mask));
    using manifest = await runFolder.jsonl<ManifestRecord>(MANIFEST);
    manifest.append(record);
    await manifest.sync();
    return record;
  }

  /** A normal image as every browser shows it. */
  async source(part: string, index: number): Promise<Image> {
    return await loadImage(this.sourcePath(part, index));
  }

  /** Where pairs are kept, as the page names it. */
  get out(): string {
    return this.run.runFolder.path;
  }
}
