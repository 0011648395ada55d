// The state of the page: what it is, what of it stands in the address, and how sizes are changed.

import { fault, sizes } from "./chain.mjs";

export const ARRAYS = ["x", "w", "b", "W", "B"];
export const EDITABLE = new Set(ARRAYS);

// What the settings may be. The first column of the page's form is made from it.
export const SETTINGS = [
  { key: "size", words: "Image", options: [4, 5, 6, 7, 8], shown: (n) => `${n} × ${n}` },
  { key: "kernel", words: "Kernel", options: [1, 2, 3], shown: (n) => `${n} × ${n}` },
  { key: "maps", words: "Maps", options: [1, 2, 3] },
  { key: "stride", words: "Stride", options: [1, 2, 3] },
  { key: "padding", words: "Padding", options: [0, 1, 2] },
  { key: "dilation", words: "Dilation", options: [1, 2] },
  { key: "pool", words: "Pooling", options: ["max", "average", "l2"],
    shown: (kind) => (kind === "l2" ? "L2" : kind) },
  { key: "window", words: "Window", options: [1, 2, 3], shown: (n) => `${n} × ${n}` },
  { key: "poolStride", words: "its stride", options: [1, 2, 3] },
  { key: "activation", words: "Activation", options: ["relu", "sigmoid", "tanh"],
    shown: (kind) => (kind === "relu" ? "ReLU" : kind) },
  { key: "label", words: "Label", options: [0, 1, 2], shown: (k) => `class ${k}` },
  { key: "rate", words: "Rate η", options: [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1] },
];

export const PRESETS = {
  "The first example": {},
  "Overlapping maxima": { window: 3, poolStride: 1 },
  "L2 pooling": { pool: "l2" },
  "Overlapping means": { pool: "average", window: 3, poolStride: 1 },
  "Stride 2, padding 1": { stride: 2, padding: 1 },
  "Dilated kernel": { size: 8, dilation: 2 },
  "Sigmoid, which saturates": { activation: "sigmoid" },
  "One small kernel": { size: 4, kernel: 2, maps: 1 },
};

// The numbers that a new cell gets: small, without symmetry, the same every time.
const PATTERN = {
  x: (n) => [0, 0.5, 1, 0, 0, 1, 0.5][(3 * n + 1) % 7],
  w: (n) => [1, -1, 0, 2, -2, 1, 0][(n * 5 + (n >> 2)) % 7],
  b: (n) => [-0.5, 0.5, 0][n % 3],
  W: (n) => [0.25, -0.25, 0.5, 0, -0.5, 0.25, 0][(n * 3 + (n >> 3)) % 7],
  B: (n) => [0.25, 0, -0.25][n % 3],
};

// Keeps of an array what has a place in the new shape too; the rest comes from the pattern.
function fitted(key, data, before, after) {
  const count = after.reduce((product, size) => product * size, 1);
  const kept = Array.from({ length: count }, (_, n) => PATTERN[key](n));
  data.forEach((value, n) => {
    let rest = n;
    const place = before.map(() => 0);
    for (let axis = before.length - 1; axis >= 0; axis--) {
      place[axis] = rest % before[axis];
      rest = Math.floor(rest / before[axis]);
    }
    if (place.some((index, axis) => index >= after[axis])) return;
    kept[place.reduce((sum, index, axis) => sum * after[axis] + index, 0)] = value;
  });
  return kept;
}

// Returns the state with other settings, its arrays fitted to them; throws what does not fit.
export function changed(state, settings) {
  const next = { ...state, ...settings };
  const problem = fault(next);
  if (problem) throw new RangeError(problem);
  const [before, after] = [sizes(state), sizes(next)];
  for (const key of ARRAYS) {
    const isSame = before[key].join() === after[key].join();
    if (!isSame) next[key] = fitted(key, state[key], before[key], after[key]);
  }
  return next;
}

// The address holds what differs from the first example, so that a link shows the same.
export function toAddress(state, example) {
  const parts = [];
  for (const { key } of SETTINGS) {
    if (state[key] !== example[key]) parts.push(`${key}=${state[key]}`);
  }
  const plain = changed(example, pick(state));
  for (const key of ARRAYS) {
    if (state[key].join() !== plain[key].join()) {
      parts.push(`${key}=${state[key].map((v) => String(Number(v.toFixed(6)))).join("_")}`);
    }
  }
  for (const key of Object.keys(START)) {
    if (state[key] !== START[key]) parts.push(`${key}=${state[key]}`);
  }
  return parts.length ? `#${parts.join("&")}` : "#";
}

// Besides the example: which view, step and cell; and of a trained net the image (a sample, or the
// pixels of a drawing in sixteenths), the filters that are off, the chosen unit and the class.
export const START = { mode: "hand", step: 0, cell: "", sample: "0", image: "", off: "", unit: "", target: "" };

const NET = { sample: /^\d+$/, image: /^[0-9a-f]+$/, off: /^[\d._]+$/, unit: /^-?[\d.]+$/, target: /^\d+$/ };

const pick = (state) => Object.fromEntries(SETTINGS.map(({ key }) => [key, state[key]]));

// What an address says wrongly is left out: a page that opens is better than none.
export function fromAddress(hash, example) {
  const said = Object.fromEntries(new URLSearchParams(hash.replace(/^#/, "")));
  const settings = {};
  for (const { key, options } of SETTINGS) {
    const found = options.find((option) => String(option) === said[key]);
    if (found !== undefined) settings[key] = found;
  }
  let state = { ...example, ...START };
  try {
    state = changed(state, settings);
  } catch {
    return state;
  }
  for (const key of ARRAYS) {
    const values = (said[key] ?? "").split("_").map(Number);
    if (values.length === state[key].length && values.every(Number.isFinite)) state[key] = values;
  }
  if (said.mode === "net") state.mode = "net";
  const step = Number(said.step);
  if (Number.isInteger(step) && step >= 0 && step < 14) state.step = step;
  if (/^[a-zA-Z]{1,2}(\.\d+)*$/.test(said.cell ?? "")) state.cell = said.cell;
  for (const [key, pattern] of Object.entries(NET)) if (pattern.test(said[key] ?? "")) state[key] = said[key];
  return state;
}
