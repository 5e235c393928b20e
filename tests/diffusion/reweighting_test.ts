import assert from "node:assert/strict";
import { dilationRadius } from "../../src/diffusion/reweighting.ts";
import { dilationHalfWidth } from "../reference/reweighting.ts";

Deno.test("re-weighting: the reference's dilation at each timestep", () => {
  const known: [number, number][] = [
    [996, 8],
    [901, 8],
    [896, 7],
    [776, 7],
    [771, 6],
    [526, 5],
    [401, 4],
    [276, 3],
    [151, 2],
    [26, 1],
    [21, 0],
    [1, 0],
  ];
  for (const [t, radius] of known) assert.equal(dilationRadius(t, 200), radius, `t = ${t}`);
  for (let t = 0; t < 1000; t++) {
    for (const steps of [50, 200]) assert.equal(dilationRadius(t, steps), dilationHalfWidth(t, steps), `t = ${t}`);
  }
  assert.equal(dilationRadius(901, 50, 4), 4);
});
