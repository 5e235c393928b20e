/** Where a network's parameters come from: a model folder, a checkpoint, or a formula. */

/** Named parameters in PyTorch's names and layouts. */
export interface WeightSource {
  /**
   * The values of a tensor, row-major in PyTorch's axis order.
   * @param shape the shape that the network expects
   * @throws {UserError} if the tensor is missing or has another shape
   */
  get(name: string, shape: readonly number[]): Float32Array;
  /** Whether the source holds a tensor of that name. */
  has(name: string): boolean;
}
