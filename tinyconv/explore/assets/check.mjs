// Compares this page's numbers with those that the library's operations put into it.

import { costAfterUpdate, run } from "./chain.mjs";
import { backward, forward, read } from "./layers.mjs";

function largest(pairs) {
  let difference = 0;
  for (const [ours, theirs] of pairs) {
    if (ours.length !== theirs.length) return Infinity;
    ours.forEach((value, n) => {
      difference = Math.max(difference, Math.abs(value - theirs[n]));
    });
  }
  return difference;
}

// The largest difference over all arrays of the example.
export function differenceByHand({ example, reference }) {
  const r = run(example);
  const ours = { ...r, C: { data: [r.C] }, C_after: { data: [costAfterUpdate(example, r)] } };
  return largest(Object.entries(reference).map(([key, values]) => [ours[key].data, values]));
}

// The same over the logits of the samples and the gradient of the first image.
export function differenceOfNet(packed) {
  const net = read(packed);
  const pairs = packed.reference.logits.map((logits, n) => [forward(net, net.samples[n].image).at(-1).y.data, logits]);
  const passes = forward(net, net.samples[0].image);
  const gradients = backward(net, passes, net.samples[0].label);
  pairs.push([gradients[0].data, packed.reference.dx]);
  return largest(pairs);
}

export function check(data) {
  const said = [`by hand ${differenceByHand(data).toExponential(0)}`];
  if (data.net) said.push(`trained net ${differenceOfNet(data.net).toExponential(0)}`);
  return `Largest difference between the numbers of this page and those of the library: ${said.join(", ")}.`;
}
