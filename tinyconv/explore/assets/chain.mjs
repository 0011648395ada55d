// The network that is worked out by hand: convolution, pooling, activation, a fully connected
// layer, softmax. Its arrays have the names that the page and tinyconv/explore/example.py use:
//
//   x --w,b--> z --window--> p --activation--> a --W,B--> u --softmax--> y, cost C
//
// and dz is the gradient of C with respect to z.

import * as ops from "./ops.mjs";

export const CONV = (s) => ops.slidingWindow(s.size, s.kernel, s.stride, s.padding, s.dilation);
export const POOL = (s) =>
  ops.slidingWindow(CONV(s).output[0], s.window, s.poolStride, 0, 1);

// Says why the windows of these settings do not fit; "" if they do.
export function fault(s) {
  const reach = s.dilation * (s.kernel - 1) + 1;
  const conv = CONV(s).output[0];
  if (conv < 1) {
    return `The kernel spans ${reach} pixels, the padded image has ${s.size + 2 * s.padding}.`;
  }
  if (POOL(s).output[0] < 1) {
    return `The pooling window has ${s.window} rows, the convolution's output ${conv}.`;
  }
  return "";
}

export function sizes(s) {
  const conv = CONV(s).output;
  const pool = POOL(s).output;
  return {
    x: [1, s.size, s.size],
    w: [s.maps, 1, s.kernel, s.kernel],
    b: [s.maps],
    z: [s.maps, ...conv],
    p: [s.maps, ...pool],
    a: [s.maps, ...pool],
    W: [s.classes, s.maps * pool[0] * pool[1]],
    B: [s.classes],
    u: [s.classes],
    y: [s.classes],
  };
}

export function run(s) {
  const shape = sizes(s);
  const [x, w, b, W, B] = ["x", "w", "b", "W", "B"].map((k) => ops.array(shape[k], s[k]));
  const [g, pool] = [CONV(s), POOL(s)];
  const z = ops.conv2d(x, w, b, g);
  const max = s.pool === "max" ? ops.maxPool2d(z, pool) : null;
  const p = max ? max.y : s.pool === "average" ? ops.avgPool2d(z, pool) : ops.l2Pool2d(z, pool);
  const a = ops.activation(p, s.activation);
  const u = ops.linear(a, W, B);
  const y = ops.softmax(u);
  const C = ops.crossEntropy(u, s.label);

  const du = ops.crossEntropyBackward(y, s.label);
  const last = ops.linearBackward(du, a, W);
  const dp = ops.activationBackward(last.dx, p, a, s.activation);
  const dz = max
    ? ops.maxPool2dBackward(dp, max.argmax, pool)
    : s.pool === "average"
      ? ops.avgPool2dBackward(dp, pool)
      : ops.l2Pool2dBackward(dp, z, p, pool);
  const first = ops.conv2dBackward(dz, x, w, g);
  return {
    x, w, b, z, p, a, W, B, u, y, C, du, dp, dz,
    argmax: max ? max.argmax : null,
    dW: last.dw, dB: last.db, da: last.dx,
    dx: first.dx, dw: first.dw, db: first.db,
  };
}

// The parameters after one step of gradient descent.
export function updated(s, r) {
  const moved = {};
  for (const name of ["w", "b", "W", "B"]) {
    const gradient = r[`d${name}`].data;
    moved[name] = s[name].map((value, n) => value - s.rate * gradient[n]);
  }
  return moved;
}

export function costAfterUpdate(s, r) {
  return run({ ...s, ...updated(s, r) }).C;
}
