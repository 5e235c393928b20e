/** Pictures that the page asked for: one is drawn at a time, a few wait, the last ones are remembered. */

import type { GeneratedPair } from "../../src/anomaly/generate.ts";
import { UserError } from "../../src/errors.ts";
import { describeError } from "../errors.ts";
import type { DrawRequest } from "./studio.ts";

/** Pictures that may wait, and finished ones that are remembered. */
const MOST_WAITING = 4, REMEMBERED = 8;

/** One picture on its way. */
export interface Drawing {
  readonly id: number;
  readonly request: DrawRequest;
  state: "waiting" | "drawing" | "done" | "failed" | "stopped";
  step: number;
  error?: string;
  pair?: GeneratedPair;
  /** The manifest's name of the image, once it is kept. */
  kept?: string;
}

/** Draws a picture; `onStep` throws where it shall stop. */
type Draw = (request: DrawRequest, onStep: () => void) => Promise<GeneratedPair>;

class Stopped extends Error {}

/** Draws one after another. */
export class DrawingQueue {
  readonly #draw: Draw;
  readonly #drawings = new Map<number, Drawing>();
  #count = 0;
  #busy = Promise.resolve();

  constructor(draw: Draw) {
    this.#draw = draw;
  }

  get #waiting(): Drawing[] {
    return [...this.#drawings.values()].filter(({ state }) => state === "waiting");
  }

  /** Pictures of this queue that come before one. */
  ahead({ id }: Drawing): number {
    return [...this.#drawings.values()].filter((one) =>
      one.id < id && (one.state === "waiting" || one.state === "drawing")
    ).length;
  }

  /** @throws UserError where too many wait already */
  add(request: DrawRequest): Drawing {
    if (this.#waiting.length >= MOST_WAITING) {
      throw new UserError(`${MOST_WAITING} pictures are waiting already; stop one, or wait until one is drawn`);
    }
    const drawing: Drawing = { id: ++this.#count, request, state: "waiting", step: 0 };
    this.#drawings.set(drawing.id, drawing);
    for (const { id, state } of [...this.#drawings.values()].slice(0, -REMEMBERED)) {
      if (state !== "waiting" && state !== "drawing") this.#drawings.delete(id);
    }
    this.#busy = this.#busy.then(() => this.#run(drawing));
    return drawing;
  }

  /** A picture by its number; undefined for one that is not, or no longer, known. */
  get(id: number): Drawing | undefined {
    return this.#drawings.get(id);
  }

  /** Stops one that waits or is drawn; one that is done stays. */
  stop(drawing: Drawing): void {
    if (drawing.state === "waiting" || drawing.state === "drawing") drawing.state = "stopped";
  }

  /** Stops everything; settles once nothing is drawn any more. */
  async close(): Promise<void> {
    for (const drawing of this.#drawings.values()) this.stop(drawing);
    await this.#busy;
  }

  async #run(drawing: Drawing): Promise<void> {
    if (drawing.state !== "waiting") return;
    drawing.state = "drawing";
    const stopped = () => drawing.state === "stopped";
    try {
      const pair = await this.#draw(drawing.request, () => {
        drawing.step++;
        if (stopped()) throw new Stopped();
      });
      if (!stopped()) Object.assign(drawing, { pair, state: "done" });
    } catch (error) {
      if (error instanceof Stopped) return;
      const [line] = describeError(error).lines;
      Object.assign(drawing, { state: "failed", error: line.replace(/^error: /, "") });
    }
  }
}
