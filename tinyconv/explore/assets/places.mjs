// Which numbers meet which: windows, the outputs of a pixel, the places that share a weight.

import { CONV, POOL } from "./chain.mjs";
import { divisor, visitWindow } from "./ops.mjs";

export function offset(shape, place) {
  return place.reduce((sum, index, axis) => sum * shape[axis] + index, 0);
}

export const at = (r, array, ...place) => r[array].data[offset(r[array].shape, place)];
export const grid = (rows, columns, fill) =>
  Array.from({ length: rows }, (_, i) => Array.from({ length: columns }, (__, j) => fill(i, j)));

// The image under a window, the kernel, and their products; padding is null.
export function window(s, r, f, p, q) {
  const under = grid(s.kernel, s.kernel, () => null);
  const found = [];
  visitWindow(CONV(s), p, q, (h, v, i, j) => {
    under[i][j] = at(r, "x", 0, h, v);
    found.push({ h, v, i, j, pixel: under[i][j], weight: at(r, "w", f, 0, i, j) });
  });
  return { under, found };
}

// The outputs of map f that pixel (h, v) took part in, by the weight (i, j) that it met there.
export function outputsOf(s, f, h, v) {
  const g = CONV(s);
  const found = [];
  for (let i = 0; i < s.kernel; i++) {
    for (let j = 0; j < s.kernel; j++) {
      const [down, across] = [h + s.padding - s.dilation * i, v + s.padding - s.dilation * j];
      const [p, q] = [down / s.stride, across / s.stride];
      const isThere = down >= 0 && across >= 0 && down % s.stride === 0 && across % s.stride === 0;
      if (isThere && p < g.output[0] && q < g.output[1]) found.push({ f, i, j, p, q });
    }
  }
  return found;
}

// The pooling windows that hold (h, v) of map f.
export function windowsOf(s, h, v) {
  const g = POOL(s);
  const found = [];
  for (let p = 0; p < g.output[0]; p++) {
    for (let q = 0; q < g.output[1]; q++) {
      visitWindow(g, p, q, (row, column) => {
        if (row === h && column === v) found.push({ p, q });
      });
    }
  }
  return found;
}

export function shareOfPool(s, r, f, h, v, p, q) {
  if (s.pool === "average") return 1 / divisor(POOL(s), p, q);
  const pooled = at(r, "p", f, p, q);
  if (s.pool === "l2") return pooled === 0 ? 0 : at(r, "z", f, h, v) / pooled;
  const winner = r.argmax[offset(r.p.shape, [f, p, q])];
  return winner === h * CONV(s).output[1] + v ? 1 : 0;
}

// The places of the image that the weight (i, j) was laid on, with the outputs it served there.
export function sharing(s, i, j) {
  const g = CONV(s);
  const found = [];
  for (let p = 0; p < g.output[0]; p++) {
    for (let q = 0; q < g.output[1]; q++) {
      visitWindow(g, p, q, (h, v, row, column) => {
        if (row === i && column === j) found.push({ p, q, h, v });
      });
    }
  }
  return found;
}

export function unflat(r, n) {
  const [, rows, columns] = r.a.shape;
  const inMap = n % (rows * columns);
  return [Math.floor(n / (rows * columns)), Math.floor(inMap / columns), inMap % columns];
}
