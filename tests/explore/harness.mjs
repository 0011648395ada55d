// Runs the page's equations for the tests: a list of [function, arguments] comes in as JSON, the
// results go out. The first argument is the folder of the modules.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const folder = `${pathToFileURL(process.argv[2]).href}/`;
const load = (name) => import(new URL(name, folder).href);
const { run, costAfterUpdate } = await load("chain.mjs");
const { explain, valueOf } = await load("explain.mjs");
const { math, short, long } = await load("notation.mjs");
const { changed, fromAddress, toAddress } = await load("state.mjs");
const layers = await load("layers.mjs");

const plain = (value) => (value?.data ? [...value.data] : value);

const calls = {
  numbers(state) {
    const r = run(state);
    const arrays = Object.entries(r).map(([name, value]) => [name, plain(value)]);
    return { ...Object.fromEntries(arrays), C: [r.C], C_after: [costAfterUpdate(state, r)] };
  },
  // For every cell of every array: its value, and what its explanation adds up to.
  explanations(state) {
    const r = run(state);
    const said = [];
    for (const [name, array] of Object.entries(r)) {
      if (!array?.shape) continue;
      const { shape, data } = array;
      data.forEach((value, n) => {
        const place = [];
        for (let axis = shape.length - 1, rest = n; axis >= 0; axis--) {
          place.unshift(rest % shape[axis]);
          rest = Math.floor(rest / shape[axis]);
        }
        const cell = [name, ...place].join(".");
        const { lead = 0, terms, total, equation, put, parts } = explain(cell, state, r);
        const sum = terms.reduce((all, factors) => all + factors.reduce((a, b) => a * b, 1), lead);
        parts.forEach((part) => valueOf(r, part));
        if (equation) math(equation);
        said.push({ cell, value, total, sum: terms.length ? sum : null, put, missing: parts.filter((part) => valueOf(r, part) === undefined) });
      });
    }
    return said;
  },
  roundTrip: (state, example) => fromAddress(toAddress(state, example), example),
  fromAddress,
  changed: (state, settings) => {
    try {
      return changed(state, settings);
    } catch (error) {
      return error.message;
    }
  },
  net(packed, off, label) {
    const net = layers.read(packed);
    const hidden = new Set(off);
    return net.samples.map(({ image }) => {
      const passes = layers.forward(net, image, hidden);
      return {
        values: passes.map(({ shown }) => plain(shown)),
        gradients: layers.backward(net, passes, label, hidden).map(plain),
      };
    });
  },
  field: (packed, layer, place) => layers.receptiveField(layers.read(packed), layer, place),
  math,
  short: (value) => short(value),
  long,
};

const wanted = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(wanted.map(([name, args]) => calls[name](...args))));
