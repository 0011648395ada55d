// What is said of the number under the pointer: its equation, the equation with the numbers put in,
// and the cells that took part.
//
// A cell is named by its array and its place, "z.0.2.3" or "dw.1.0.0.2". An explanation is
//   { title, rule, equation, lead, terms, total, tables, words, parts }:
// `terms` are the factors of each product, `tables` small matrices, `parts` the names of cells.

import { POOL } from "./chain.mjs";
import { long } from "./notation.mjs";
import { visitWindow } from "./ops.mjs";
import { at, grid, offset, outputsOf, shareOfPool, sharing, unflat, window, windowsOf } from "./places.mjs";

export const name = (array, ...place) => [array, ...place].join(".");

export function valueOf(r, cell) {
  const [array, ...place] = cell.split(".");
  return r[array].data[offset(r[array].shape, place.map(Number))];
}

// Returns the explanation of a cell, or null where there is nothing to say.
export function explain(cell, s, r) {
  const [array, ...rest] = cell.split(".");
  const place = rest.map(Number);
  const said = WORDS[array]?.(place, s, r);
  return said && { rule: "", parts: [], terms: [], tables: [], words: "", cell, ...said };
}

const nameOfPool = { max: "largest number", average: "mean", l2: "root of the sum of squares" };

const kernel = (s, r, f) => grid(s.kernel, s.kernel, (i, j) => at(r, "w", f, 0, i, j));

const scaled = (s, variable) => (s.stride === 1 ? variable : `${s.stride}${variable}`);
const dilated = (s, variable) => (s.dilation === 1 ? variable : `${s.dilation}${variable}`);
const minus = (s) => (s.padding ? `-${s.padding}` : "");
const pixelIndex = (s) =>
  `${scaled(s, "p")}+${dilated(s, "i")}${minus(s)},${scaled(s, "q")}+${dilated(s, "j")}${minus(s)}`;
const slope = (variable) => `\\frac{\\partial C}{\\partial ${variable}}`;
const SLOPES = {
  relu: "\\sigma\\prime(p) = 1~\\text{where}~p \\gt 0,~\\text{else}~0",
  sigmoid: "\\sigma\\prime(p) = a(1-a)",
  tanh: "\\sigma\\prime(p) = 1-a^2",
};

const WORDS = {
  x([, h, v], s) {
    const parts = [];
    for (let f = 0; f < s.maps; f++) {
      parts.push(...outputsOf(s, f, h, v).map(({ p, q }) => name("z", f, p, q)));
    }
    return {
      title: `Pixel x[${h}, ${v}]`,
      words: `It takes part in ${parts.length} outputs of the convolution.`,
      parts,
    };
  },
  w([f, , i, j], s, r) {
    return {
      title: `Weight ${i}, ${j} of kernel ${f}`,
      words: `All ${r.z.shape[1] * r.z.shape[2]} outputs of map ${f} share it.`,
      parts: sharing(s, i, j).map(({ h, v }) => name("x", 0, h, v)),
    };
  },
  b: ([f], s, r) => ({
    title: `Bias of kernel ${f}`,
    words: `It is added to all ${r.z.shape[1] * r.z.shape[2]} outputs of map ${f}.`,
  }),
  W([k, n], s, r) {
    const [f, p, q] = unflat(r, n);
    return {
      title: `Weight from a[${f}, ${p}, ${q}] to class ${k}`,
      words: "No other place shares it.",
      parts: [name("a", f, p, q), name("u", k)],
    };
  },
  B: ([k]) => ({ title: `Bias of class ${k}`, words: "", parts: [name("u", k)] }),

  z([f, p, q], s, r) {
    const { under, found } = window(s, r, f, p, q);
    const products = grid(s.kernel, s.kernel, () => null);
    for (const { i, j, pixel, weight } of found) products[i][j] = pixel * weight;
    return {
      title: `Output ${p}, ${q} of map ${f}`,
      rule: "convolution",
      equation: `z_{f;pq} = b_f + \\sum_{i,j} w_{f;ij} x_{${pixelIndex(s)}}`,
      lead: at(r, "b", f),
      terms: found.map(({ weight, pixel }) => [weight, pixel]),
      total: at(r, "z", f, p, q),
      tables: [
        { caption: "window of x", rows: under },
        { sign: "×", caption: `kernel ${f}`, rows: kernel(s, r, f) },
        { sign: "=", caption: "products", rows: products },
      ],
      parts: [
        ...found.map(({ h, v }) => name("x", 0, h, v)),
        ...found.map(({ i, j }) => name("w", f, 0, i, j)),
        name("b", f),
      ],
    };
  },

  p([f, p, q], s, r) {
    const cells = [];
    const rows = grid(s.window, s.window, () => null);
    visitWindow(POOL(s), p, q, (h, v, i, j) => {
      rows[i][j] = at(r, "z", f, h, v);
      cells.push({ h, v, value: rows[i][j] });
    });
    const total = at(r, "p", f, p, q);
    const values = cells.map(({ value }) => long(value)).join(", ");
    const equations = {
      max: "p_{f;uv} = \\max_{(j,k) \\in R_{uv}} z_{f;jk}",
      average: `p_{f;uv} = \\frac{1}{${s.window ** 2}} \\sum_{(j,k) \\in R_{uv}} z_{f;jk}`,
      l2: "p_{f;uv} = \\sqrt{\\sum_{(j,k) \\in R_{uv}} z_{f;jk}^2}",
    };
    const put = {
      max: `max(${values})`,
      average: `(${values.replaceAll(", ", " + ")}) / ${s.window ** 2}`,
      l2: `√(${cells.map(({ value }) => `${long(Math.abs(value))}²`).join(" + ")})`,
    };
    const winner = cells.find(({ h, v }) => s.pool === "max" && shareOfPool(s, r, f, h, v, p, q));
    return {
      title: `Pooled output ${p}, ${q} of map ${f}`,
      rule: `${s.pool === "l2" ? "L2" : s.pool} pooling`,
      equation: equations[s.pool],
      put: put[s.pool],
      total,
      tables: [{ caption: "window of z", rows }],
      words: `The ${nameOfPool[s.pool]} of the window R${winner ? `, found at z[${winner.h}, ${winner.v}]; a tie goes to the first` : ""}.`,
      parts: cells.map(({ h, v }) => name("z", f, h, v)),
      winner: winner && name("z", f, winner.h, winner.v),
    };
  },

  a([f, p, q], s, r) {
    const value = at(r, "p", f, p, q);
    const equations = {
      relu: "a = \\sigma(p) = \\max(p, 0)",
      sigmoid: "a = \\sigma(p) = \\frac{1}{1 + e^{-p}}",
      tanh: "a = \\sigma(p) = \\tanh p",
    };
    const put = {
      relu: `max(${long(value)}, 0)`,
      sigmoid: `1 / (1 + e^${bracket(-value)})`,
      tanh: `tanh ${bracket(value)}`,
    };
    return {
      title: `Activation ${p}, ${q} of map ${f}`,
      rule: s.activation === "relu" ? "ReLU" : s.activation,
      equation: equations[s.activation],
      put: put[s.activation],
      total: at(r, "a", f, p, q),
      words: s.activation === "relu" && value <= 0 ? "The ReLU is shut: no gradient passes." : "",
      parts: [name("p", f, p, q)],
    };
  },

  u([k], s, r) {
    const inputs = [...r.a.data].map((value, n) => ({ value, n, weight: at(r, "W", k, n) }));
    return {
      title: `Score of class ${k}`,
      rule: "fully connected",
      equation: "u_k = B_k + \\sum_n W_{kn} a_n",
      lead: at(r, "B", k),
      terms: inputs.map(({ weight, value }) => [weight, value]),
      total: at(r, "u", k),
      parts: [
        ...inputs.map(({ n }) => name("a", ...unflat(r, n))),
        ...inputs.map(({ n }) => name("W", k, n)),
        name("B", k),
      ],
    };
  },

  y([k], s, r) {
    const powers = [...r.u.data].map((value) => `e^${bracket(value)}`);
    return {
      title: `Probability of class ${k}`,
      rule: "softmax",
      equation: "y_k = \\frac{e^{u_k}}{\\sum_l e^{u_l}}",
      put: `${powers[k]} / (${powers.join(" + ")})`,
      total: at(r, "y", k),
      parts: [...r.u.data.keys()].map((each) => name("u", each)),
    };
  },

  C: (_, s, r) => ({
    title: `Cost of label ${s.label}`,
    rule: "log-likelihood",
    equation: "C = -\\ln y_t",
    put: `−ln ${long(r.y.data[s.label])}`,
    total: r.C,
    parts: [name("y", s.label)],
  }),

  // Backwards.

  du([k], s, r) {
    const hit = k === s.label ? 1 : 0;
    return {
      title: `Error of class ${k}`,
      rule: "BP1",
      equation: `${slope("u_k")} = y_k - t_k`,
      put: `${long(at(r, "y", k))} − ${hit}`,
      total: at(r, "du", k),
      words: `t is 1 for the label, class ${s.label}, and 0 for the others. Softmax and its cost leave no slope of an activation.`,
      parts: [name("y", k)],
    };
  },

  dB: ([k], s, r) => ({
    title: `Gradient of the bias of class ${k}`,
    rule: "BP3",
    equation: `${slope("B_k")} = ${slope("u_k")}`,
    put: "the error itself",
    total: at(r, "dB", k),
    parts: [name("du", k)],
  }),

  dW([k, n], s, r) {
    const [f, p, q] = unflat(r, n);
    return {
      title: `Gradient of the weight from a[${f}, ${p}, ${q}] to class ${k}`,
      rule: "BP4",
      equation: `${slope("W_{kn}")} = a_n ${slope("u_k")}`,
      terms: [[at(r, "a", f, p, q), at(r, "du", k)]],
      total: at(r, "dW", k, n),
      words: "What came in, times the error of what it fed.",
      parts: [name("a", f, p, q), name("du", k)],
    };
  },

  da([f, p, q], s, r) {
    const n = offset(r.a.shape, [f, p, q]);
    const classes = [...r.u.data.keys()];
    return {
      title: `Gradient of a[${f}, ${p}, ${q}]`,
      rule: "BP2",
      equation: `${slope("a_n")} = \\sum_k W_{kn} ${slope("u_k")}`,
      terms: classes.map((k) => [at(r, "W", k, n), at(r, "du", k)]),
      total: at(r, "da", f, p, q),
      words: "A sum over every class that it feeds.",
      parts: [...classes.map((k) => name("du", k)), ...classes.map((k) => name("W", k, n))],
    };
  },

  dp([f, p, q], s, r) {
    const pooled = at(r, "p", f, p, q);
    const a = at(r, "a", f, p, q);
    const steep = { relu: pooled > 0 ? 1 : 0, sigmoid: a * (1 - a), tanh: 1 - a * a };
    return {
      title: `Gradient of p[${f}, ${p}, ${q}]`,
      rule: "BP2",
      equation: `${slope("p")} = \\sigma\\prime(p) ${slope("a")},~~~${SLOPES[s.activation]}`,
      terms: [[steep[s.activation], at(r, "da", f, p, q)]],
      total: at(r, "dp", f, p, q),
      words: s.activation === "relu" && pooled <= 0 ? "The ReLU is shut: no gradient passes." : "",
      parts: [name("da", f, p, q), name("p", f, p, q)],
    };
  },

  dz([f, h, v], s, r) {
    const found = windowsOf(s, h, v);
    const equations = {
      max: `${slope("z_{f;jk}")} = \\sum_{u,v} [z_{f;jk}~\\text{is~the~maximum~of}~R_{uv}]~${slope("p_{f;uv}")}`,
      average: `${slope("z_{f;jk}")} = \\sum_{R_{uv} \\text{~with~} (j,k)} \\frac{1}{${s.window ** 2}} ${slope("p_{f;uv}")}`,
      l2: `${slope("z_{f;jk}")} = \\sum_{R_{uv} \\text{~with~} (j,k)} \\frac{z_{f;jk}}{p_{f;uv}} ${slope("p_{f;uv}")}`,
    };
    const terms = found.map(({ p, q }) => [
      shareOfPool(s, r, f, h, v, p, q),
      at(r, "dp", f, p, q),
    ]);
    const count = found.length === 1 ? "One window holds" : `${found.length} windows hold`;
    return {
      title: `Gradient of z[${f}, ${h}, ${v}]`,
      rule: "BP2",
      equation: equations[s.pool],
      terms,
      total: at(r, "dz", f, h, v),
      words: `${count} it${s.pool === "max" ? `; it is the maximum of ${terms.filter(([won]) => won).length}` : ""}.`,
      parts: found.map(({ p, q }) => name("dp", f, p, q)),
    };
  },

  db([f], s, r) {
    const [, rows, columns] = r.z.shape;
    const errors = grid(rows, columns, (p, q) => at(r, "dz", f, p, q));
    return {
      title: `Gradient of the bias of kernel ${f}`,
      rule: "BP3",
      equation: `${slope("b_f")} = \\sum_{p,q} ${slope("z_{f;pq}")}`,
      terms: errors.flat().map((value) => [value]),
      total: at(r, "db", f),
      words: "All places of the map share the bias, so their errors add up.",
      parts: errors.flatMap((row, p) => row.map((_, q) => name("dz", f, p, q))),
    };
  },

  dw([f, , i, j], s, r) {
    const places = sharing(s, i, j);
    const [, rows, columns] = r.z.shape;
    const met = grid(rows, columns, () => null);
    const errors = grid(rows, columns, (p, q) => at(r, "dz", f, p, q));
    const products = grid(rows, columns, () => null);
    for (const { p, q, h, v } of places) {
      met[p][q] = at(r, "x", 0, h, v);
      products[p][q] = met[p][q] * errors[p][q];
    }
    return {
      title: `Gradient of weight ${i}, ${j} of kernel ${f}`,
      rule: "BP4",
      equation: `${slope("w_{f;ij}")} = \\sum_{p,q} x_{${pixelIndex(s)}} ${slope("z_{f;pq}")}`,
      terms: places.map(({ p, q }) => [met[p][q], errors[p][q]]),
      total: at(r, "dw", f, 0, i, j),
      tables: [
        { caption: "x where the weight lay", rows: met },
        { sign: "×", caption: `gradient of map ${f}`, rows: errors },
        { sign: "=", caption: "products", rows: products },
      ],
      words: `The weight was used at ${places.length} places; each adds its pixel times its error.`,
      parts: [
        ...places.map(({ h, v }) => name("x", 0, h, v)),
        ...places.map(({ p, q }) => name("dz", f, p, q)),
      ],
    };
  },

  dx([, h, v], s, r) {
    const parts = [];
    const terms = [];
    const tables = [];
    const last = s.kernel - 1;
    for (let f = 0; f < s.maps; f++) {
      const met = grid(s.kernel, s.kernel, () => null);
      const products = grid(s.kernel, s.kernel, () => null);
      for (const { i, j, p, q } of outputsOf(s, f, h, v)) {
        const [weight, error] = [at(r, "w", f, 0, i, j), at(r, "dz", f, p, q)];
        met[last - i][last - j] = error;
        products[last - i][last - j] = weight * error;
        terms.push([weight, error]);
        parts.push(name("dz", f, p, q), name("w", f, 0, i, j));
      }
      const flipped = grid(s.kernel, s.kernel, (i, j) => at(r, "w", f, 0, last - i, last - j));
      tables.push(
        { sign: f ? "+" : "", caption: `kernel ${f}, flipped`, rows: flipped },
        { sign: "×", caption: `gradient of map ${f}`, rows: met },
        { sign: "=", caption: "products", rows: products },
      );
    }
    return {
      title: `Gradient of pixel x[${h}, ${v}]`,
      rule: "BP2",
      equation: `${slope("x_{hw}")} = \\sum_f \\sum_{p,q} ${slope("z_{f;pq}")} w_{f;${fromOutput(s, "h", "p")},${fromOutput(s, "w", "q")}}`,
      terms,
      total: at(r, "dx", 0, h, v),
      tables,
      words: `One term for each output that the pixel took part in, ${terms.length} in all. Read in the order of those outputs, the kernel is turned by 180°.`,
      parts,
    };
  },
};

// The index of the weight that joins a pixel with an output: (h + P - s p) / d.
function fromOutput(s, pixel, output) {
  const text = `${pixel}${s.padding ? `+${s.padding}` : ""}-${scaled(s, output)}`;
  return s.dilation === 1 ? text : `(${text})/${s.dilation}`;
}

function bracket(value) {
  return value < 0 ? `(${long(value)})` : long(value);
}
