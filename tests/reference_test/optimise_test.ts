/** Adam and AdamW against three steps of PyTorch (torch.optim, float64) and against what their first step must be. */
import { assertClose, ndarray } from "../support/arrays.ts";
import { adamInit, adamStep, adamWStep } from "../reference/optimise.ts";

const start = ndarray([3], [1, -2, 0.5]);
const gradients = [[0.3, -0.1, 2], [-0.2, 0.4, 1], [0.1, 0, -3]].map((g) => ndarray([3], g));

Deno.test("adam: the first step moves every element by lr against its gradient's sign", () => {
  const { parameter } = adamStep(adamInit(start), gradients[0], { lr: 0.1, eps: 0 });
  assertClose(parameter, ndarray([3], [0.9, -1.9, 0.4]), 1e-15);
});

const known = {
  adam: [0.8576970608345973, -1.9992001379189053, 0.31497971695564936],
  adamDecay: [0.7463473455824978, -1.7302417617140788, 0.31912261828689215],
  adamW: [0.8549144118803387, -1.9933500855514301, 0.31377433441794134],
};

Deno.test("adam: three steps equal torch.optim.Adam, without and with weight decay", () => {
  let plain = adamInit(start), decayed = adamInit(start);
  for (const gradient of gradients) {
    plain = adamStep(plain, gradient, { lr: 0.1 });
    decayed = adamStep(decayed, gradient, { lr: 0.1, betas: [0.8, 0.95], eps: 1e-4, weightDecay: 0.3 });
  }
  assertClose(plain.parameter, ndarray([3], known.adam), 1e-13);
  assertClose(decayed.parameter, ndarray([3], known.adamDecay), 1e-13);
});

Deno.test("adamW: three steps equal torch.optim.AdamW with its default weight decay", () => {
  let state = adamInit(start);
  for (const gradient of gradients) state = adamWStep(state, gradient, { lr: 0.1 });
  assertClose(state.parameter, ndarray([3], known.adamW), 1e-13);
});
