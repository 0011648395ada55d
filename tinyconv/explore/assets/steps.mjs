// The steps of one pass, forward and back, in the order in which the page shows them.
//
// `arrays` appear at the step; `sweep` is the one that Play fills cell by cell; `cell` is explained
// until another one is chosen.

export const STEPS = [
  { name: "Image and parameters", arrays: ["x", "w", "b", "W", "B"], cell: "",
    words: "An image, kernels, weights and a label. Click a pixel or a weight to change it." },
  { name: "Convolution", arrays: ["z"], sweep: "z", cell: "z.0.0.3",
    words: "Each kernel slides over the image. Every output is the sum of the products in its window, plus the bias." },
  { name: "Pooling", arrays: ["p"], sweep: "p", cell: "p.0.0.1",
    words: "Each window of a map becomes one number." },
  { name: "Activation", arrays: ["a"], sweep: "a", cell: "a.0.0.1",
    words: "Every number passes through the same function." },
  { name: "Scores", arrays: ["u"], cell: "u.0",
    words: "The fully connected layer weighs all activations, once for each class." },
  { name: "Softmax and cost", arrays: ["y", "C"], cell: "y.0",
    words: "Scores become probabilities; the cost is small where the label's is near 1." },
  { name: "BP1: error of the scores", arrays: ["du"], cell: "du.0", back: true,
    words: "The way back begins: how does the cost change with each score?" },
  { name: "BP3, BP4: last layer", arrays: ["dB", "dW"], sweep: "dW", cell: "dW.0.1", back: true,
    words: "What the last layer's biases and weights should have been." },
  { name: "BP2: through the weights", arrays: ["da"], sweep: "da", cell: "da.0.0.1", back: true,
    words: "Each activation collects from every class that it feeds." },
  { name: "BP2: through the activation", arrays: ["dp"], sweep: "dp", cell: "dp.0.0.1", back: true,
    words: "The slope of the activation lets the gradient through, weakens it, or stops it." },
  { name: "BP2: through the pooling", arrays: ["dz"], sweep: "dz", cell: "dz.0.0.3", back: true,
    words: "The gradient goes back to where the pooled number came from." },
  { name: "BP3, BP4: the kernels", arrays: ["db", "dw"], sweep: "dw", cell: "dw.0.0.1.1", back: true,
    words: "All places share the kernel, so each weight adds up what all of them say." },
  { name: "BP2: the image", arrays: ["dx"], sweep: "dx", cell: "dx.0.2.3", back: true,
    words: "Each pixel collects from every output that it took part in, through the flipped kernel. A layer below would go on from here." },
  { name: "Update", arrays: [], cell: "", back: true,
    words: "Every parameter moves a little against its gradient." },
];

export const LAST_FORWARD = 5;

// The arrays that are known after a step.
export function known(step) {
  return new Set(STEPS.slice(0, step + 1).flatMap(({ arrays }) => arrays));
}
