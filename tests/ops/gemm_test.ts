/** linear, matmul and conv2d on the GPU against their float64 references, on ordinary and awkward shapes. */
import { gemmCases } from "../support/gemm_cases.ts";
import { testOps } from "../support/ops.ts";

testOps(gemmCases);
