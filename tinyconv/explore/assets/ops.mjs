// The equations of tinyconv/ops once more, for numbers that change while one looks at them.
// A test runs this file and compares every result with the library's own.
//
// An array is { shape, data }: its sizes, and its numbers in row-major order. A window g is the
// library's Geometry: { size, kernel, stride, padding: [[before, after], ...], dilation, output }.

export function array(shape, data) {
  const count = shape.reduce((product, size) => product * size, 1);
  return { shape, data: data === undefined ? new Float64Array(count) : Float64Array.from(data) };
}

export function slidingWindow(size, kernel, stride, padding, dilation) {
  const g = {
    size: [size, size],
    kernel: [kernel, kernel],
    stride: [stride, stride],
    padding: [[padding, padding], [padding, padding]],
    dilation: [dilation, dilation],
  };
  const covered = dilation * (kernel - 1) + 1;
  const output = Math.floor((size + 2 * padding - covered) / stride) + 1;
  return { ...g, output: [output, output] };
}

// Calls visit(h, w, i, j) for the elements of the window (p, q) that lie in the image.
export function visitWindow(g, p, q, visit) {
  const [H, W] = g.size;
  for (let i = 0; i < g.kernel[0]; i++) {
    const h = g.stride[0] * p + g.dilation[0] * i - g.padding[0][0];
    if (h < 0 || h >= H) continue;
    for (let j = 0; j < g.kernel[1]; j++) {
      const w = g.stride[1] * q + g.dilation[1] * j - g.padding[1][0];
      if (w >= 0 && w < W) visit(h, w, i, j);
    }
  }
}

function eachOutput(g, channels, visit) {
  const [OH, OW] = g.output;
  for (let c = 0; c < channels; c++) {
    for (let p = 0; p < OH; p++) {
      for (let q = 0; q < OW; q++) visit(c, p, q, (c * OH + p) * OW + q);
    }
  }
}

// y[o, p, q] = b[o] + sum_{c, i, j} w[o, c, i, j] x[c, s p + d i - P, s q + d j - P]
export function conv2d(x, w, b, g, groups = 1) {
  const y = array([w.shape[0], ...g.output]);
  const [O, C, KH, KW] = w.shape;
  const [H, W] = g.size;
  eachOutput(g, O, (o, p, q, at) => {
    const first = Math.floor(o / (O / groups)) * C;
    let sum = b ? b.data[o] : 0;
    visitWindow(g, p, q, (h, v, i, j) => {
      for (let c = 0; c < C; c++) {
        sum += w.data[((o * C + c) * KH + i) * KW + j] * x.data[((first + c) * H + h) * W + v];
      }
    });
    y.data[at] = sum;
  });
  return y;
}

// dw: the places share it; dx: every output that a pixel took part in, by the same weights.
export function conv2dBackward(dy, x, w, g, groups = 1) {
  const dx = array(x.shape);
  const dw = array(w.shape);
  const db = array([w.shape[0]]);
  const [O, C, KH, KW] = w.shape;
  const [H, W] = g.size;
  eachOutput(g, O, (o, p, q, at) => {
    const slope = dy.data[at];
    if (slope === 0) return;
    const first = Math.floor(o / (O / groups)) * C;
    db.data[o] += slope;
    visitWindow(g, p, q, (h, v, i, j) => {
      for (let c = 0; c < C; c++) {
        const weight = ((o * C + c) * KH + i) * KW + j;
        const pixel = ((first + c) * H + h) * W + v;
        dw.data[weight] += slope * x.data[pixel];
        dx.data[pixel] += slope * w.data[weight];
      }
    });
  });
  return { dx, dw, db };
}

// y = max of a window; a tie goes to the first in row-major order.
export function maxPool2d(x, g) {
  const y = array([x.shape[0], ...g.output]);
  const argmax = new Int32Array(y.data.length).fill(-1);
  const [H, W] = g.size;
  eachOutput(g, x.shape[0], (c, p, q, at) => {
    y.data[at] = -Infinity;
    visitWindow(g, p, q, (h, v) => {
      const value = x.data[(c * H + h) * W + v];
      if (value > y.data[at] || argmax[at] < 0) {
        y.data[at] = value;
        argmax[at] = h * W + v;
      }
    });
  });
  return { y, argmax };
}

export function maxPool2dBackward(dy, argmax, g) {
  const dx = array([dy.shape[0], ...g.size]);
  const [H, W] = g.size;
  eachOutput(g, dy.shape[0], (c, p, q, at) => {
    if (argmax[at] >= 0) dx.data[c * H * W + argmax[at]] += dy.data[at];
  });
  return dx;
}

// y = sum of a window / divisor; the divisors of the places come with the window.
export function avgPool2d(x, g) {
  const y = array([x.shape[0], ...g.output]);
  const [H, W] = g.size;
  eachOutput(g, x.shape[0], (c, p, q, at) => {
    visitWindow(g, p, q, (h, v) => (y.data[at] += x.data[(c * H + h) * W + v]));
    y.data[at] /= divisor(g, p, q);
  });
  return y;
}

export function avgPool2dBackward(dy, g) {
  const dx = array([dy.shape[0], ...g.size]);
  const [H, W] = g.size;
  eachOutput(g, dy.shape[0], (c, p, q, at) => {
    const share = dy.data[at] / divisor(g, p, q);
    visitWindow(g, p, q, (h, v) => (dx.data[(c * H + h) * W + v] += share));
  });
  return dx;
}

export function divisor(g, p, q) {
  return g.divisor ? g.divisor[p * g.output[1] + q] : g.kernel[0] * g.kernel[1];
}

// y = sqrt(sum of squares of a window); a window of zeros passes 0 back.
export function l2Pool2d(x, g) {
  const y = array([x.shape[0], ...g.output]);
  const [H, W] = g.size;
  eachOutput(g, x.shape[0], (c, p, q, at) => {
    visitWindow(g, p, q, (h, v) => (y.data[at] += x.data[(c * H + h) * W + v] ** 2));
    y.data[at] = Math.sqrt(y.data[at]);
  });
  return y;
}

export function l2Pool2dBackward(dy, x, y, g) {
  const dx = array(x.shape);
  const [H, W] = g.size;
  eachOutput(g, x.shape[0], (c, p, q, at) => {
    if (y.data[at] === 0) return;
    visitWindow(g, p, q, (h, v) => {
      const pixel = (c * H + h) * W + v;
      dx.data[pixel] += (dy.data[at] * x.data[pixel]) / y.data[at];
    });
  });
  return dx;
}

// Each activation, and its slope from its input x and output y.
export const ACTIVATIONS = {
  relu: { value: (x) => Math.max(x, 0), slope: (x) => (x > 0 ? 1 : 0) },
  sigmoid: { value: (x) => 1 / (1 + Math.exp(-x)), slope: (x, y) => y * (1 - y) },
  tanh: { value: Math.tanh, slope: (x, y) => 1 - y * y },
  leaky_relu: {
    value: (x, alpha) => (x > 0 ? x : alpha * x),
    slope: (x, y, alpha) => (x > 0 ? 1 : alpha),
  },
  elu: {
    value: (x, alpha) => (x > 0 ? x : alpha * Math.expm1(x)),
    slope: (x, y, alpha) => (x > 0 ? 1 : y + alpha),
  },
};

export function activation(x, name, option) {
  const { value } = ACTIVATIONS[name];
  return array(x.shape, x.data.map((each) => value(each, option)));
}

export function activationBackward(dy, x, y, name, option) {
  const { slope } = ACTIVATIONS[name];
  return array(x.shape, dy.data.map((each, n) => each * slope(x.data[n], y.data[n], option)));
}

// y[k] = b[k] + sum_n w[k, n] x[n]
export function linear(x, w, b) {
  const [K, N] = w.shape;
  const y = array([K]);
  for (let k = 0; k < K; k++) {
    let sum = b ? b.data[k] : 0;
    for (let n = 0; n < N; n++) sum += w.data[k * N + n] * x.data[n];
    y.data[k] = sum;
  }
  return y;
}

export function linearBackward(dy, x, w) {
  const [K, N] = w.shape;
  const dx = array(x.shape);
  const dw = array(w.shape);
  for (let k = 0; k < K; k++) {
    for (let n = 0; n < N; n++) {
      dw.data[k * N + n] = dy.data[k] * x.data[n];
      dx.data[n] += dy.data[k] * w.data[k * N + n];
    }
  }
  return { dx, dw, db: array([K], dy.data) };
}

// The largest is subtracted first, so that no exponential overflows.
export function softmax(u) {
  const largest = Math.max(...u.data);
  const powers = u.data.map((each) => Math.exp(each - largest));
  const sum = powers.reduce((total, each) => total + each, 0);
  return array(u.shape, powers.map((each) => each / sum));
}

// C = -ln y[label], from the logits u, and its gradient y - t.
export function crossEntropy(u, label) {
  const largest = Math.max(...u.data);
  const sum = u.data.reduce((total, each) => total + Math.exp(each - largest), 0);
  return largest + Math.log(sum) - u.data[label];
}

export function crossEntropyBackward(y, label) {
  return array(y.shape, y.data.map((each, k) => each - (k === label ? 1 : 0)));
}
