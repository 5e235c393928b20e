/**
 * Prompts in which learned vectors take the place of `*` (Gal et al. 2023, textual inversion). Short, so that a dozen
 * vectors fit into a small model's 24 positions, and of words that its vocabulary holds.
 */

/** What learned vectors replace. */
export const placeholder = "*";

/** The prompt where only one is wanted: the same in every run and every picture. */
export const plainPrompt = "a photo of a *";

/** Prompts to choose from at random, in training and in generation. */
export const promptTemplates: readonly string[] = [
  plainPrompt,
  "the photo of a *",
  "a photo of the *",
  "a good photo of a *",
  "a good photo of the *",
  "a cropped photo of a *",
  "a cropped photo of the *",
  "a close-up photo of a *",
  "a close-up photo of the *",
  "a bright photo of the *",
  "a dark photo of the *",
  "a depiction of a *",
  "a rendering of a *",
  "an illustration of a *",
];
