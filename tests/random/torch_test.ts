import assert from "node:assert/strict";
import { TorchRandom } from "../../src/random/torch.ts";

/** Float32 values as PyTorch 2.15 prints them; the block path may differ in the last bits of its vectorised functions. */
function near(actual: Float32Array, expected: number[], tolerance = 2e-6): void {
  assert.equal(actual.length, expected.length);
  expected.forEach((value, i) =>
    assert.ok(Math.abs(actual[i] - value) <= tolerance, `${i}: ${actual[i]}, expected ${value}`)
  );
}

Deno.test("torch.randn: fewer than 16 values come in float64 pairs, the odd one is kept", () => {
  const random = new TorchRandom(0);
  near(random.randn(5), [
    1.5409960746765137,
    -0.293428897857666,
    -2.1787893772125244,
    0.5684312582015991,
    -1.0845223665237427,
  ], 0);
  near(random.randn(3), [-1.3985954523086548, 0.40334683656692505, 0.8380263447761536], 0);
});

Deno.test("torch.randn: blocks of 16, the last one drawn anew", () => {
  near(new TorchRandom(23).randn(20), [
    -0.9012058973312378,
    0.5655948519706726,
    -0.48822638392448425,
    0.7506957650184631,
    1.2886382341384888,
    -0.170796737074852,
    -0.8564369082450867,
    -0.657582700252533,
    -0.7005066871643066,
    -0.09624963253736496,
    -1.170185923576355,
    0.7337644696235657,
    -0.5773875713348389,
    0.58741694688797,
    0.12303666770458221,
    0.08852565288543701,
    1.044567584991455,
    -0.1836818903684616,
    -1.8264415264129639,
    1.784103512763977,
  ]);
  const random = new TorchRandom(7);
  near(random.randn(37).subarray(31), [
    0.2600362002849579,
    -1.6370213031768799,
    0.1577119082212448,
    0.39574092626571655,
    -1.3677396774291992,
    -0.10073431581258774,
  ]);
  near(random.randn(2), [0.03714681789278984, -0.47968658804893494], 0);
});

Deno.test("torch.rand: 24-bit uniform numbers, also after normal ones", () => {
  const random = new TorchRandom(23);
  random.randn(16);
  near(random.rand(3), [0.22140008211135864, 0.3348090648651123, 0.454104483127594], 0);
});

Deno.test("torch.randn: a latent of 4×32×32 with the largest seed, past several refills of the state", () => {
  const latent = new TorchRandom(4294967295).randn(4096);
  near(latent.subarray(0, 4), [-2.664297580718994, -1.0910485982894897, 0.45144742727279663, 0.22836069762706757]);
  near(latent.subarray(4095), [-0.7809266448020935]);
  const sum = latent.reduce((total, value, i) => total + value * Math.cos(i), 0);
  const squares = latent.reduce((total, value) => total + value * value, 0);
  assert.ok(
    Math.abs(sum + 63.97231838193788) < 1e-4 && Math.abs(squares - 3909.489490585702) < 1e-4,
    `${sum} ${squares}`,
  );
});
