/** The page of `serve`: choose, paint, draw, keep. Talks to the server that it came from and to nobody else. */
const element = (id) => document.getElementById(id);
const picture = element("picture"), mask = element("mask"), pen = mask.getContext("2d", { willReadFrequently: true });
const state = { parts: [], image: 0, erasing: false, job: undefined, source: "", counts: {} };

/** Shows a line; an error in red. */
function say(text, error = false) {
  element("line").textContent = text;
  element("line").classList.toggle("error", error);
}

/** Asks the server; what it refuses is thrown with its line. */
async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the program does not answer; is it still running?");
  }
  if (answer.ok) return answer;
  let line = `the program answered ${answer.status}`;
  try {
    line = (await answer.json()).error;
  } catch { /* no line of its own */ }
  throw new Error(line);
}

/** Runs what a button does; an error becomes a line. */
const guarded = (action) => async (...words) => {
  try {
    await action(...words);
  } catch (error) {
    say(error.message, true);
  }
};
const on = (id, event, action) => element(id).addEventListener(event, guarded(action));

const part = () => state.parts.find(({ name }) => name === element("part").value);
const query = (words) => new URLSearchParams(words).toString();

function options(select, names) {
  select.replaceChildren(...names.map((name) => new Option(name, name)));
}

async function start() {
  const about = await (await ask("api/about")).json();
  state.parts = about.parts;
  for (const name of ["seed", "guidance", "steps"]) element(name).value = about.defaults[name];
  element("made").hidden = !about.masks;
  element("about").textContent = `${about.trainRun} · pairs are kept in ${about.out}`;
  options(element("part"), about.parts.map(({ name }) => name));
  await choosePart();
}

async function choosePart() {
  options(element("defect"), part().defects);
  state.image = 0;
  await showImage();
}

/** Shows the chosen normal image; a mask stays where the size stays. */
async function showImage() {
  const { name, good } = part();
  element("which").textContent = `${state.image + 1} of ${good}`;
  const image = new Image();
  image.src = state.source = `api/image?${query({ part: name, image: state.image })}`;
  await image.decode().catch(async () => {
    await ask(image.src); // for the program's line
    throw new Error("the image cannot be shown");
  });
  const { naturalWidth: width, naturalHeight: height } = image;
  Object.assign(picture, { width, height });
  if (mask.width !== width || mask.height !== height) Object.assign(mask, { width, height });
  picture.getContext("2d").drawImage(image, 0, 0);
  finished(undefined);
}

function step(by) {
  const { good } = part();
  state.image = (state.image + by + good) % good;
  return showImage();
}

// Painting: a finger, a pen or a mouse; strokes in pixels of the image.
let last;
function at({ clientX, clientY }) {
  const { left, top, width, height } = mask.getBoundingClientRect();
  return [(clientX - left) * mask.width / width, (clientY - top) * mask.height / height];
}
function stroke(event) {
  const [x, y] = at(event);
  pen.globalCompositeOperation = state.erasing ? "destination-out" : "source-over";
  pen.strokeStyle = "#f21";
  pen.lineWidth = Math.max(1, element("size").value / 100 * Math.max(mask.width, mask.height));
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...last);
  pen.lineTo(x + 0.01, y);
  pen.stroke();
  last = [x, y];
}
mask.addEventListener("pointerdown", (event) => {
  if (event.button > 0) return;
  mask.setPointerCapture(event.pointerId);
  last = at(event);
  stroke(event);
});
mask.addEventListener("pointermove", (event) => {
  if (!last || !mask.hasPointerCapture(event.pointerId)) return;
  for (const one of event.getCoalescedEvents?.() ?? [event]) stroke(one);
});
for (const name of ["pointerup", "pointercancel"]) mask.addEventListener(name, () => last = undefined);

function erasing(value) {
  state.erasing = value;
  element("erase").setAttribute("aria-pressed", String(value));
  element("brush").setAttribute("aria-pressed", String(!value));
}

const clear = () => pen.clearRect(0, 0, mask.width, mask.height);

/** Takes the white of a picture as the mask. */
async function takeMask(url) {
  const image = new Image();
  image.src = url;
  await image.decode().catch(async () => {
    if (!url.startsWith("blob:")) await ask(url);
    throw new Error("this file is no picture that can be read");
  });
  clear();
  pen.globalCompositeOperation = "source-over";
  pen.imageSmoothingEnabled = false;
  pen.drawImage(image, 0, 0, mask.width, mask.height);
  const pixels = pen.getImageData(0, 0, mask.width, mask.height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const white = pixels.data[i] >= 128 && pixels.data[i + 3] >= 128;
    pixels.data.set(white ? [255, 34, 17, 255] : [0, 0, 0, 0], i);
  }
  pen.putImageData(pixels, 0, 0);
  say("");
}

/** The next mask of a kind from the program. */
const next = (kind) => async () => {
  const number = state.counts[kind] = (state.counts[kind] ?? -1) + 1;
  const words = { kind, number, part: part().name, defect: element("defect").value, image: state.image };
  await takeMask(`api/mask?${query(words)}`);
};

/** The mask as a PNG, white on black, in base64. */
function maskPng() {
  const pixels = pen.getImageData(0, 0, mask.width, mask.height);
  let count = 0;
  for (let i = 0; i < pixels.data.length; i += 4) {
    const value = pixels.data[i + 3] >= 128 ? 255 : 0;
    if (value) count++;
    pixels.data.set([value, value, value, 255], i);
  }
  if (!count) throw new Error("the mask is empty: paint where the defect shall be");
  const copy = document.createElement("canvas");
  Object.assign(copy, { width: mask.width, height: mask.height });
  copy.getContext("2d").putImageData(pixels, 0, 0);
  return copy.toDataURL("image/png").split(",")[1];
}

/** Sets the buttons for a job that is at work, done, or not there. */
function finished(job, working = false) {
  state.job = job;
  element("draw").disabled = working;
  element("stop").disabled = !working;
  element("keep").disabled = element("compare").disabled = !job || working;
  element("progress").value = working ? 0 : job ? 1 : 0;
  if (!job) {
    element("image").hidden = true;
    element("empty").hidden = false;
    say("");
  }
}

async function draw() {
  const body = JSON.stringify({
    part: part().name,
    defect: element("defect").value,
    image: state.image,
    mask: maskPng(),
    seed: Number(element("seed").value),
    guidance: Number(element("guidance").value),
    steps: Number(element("steps").value),
  });
  const { source } = state, headers = { "content-type": "application/json" };
  element("draw").disabled = true;
  say("preparing");
  try {
    const { id } = await (await ask("api/jobs", { method: "POST", body, headers })).json();
    finished(id, true);
    await follow(id, source);
  } catch (error) {
    finished(undefined);
    throw error;
  }
}

/** Follows a job to its end. */
async function follow(id, source) {
  while (state.job === id) {
    const job = await (await ask(`api/jobs/${id}`)).json();
    if (state.job !== id) return;
    if (job.state === "failed") throw new Error(job.error);
    if (job.state === "stopped") {
      finished(undefined);
      return say("stopped");
    }
    if (job.state === "done") {
      Object.assign(element("image"), { src: `api/jobs/${id}/image`, hidden: false, alt: "The image with its defect" });
      element("empty").hidden = true;
      element("compare").dataset.source = source;
      finished(id);
      return say(
        `changed by ${(100 * job.figures.changeInside).toFixed(1)} % inside the mask, ${
          (100 * job.figures.changedShare).toFixed(0)
        } % of the mask visibly`,
      );
    }
    element("progress").value = job.steps ? job.step / job.steps : 0;
    const at = job.step ? `drawing: step ${job.step} of ${job.steps}` : "preparing";
    say(job.state === "waiting" ? `waiting: ${job.ahead} before this one` : at);
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

on("part", "change", choosePart);
on("defect", "change", () => finished(undefined));
on("previous", "click", () => step(-1));
on("next", "click", () => step(1));
on("brush", "click", () => erasing(false));
on("erase", "click", () => erasing(true));
on("clear", "click", clear);
on("training", "click", next("training"));
on("placed", "click", next("placed"));
on("made", "click", next("made"));
on("load", "change", async () => {
  const [file] = element("load").files;
  if (!file) return;
  const url = URL.createObjectURL(file);
  try {
    await takeMask(url);
  } finally {
    URL.revokeObjectURL(url);
    element("load").value = "";
  }
});
on("draw", "click", draw);
on("stop", "click", () => ask(`api/jobs/${state.job}`, { method: "DELETE" }));
on("keep", "click", async () => {
  const { image } = await (await ask(`api/jobs/${state.job}/keep`, { method: "POST" })).json();
  element("keep").disabled = true;
  say(`kept as ${image}`);
});
const before = (show) => () => {
  const { dataset } = element("compare");
  if (state.job && dataset.source) element("image").src = show ? dataset.source : `api/jobs/${state.job}/image`;
};
on("compare", "pointerdown", before(true));
for (const event of ["pointerup", "pointerleave", "pointercancel"]) on("compare", event, before(false));
guarded(start)();
