/**
 * The server of the page: for this machine alone, on 127.0.0.1. What it refuses is one line of JSON, `{"error": …}`. Pages of
 * other sites that a browser shows on this machine are kept out: a request must name this server as its host and, where
 * a browser says who sends it, as its origin.
 */

import { join } from "node:path";
import { decodeMask, type Image, type Mask, toPng } from "../../src/data/image.ts";
import { UserError } from "../../src/errors.ts";
import { pageFolder } from "../assets.ts";
import { describeError } from "../errors.ts";
import { type Drawing, DrawingQueue } from "./drawing_queue.ts";
import { type DrawRequest, MASK_SOURCES, type MaskSource, type Studio } from "./studio.ts";

/** What the page is told at its start. */
export interface About {
  readonly trainRun: string;
  readonly defaults: { readonly seed: number; readonly steps: number; readonly guidance: number };
}

/** Files of the page. */
const FILES: Readonly<Record<string, [file: string, type: string]>> = {
  "/": ["index.html", "text/html; charset=utf-8"],
  "/page.js": ["page.js", "text/javascript; charset=utf-8"],
  "/page.css": ["page.css", "text/css; charset=utf-8"],
};

/** Nothing from elsewhere, and no framing by another page. */
const HEADERS = {
  "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
};

/** Largest request: a mask of a large photograph. */
const MOST_BYTES = 64 * 2 ** 20;

/** An answer with a status of its own. */
class Refusal extends UserError {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

const json = (value: unknown, status = 200) =>
  new Response(JSON.stringify(value), { status, headers: { "content-type": "application/json" } });
const png = (image: Image | Mask) => new Response(toPng(image), { headers: { "content-type": "image/png" } });

/** A running server. */
export interface PageServer extends AsyncDisposable {
  /** `http://127.0.0.1:8000/`. */
  readonly url: string;
}

/**
 * Starts the server.
 * @param port 0 for any that is free
 * @throws UserError where the port is taken or may not be used
 */
export async function servePage(studio: Studio, about: About, port: number): Promise<PageServer> {
  const { state } = await Deno.permissions.query({ name: "net", host: "127.0.0.1" });
  if (state !== "granted") {
    throw new UserError(
      "this program was built without permission for the network, and a page needs 127.0.0.1",
      "build it with deno task compile --serve, or use deno task serve",
    );
  }
  const queue = new DrawingQueue((request, onStep) => studio.draw(request, onStep));
  const handler = async (request: Request) => {
    let response: Response;
    try {
      guard(request);
      response = await answer(request, new URL(request.url), studio, about, queue);
    } catch (error) {
      const lines = describeError(error).lines.map((line) => line.replace(/^error: | *hint: /g, ""));
      if (!(error instanceof UserError)) console.error(error);
      response = json(
        { error: lines.join("; ") },
        error instanceof Refusal ? error.status : error instanceof UserError ? 400 : 500,
      );
    }
    for (const [name, value] of Object.entries(HEADERS)) response.headers.set(name, value);
    return response;
  };
  let server: Deno.HttpServer<Deno.NetAddr>;
  try {
    server = Deno.serve({ hostname: "127.0.0.1", port, onListen() {} }, handler);
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) {
      throw new UserError(`port ${port} is taken`, "give another one with --port, or 0 for any that is free");
    }
    if (error instanceof Deno.errors.PermissionDenied) {
      throw new UserError(`port ${port} may not be used`, "give one above 1023 with --port");
    }
    throw error;
  }
  return {
    url: `http://127.0.0.1:${server.addr.port}/`,
    async [Symbol.asyncDispose]() {
      await queue.close();
      await server.shutdown();
    },
  };
}

/** Refuses what does not come from this server's own page, or is too large. */
function guard(request: Request): void {
  const { host } = new URL(request.url), name = host.replace(/:\d+$/, ""), origin = request.headers.get("origin");
  if (name !== "127.0.0.1" && name !== "localhost") throw new Refusal(403, "this page is for this machine only");
  if (origin !== null && origin !== `http://${host}`) throw new Refusal(403, "another page may not ask this program");
  if (Number(request.headers.get("content-length") ?? 0) > MOST_BYTES) throw new Refusal(413, "the mask is too large");
}

async function answer(
  request: Request,
  { pathname, searchParams }: URL,
  studio: Studio,
  about: About,
  queue: DrawingQueue,
): Promise<Response> {
  const { method } = request;
  if (method === "GET" && pathname in FILES) {
    const [file, type] = FILES[pathname];
    return new Response(await Deno.readFile(join(pageFolder(), file)), { headers: { "content-type": type } });
  }
  const word = (name: string) => searchParams.get(name) ?? "";
  if (method === "GET" && pathname === "/api/about") {
    return json({ ...about, parts: studio.parts(), masks: studio.run.masks !== undefined, out: studio.out });
  }
  if (method === "GET" && pathname === "/api/image") {
    return png(await studio.source(word("part"), whole(word("image"), "image")));
  }
  if (method === "GET" && pathname === "/api/mask") {
    const source = word("kind") as MaskSource;
    if (!MASK_SOURCES.includes(source)) {
      throw new UserError(`there are masks ${MASK_SOURCES.join(", ")}, not "${source}"`);
    }
    const [image, number] = ["image", "number"].map((name) => whole(word(name), name));
    return png(await studio.mask(source, word("part"), word("defect"), image, number));
  }
  if (method === "POST" && pathname === "/api/jobs") {
    const asked = await readRequest(request, studio);
    return json(told(queue.add(asked), queue), 202);
  }
  const [, id, rest] = /^\/api\/jobs\/(\d+)(?:\/(image|keep))?$/.exec(pathname) ?? [];
  if (id === undefined) throw new Refusal(404, `there is no ${pathname} here`);
  const drawing = queue.get(Number(id));
  if (!drawing) throw new Refusal(404, "this picture is no longer remembered; draw it again");
  if (!rest && method === "GET") return json(told(drawing, queue));
  if (!rest && method === "DELETE") {
    queue.stop(drawing);
    return json(told(drawing, queue));
  }
  if (!drawing.pair) throw new Refusal(409, "this picture is not drawn yet");
  if (rest === "image" && method === "GET") return png(drawing.pair.image);
  if (rest === "keep" && method === "POST") {
    if (drawing.kept) throw new Refusal(409, `this pair is kept already, as ${drawing.kept}`);
    drawing.kept = "…"; // no second one while this one is written
    try {
      const { image, mask } = await studio.keep(drawing.request, drawing.pair);
      drawing.kept = image;
      return json({ image, mask });
    } catch (error) {
      drawing.kept = undefined;
      throw error;
    }
  }
  throw new Refusal(405, `${method} is not possible here`);
}

/** A picture as the page is told of it. */
function told(drawing: Drawing, queue: DrawingQueue) {
  const { id, state, step, error, request: { steps }, pair, kept } = drawing;
  return { id, state, step, steps, ahead: queue.ahead(drawing), error, figures: pair?.figures, kept };
}

/** A whole number of a query. */
function whole(text: string, name: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new UserError(`${name} is a whole number from 0 on, not "${text}"`);
  return Number(text);
}

/** Reads and checks what shall be drawn. */
async function readRequest(request: Request, studio: Studio): Promise<DrawRequest> {
  let body: Record<string, unknown>;
  try {
    body = await request.json();
  } catch {
    throw new UserError("the request is not JSON");
  }
  if (typeof body !== "object" || body === null) throw new UserError("the request is not a JSON object");
  const text = (name: string) => {
    if (typeof body[name] !== "string") throw new UserError(`${name} is missing`);
    return body[name];
  };
  const number = (name: string, low: number, high: number, integer: boolean) => {
    const value = body[name];
    if (typeof value === "number" && value >= low && value <= high && (!integer || Number.isSafeInteger(value))) {
      return value;
    }
    throw new UserError(`${name} is ${integer ? "a whole number" : "a number"} from ${low} to ${high}`);
  };
  const part = text("part"), defect = text("defect"), image = number("image", 0, 1e9, true);
  studio.kind(part, defect);
  studio.sourcePath(part, image);
  const mask = await decodeMask(bytesOf(text("mask")), "the mask");
  if (!mask.data.includes(1)) throw new UserError("the mask is empty: paint where the defect shall be");
  return {
    ...{ part, defect, image, mask },
    seed: number("seed", 0, Number.MAX_SAFE_INTEGER, true),
    steps: number("steps", 1, studio.run.base.schedule.alphasCumprod.length, true),
    guidance: number("guidance", 0, 30, false),
  };
}

/** Bytes of base64. */
function bytesOf(text: string): Uint8Array {
  try {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  } catch {
    throw new UserError("the mask is no picture in base64");
  }
}
