/**
 * Errors that a person can act on: one line that says what is wrong, and a hint that says what to do about it.
 * Everything else that is thrown is a fault of the program and keeps its stack.
 */

/**
 * A mistake in what the user gave (a flag, a file, a machine without an adapter), told in one line.
 * @example
 * ```ts
 * import { UserError } from "./errors.ts";
 * const error = new UserError("crack/003.png: the mask is empty", "paint the defect white, or remove the pair");
 * if (error.hint === undefined || error.message.includes("\n")) throw new Error("not one line with a hint");
 * ```
 */
export class UserError extends Error {
  /** Tells it from faults of the program. */
  override readonly name: string = "UserError";
  /** What to do about it, when that is more than the message says. */
  readonly hint?: string;

  /**
   * An error of what was given, in one line, with a hint at what to do.
   * @param message what is wrong, one line, without a full stop; names in it that come from a damaged or hostile file
   * may hold anything, so control characters and line ends become �
   * @param hint what to do, one line
   */
  constructor(message: string, hint?: string, options?: ErrorOptions) {
    super(message.replace(/[\p{Cc}\u2028\u2029]/gu, "\ufffd"), options);
    this.hint = hint;
  }
}
