// A trained network: its layers read from the page, its passes, and what its units see.

import * as ops from "./ops.mjs";

// Numbers travel as 32-bit floats in base64.
function decoded(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

const tensor = (packed) => packed && ops.array(packed.shape, decoded(packed.base64));

export function read(packed) {
  return {
    ...packed,
    layers: packed.layers.map((layer) => ({ ...layer, w: tensor(layer.w), b: tensor(layer.b) })),
    samples: packed.samples.map(({ label, image }) => ({
      label,
      image: ops.array(packed.input, decoded(image)),
    })),
  };
}

// Each kind of layer: forward(layer, x) -> { y, ...what is kept }, backward(layer, dy, pass) -> dx.
const KINDS = {
  conv: {
    forward: ({ w, b, geometry, groups }, x) => ({ y: ops.conv2d(x, w, b, geometry, groups) }),
    backward: ({ w, geometry, groups }, dy, { x }) =>
      ops.conv2dBackward(dy, x, w, geometry, groups).dx,
  },
  max: {
    forward: ({ geometry }, x) => ops.maxPool2d(x, geometry),
    backward: ({ geometry }, dy, { argmax }) => ops.maxPool2dBackward(dy, argmax, geometry),
  },
  average: {
    forward: ({ geometry }, x) => ({ y: ops.avgPool2d(x, geometry) }),
    backward: ({ geometry }, dy) => ops.avgPool2dBackward(dy, geometry),
  },
  l2: {
    forward: ({ geometry }, x) => ({ y: ops.l2Pool2d(x, geometry) }),
    backward: ({ geometry }, dy, { x, y }) => ops.l2Pool2dBackward(dy, x, y, geometry),
  },
  activation: {
    forward: ({ name, option }, x) => ({ y: ops.activation(x, name, option) }),
    backward: ({ name, option }, dy, { x, y }) => ops.activationBackward(dy, x, y, name, option),
  },
  affine: {
    forward: ({ w, b }, x) => ({ y: perChannel(x, (value, c) => value * w.data[c] + b.data[c]) }),
    backward: ({ w }, dy) => perChannel(dy, (value, c) => value * w.data[c]),
  },
  linear: {
    forward: ({ w, b }, x) => ({ y: ops.linear(x, w, b) }),
    backward: ({ w }, dy, { x }) => ops.linearBackward(dy, x, w).dx,
  },
  reshape: {
    forward: ({ shape }, x) => ({ y: ops.array(shape, x.data) }),
    backward: (_, dy, { x }) => ops.array(x.shape, dy.data),
  },
};

function perChannel(x, change) {
  const plane = x.data.length / x.shape[0];
  return ops.array(x.shape, x.data.map((value, n) => change(value, Math.floor(n / plane))));
}

// Channels that are switched off are 0, and pass no gradient. `off` holds "layer.channel".
function silenced(y, layer, off) {
  return perChannel(y, (value, c) => (off.has(`${layer}.${c}`) ? 0 : value));
}

export function forward(net, image, off = new Set()) {
  const passes = [];
  let x = image;
  net.layers.forEach((layer, n) => {
    const pass = { x, ...KINDS[layer.kind].forward(layer, x) };
    pass.shown = off.size ? silenced(pass.y, n, off) : pass.y;
    passes.push(pass);
    x = pass.shown;
  });
  return passes;
}

// The gradients of the cost: of the image first, then of the output of each layer.
export function backward(net, passes, label, off = new Set()) {
  const y = ops.softmax(passes.at(-1).shown);
  let dy = ops.crossEntropyBackward(y, label);
  const gradients = [dy];
  for (let n = net.layers.length - 1; n >= 0; n--) {
    const layer = net.layers[n];
    const through = off.size ? silenced(dy, n, off) : dy;
    dy = KINDS[layer.kind].backward(layer, through, passes[n]);
    gradients.unshift(dy);
  }
  return gradients;
}

// The rows and columns of the image that a unit sees: [[first, last], [first, last]].
export function receptiveField(net, layer, place) {
  let ends = place.map((at) => [at, at]);
  for (let n = layer; n >= 0; n--) {
    const { kind, geometry: g } = net.layers[n];
    if (kind === "linear" || (kind === "reshape" && net.layers[n].before.length > 1)) {
      ends = net.input.slice(1).map((size) => [0, size - 1]);
      break;
    }
    if (!g) continue;
    ends = ends.map(([first, last], axis) => {
      const lowest = g.stride[axis] * first - g.padding[axis][0];
      const reach = g.dilation[axis] * (g.kernel[axis] - 1);
      const highest = g.stride[axis] * last - g.padding[axis][0] + reach;
      return [Math.max(0, lowest), Math.min(g.size[axis] - 1, highest)];
    });
  }
  return ends;
}
