/**
 * ResNet-34 (He et al. 2016, torchvision's layout and names): tells which kind of defect an image shows. 21.3 million
 * parameters at base width 64.
 */

import type { Layers } from "./layers.ts";

/** Sizes of the classifier. */
export interface ClassifierConfig {
  readonly kind: "classifier";
  /** Channels of the first group: 64 in the paper; 8 or 16 train on a processor. */
  readonly baseWidth: number;
  /** Kinds of defect to tell apart. */
  readonly classes: number;
  /** `imagenet`: colours as torchvision's weights were trained on. Left out, as they are: the official code's way. */
  readonly normalization?: "imagenet";
}

/** Mean and standard deviation of ImageNet's colours, R, G and B in [0, 1] (torchvision). */
const IMAGENET = { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] } as const;

/** Basic blocks in each group of a ResNet-34. */
const BLOCKS = [3, 4, 6, 3] as const;

/** The images' side must be a multiple of this: five halvings. */
export const CLASSIFIER_MULTIPLE = 32;

/**
 * Scores of the classes; a softmax makes probabilities of them.
 * @param layers what builds the network
 * @param image [B, S, S, 3] in [0, 1], RGB; normalised here where the configuration asks for it
 * @returns logits [B, classes]
 */
export function resnet34<T>({ baseWidth, classes, normalization }: ClassifierConfig, layers: Layers<T>, image: T): T {
  const block = (name: string, x: T, width: number, stride: number) => {
    const conv = (part: string, input: T, step: number) =>
      layers.conv(`${name}.${part}`, input, width, { kernel: 3, stride: step, bias: false });
    const h = layers.norm(`${name}.bn1`, conv("conv1", x, stride), "relu");
    const end = layers.norm(`${name}.bn2`, conv("conv2", h, 1));
    if (stride === 1 && layers.channels(x) === width) return layers.relu(layers.add(end, x));
    const shortcut = layers.conv(`${name}.downsample.0`, x, width, { kernel: 1, stride, bias: false });
    return layers.relu(layers.add(end, layers.norm(`${name}.downsample.1`, shortcut)));
  };
  const { mean, deviation } = IMAGENET;
  const colours = normalization
    ? layers.perChannel(image, deviation.map((d) => 1 / d), mean.map((m, c) => -m / deviation[c]))
    : image;
  let h = layers.norm("bn1", layers.conv("conv1", colours, baseWidth, { kernel: 7, stride: 2, bias: false }), "relu");
  h = layers.maxPool(h, 3, 2, 1);
  BLOCKS.forEach((count, group) => {
    for (let i = 0; i < count; i++) {
      h = block(`layer${group + 1}.${i}`, h, baseWidth * 2 ** group, i === 0 && group > 0 ? 2 : 1);
    }
  });
  return layers.linear("fc", layers.average(h), classes);
}
