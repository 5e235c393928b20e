/** The `serve` command: what the page asks for, over HTTP on a free port; the queue; pairs that are kept; who is refused. */
import assert from "node:assert/strict";
import { decodeImage, decodeMask, loadImage, loadMask, type Mask, toPng } from "../../src/data/image.ts";
import { scanGenerated } from "../../src/inspection/training/generated.ts";
import type { Context } from "../../tasks/command.ts";
import serve from "../../tasks/commands/serve.ts";
import { complete } from "../../tasks/flags.ts";
import { DrawingQueue } from "../../tasks/jobs/drawing_queue.ts";
import type { ManifestRecord } from "../../tasks/jobs/pairs.ts";
import type { DrawRequest } from "../../tasks/jobs/studio.ts";
import { Progress } from "../../tasks/progress.ts";
import { RunFolder } from "../../tasks/run_folder.ts";
import { exists, Workshop } from "../end_to_end/program.ts";
import { TINY_PARTS, tinyMask } from "../support/tiny_data.ts";

const shop = new Workshop();
await shop.good(
  "train --data @data --model @model --max-train-steps 2 --train-batch-size 1 --augmented-copies 1 --validation-steps 0 " +
    "--part plate --out @run",
);
await shop.good("generate-masks --data @data --model @model --source real --count 2 --out @masks");

const test = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name, fn, sanitizeResources: false, sanitizeOps: false });

/** Runs the command until `use` is through with its page. */
async function served(flags: Record<string, unknown>, use: (url: string) => Promise<void>): Promise<void> {
  const abort = new AbortController(), address = Promise.withResolvers<string>();
  await using runFolder = await RunFolder.open(shop.file("painted"));
  const context: Context = {
    signal: abort.signal,
    runFolder,
    checkpoint: undefined,
    progress: (options) => new Progress(options),
    log: () => {},
    print: address.resolve,
  };
  const given = { trainRun: shop.file("run"), model: shop.file("model"), port: 0, ...flags };
  const running = serve.run(complete(serve.flags, given), context);
  try {
    await use(await Promise.race([address.promise, running.then(() => Promise.reject(new Error("it ended")))]));
  } finally {
    abort.abort();
    await running;
  }
}

const base64 = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes));
const MASK: Mask = tinyMask("plate", "dent", 9);
const ASKED = { part: "plate", defect: "dent", image: 1, mask: base64(toPng(MASK)), seed: 4, steps: 3, guidance: 2 };

const post = (url: string, body: unknown) => fetch(`${url}api/jobs`, { method: "POST", body: JSON.stringify(body) });

/** Draws and waits for the end. */
async function drawn(url: string, body: unknown = ASKED) {
  const { id, steps } = await (await post(url, body)).json();
  for (let last = 0;;) {
    const job = await (await fetch(`${url}api/jobs/${id}`)).json();
    assert.ok(job.step >= last && job.step <= steps, `${job.step} after ${last}`);
    last = job.step;
    if (job.state !== "waiting" && job.state !== "drawing") return job;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Fails unless an answer is a refusal in one line. */
async function refused(answer: Promise<Response> | Response, status: number, line: RegExp): Promise<void> {
  const response = await answer, text = await response.text();
  assert.equal(response.status, status, text);
  const { error } = JSON.parse(text);
  assert.match(error, line);
  assert.ok(!error.includes("\n") && !/fault of the program/.test(error), error);
}

test("the page: its files come from here and allow nothing from elsewhere; images and masks to begin with", async () => {
  await served({ masks: shop.file("masks") }, async (url) => {
    assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/$/);
    for (
      const [path, type, words] of [["", "text/html", "<canvas"], ["page.js", "text/javascript", "api/jobs"], [
        ...["page.css", "text/css", "touch-action"],
      ]]
    ) {
      const response = await fetch(url + path), text = await response.text();
      assert.ok(response.headers.get("content-type")!.startsWith(type) && text.includes(words), path);
      assert.match(response.headers.get("content-security-policy")!, /^default-src 'none'/);
      assert.doesNotMatch(text, /https?:\/\/|url\(|@import/);
      assert.doesNotMatch(text, /\son\w+=|\sstyle=/); // the policy would forbid them
    }
    const about = await (await fetch(`${url}api/about`)).json();
    assert.deepEqual(about.parts, [{ name: "plate", good: 4, defects: ["dent", "scratch"] }]);
    assert.deepEqual([about.masks, about.out], [true, shop.file("painted")]);
    const bytes = async (path: string) => new Uint8Array(await (await fetch(url + path)).arrayBuffer());
    const image = await decodeImage(await bytes("api/image?part=plate&image=2"), "image");
    assert.deepEqual(image, await loadImage(shop.file("data/plate/train/good/002.png")));
    const words = "part=plate&defect=dent&image=0";
    const training = await decodeMask(await bytes(`api/mask?kind=training&number=3&${words}`), "mask");
    assert.deepEqual(training, await loadMask(shop.file("data/plate/ground_truth/dent/001_mask.png"))); // of two, again
    for (const kind of ["placed", "made"]) {
      const first = await decodeMask(await bytes(`api/mask?kind=${kind}&number=0&${words}`), "mask");
      const second = await decodeMask(await bytes(`api/mask?kind=${kind}&number=1&${words}`), "mask");
      assert.deepEqual([first.width, first.height], [TINY_PARTS.plate.width, TINY_PARTS.plate.height]);
      assert.ok(first.data.includes(1) && second.data.includes(1));
      assert.notDeepEqual(first.data, second.data);
    }
  });
});

test("a defect is drawn into the mask, the same for the same seed; a kept pair is one of generate's", async () => {
  await served({}, async (url) => {
    const first = await drawn(url), again = await drawn(url), other = await drawn(url, { ...ASKED, seed: 5 });
    for (const job of [first, again, other]) assert.equal(job.state, "done", job.error);
    assert.ok(first.figures.changeInside > 0 && first.figures.changeOutside === 0);
    const image = async ({ id }: { id: number }) =>
      new Uint8Array(await (await fetch(`${url}api/jobs/${id}/image`)).arrayBuffer());
    const [a, b, c] = [await image(first), await image(again), await image(other)];
    assert.deepEqual(a, b);
    assert.notDeepEqual(a, c);
    for (const { id } of [first, other]) {
      assert.equal((await fetch(`${url}api/jobs/${id}/keep`, { method: "POST" })).status, 200);
    }
    await refused(fetch(`${url}api/jobs/${first.id}/keep`, { method: "POST" }), 409, /kept already, as plate\/test/);
    assert.deepEqual(Deno.readFileSync(shop.file("painted/plate/test/dent/0000.png")), a);
    assert.deepEqual(Deno.readFileSync(shop.file("painted/plate/test/dent/0001.png")), c);
    assert.deepEqual(await loadMask(shop.file("painted/plate/ground_truth/dent/0000_mask.png")), MASK);
  });
  const [record, ...more]: ManifestRecord[] = Deno.readTextFileSync(shop.file("painted/manifest.jsonl")).trimEnd()
    .split("\n").map((line) => JSON.parse(line));
  assert.equal(more.length, 1);
  assert.deepEqual([record.source, record.seed, record.settings.steps, record.settings.guidance], [
    ...["plate/train/good/001.png", 4, 3, 2],
  ]);
  assert.equal(scanGenerated(shop.file("painted")).length, 2);
  const { out } = await shop.good(
    "regenerate --pairs @painted --data @data --model @model --train-run @run --masks @painted --out @painted-again",
  );
  assert.match(out, /2 of 2 images are the same bytes/);
  await shop.good("export --pairs @painted --data @data --format yolo-seg --out @painted-yolo");
});

test("what cannot be drawn is one line, and so is whoever asks from elsewhere", async () => {
  await served({}, async (url) => {
    const empty = base64(toPng({ ...MASK, data: new Uint8Array(MASK.data.length) }));
    const wide = base64(toPng(tinyMask("weave", "hole", 0)));
    const bodies: [Record<string, unknown>, RegExp][] = [
      [{ part: "weave" }, /nothing was learned for weave\+dent/],
      [{ defect: "rust" }, /nothing was learned for plate\+rust/],
      [{ image: 4 }, /plate has normal images 0 to 3, not 4/],
      [{ mask: empty }, /the mask is empty/],
      [{ mask: "????" }, /no picture in base64/],
      [{ mask: btoa("no picture") }, /the mask: not a PNG, JPEG or BMP image/],
      [{ mask: undefined }, /mask is missing/],
      [{ steps: 0 }, /steps is a whole number from 1 to/],
      [{ seed: 0.5 }, /seed is a whole number/],
      [{ guidance: "3" }, /guidance is a number from 0 to 30/],
    ];
    for (const [change, line] of bodies) await refused(post(url, { ...ASKED, ...change }), 400, line);
    await refused(fetch(`${url}api/jobs`, { method: "POST", body: "{" }), 400, /not JSON/);
    assert.match((await drawn(url, { ...ASKED, mask: wide })).error, /the mask has 50×44 pixels, the image 40×36/);
    await refused(fetch(`${url}api/jobs/999`), 404, /no longer remembered/);
    await refused(fetch(`${url}api/secret`), 404, /there is no \/api\/secret/);
    await refused(fetch(`${url}../../etc/passwd`), 404, /there is no/);
    await refused(fetch(`${url}api/mask?kind=made&part=plate&defect=dent&image=0&number=0`), 400, /--masks/);
    await refused(fetch(`${url}api/image?part=plate&image=-1`), 400, /image is a whole number/);
    await refused(fetch(`${url}api/about`, { headers: { origin: "http://elsewhere.example" } }), 403, /another page/);
    // By another name for this address, as a page elsewhere could have it.
    const { hostname, port } = new URL(url), connection = await Deno.connect({ hostname, port: Number(port) });
    await connection.write(
      new TextEncoder().encode(`GET /api/about HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n`),
    );
    assert.match(await new Response(connection.readable).text(), /^HTTP\/1\.1 403 [^]*for this machine only/);
  });
});

Deno.test("the queue: one at a time, a few wait, one that waits or is drawn can be stopped", async () => {
  const request = { steps: 3 } as DrawRequest, gates: PromiseWithResolvers<void>[] = [];
  let active = 0;
  const queue = new DrawingQueue(async (_, onStep) => {
    assert.equal(++active, 1);
    const gate = Promise.withResolvers<void>();
    gates.push(gate);
    try {
      await gate.promise;
      onStep();
      return {} as never;
    } finally {
      active--;
    }
  });
  const turn = () => new Promise((resolve) => setTimeout(resolve, 0));
  const first = queue.add(request);
  await turn();
  const rest = [1, 2, 3, 4].map(() => queue.add(request));
  assert.deepEqual([first.state, queue.ahead(rest[3])], ["drawing", 4]);
  assert.throws(() => queue.add(request), /4 pictures are waiting already/);
  queue.stop(rest[0]);
  queue.stop(first);
  gates[0].resolve();
  await turn();
  assert.deepEqual([first.state, rest[0].state, rest[1].state], ["stopped", "stopped", "drawing"]);
  gates[1].reject(new Error("torn"));
  await turn();
  assert.deepEqual([rest[1].state, rest[1].error, rest[2].state], ["failed", "torn", "drawing"]);
  gates[2].resolve();
  await turn();
  assert.equal(rest[2].state, "done");
  gates[3].resolve();
  await queue.close();
  assert.equal(rest[3].state, "stopped");
});

test("mistakes at the start: one line each, and nothing is left", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 }), taken = (listener.addr as Deno.NetAddr).port;
  Deno.mkdirSync(shop.file("moved"));
  Deno.writeTextFileSync(shop.file("moved/embeddings.safetensors"), "");
  const cases: [line: string, message: RegExp][] = [
    ["", /missing --train-run <folder>/],
    ["--train-run @nowhere --data @data", /embeddings\.safetensors is missing/],
    ["--train-run @nowhere", /embeddings\.safetensors is missing/],
    ["--train-run @moved", /the training's data set is not where it was/],
    ["--train-run @run --part weave", /nothing was learned for weave/],
    ["--train-run @run --port 99999", /--port is 0 to 65535/],
    [`--train-run @run --port ${taken}`, /port \d+ is taken/],
  ];
  for (const [line, message] of cases) {
    const { code, err } = await shop.run(`serve --model @model ${line} --out @wrong`);
    assert.ok(code === 1 || code === 2, `${line}: ${code}\n${err}`);
    assert.match(err, message);
    assert.ok(!exists(shop.file("wrong")), `${line} left a folder`);
  }
  listener.close();
});
