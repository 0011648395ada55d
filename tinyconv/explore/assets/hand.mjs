// The network worked out by hand: its cells, its form, its steps.

import { costAfterUpdate, run, updated } from "./chain.mjs";
import { bar, colours, limitOf } from "./colours.mjs";
import { explain, valueOf } from "./explain.mjs";
import { morph } from "./morph.mjs";
import { long, math, short } from "./notation.mjs";
import { panel } from "./panel.mjs";
import { ARRAYS, EDITABLE, PRESETS, SETTINGS, changed } from "./state.mjs";
import { known, LAST_FORWARD, STEPS } from "./steps.mjs";

const STAGES = [
  { key: "image", title: "Image", formula: "x", values: ["x"], gradients: ["dx"] },
  { key: "kernels", title: "Kernels", formula: "w, b", values: ["w", "b"], gradients: ["dw", "db"] },
  { key: "conv", title: "Convolution", formula: "z", values: ["z"], gradients: ["dz"] },
  { key: "pool", title: "Pooling", formula: "p", values: ["p"], gradients: ["dp"] },
  { key: "act", title: "Activation", formula: "a", values: ["a"], gradients: ["da"] },
  { key: "full", title: "Fully connected", formula: "W, B", values: ["W", "B"], gradients: ["dW", "dB"] },
  { key: "out", title: "Softmax", formula: "u, y", values: ["u", "y"], gradients: ["du"] },
];

const WAY = '<div class="way"><span>forward: values</span><span>backward: gradients</span></div>';
const PACE = { step: 1500, cell: 220 };
const MOST_WRITTEN = 18;

export class Hand {
  constructor(root, example, store) {
    this.root = root;
    this.example = example;
    this.store = store; // { get(), set(changes) }: the state of the page
    this.costs = [];
    this.hovered = "";
    this.swept = null;
    this.timer = 0;
    this.form();
    this.listen();
  }

  $(selector) {
    return this.root.querySelector(selector);
  }

  // The form and the rail of steps, which stay.

  form() {
    const options = (list, shown = String) =>
      list.map((each) => `<option value="${each}">${shown(each)}</option>`).join("");
    this.$("details").open = innerWidth > 900;
    this.$(".settings").addEventListener("submit", (event) => event.preventDefault());
    this.$(".settings").innerHTML =
      `<label>Example<select name="preset"><option value="">your own</option>${options(Object.keys(PRESETS))}</select></label>` +
      SETTINGS.map(
        ({ key, words, options: list, shown }) =>
          `<label>${words}<select name="${key}">${options(list, shown)}</select></label>`,
      ).join("");
    this.$(".rail").innerHTML = STEPS.map(
      ({ name, back }, n) =>
        `<li><button data-step="${n}" class="${back ? "back" : ""}" title="${name}"><span>${n}</span></button></li>`,
    ).join("");
  }

  listen() {
    const { root } = this;
    root.addEventListener("change", (event) => this.chosen(event.target));
    root.addEventListener("click", (event) => this.clicked(event));
    root.addEventListener("keydown", (event) => this.pressed(event));
    const hover = (cell) => {
      if (this.timer || cell === this.hovered) return;
      this.hovered = cell;
      this.mark();
    };
    const stages = this.$(".stages");
    stages.addEventListener("pointerover", (event) => {
      if (event.pointerType === "mouse") hover(event.target.closest("[data-cell]")?.dataset.cell ?? "");
    });
    stages.addEventListener("pointerleave", () => hover(""));
    stages.addEventListener("focusin", (event) => {
      const cell = event.target.dataset?.cell;
      if (!cell || this.timer) return;
      this.hovered = "";
      this.store.set({ cell });
    });
  }

  chosen(field) {
    if (field.name === "value") return this.edit(this.chosenCell(), Number(field.value));
    let settings = { [field.name]: numberOr(field.value) };
    if (field.name === "preset") {
      if (!(field.value in PRESETS)) return undefined;
      settings = PRESETS[field.value];
    }
    try {
      const before = field.name === "preset" ? this.example : this.store.get();
      const { mode, step, cell } = this.store.get();
      this.costs = [];
      this.say("");
      this.store.set({ ...changed(before, settings), mode, step, cell });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.say(error.message);
      this.draw();
    }
    return undefined;
  }

  say(text) {
    this.$(".fault").textContent = text;
  }

  clicked(event) {
    const target = event.target.closest("button");
    if (!target) return;
    const { cell, step, act } = target.dataset;
    if (cell) {
      this.pause();
      if (EDITABLE.has(cell.split(".")[0])) this.edit(cell, this.next(cell));
      else this.store.set({ cell });
    } else if (step !== undefined) this.go(Number(step));
    else if (act) this[act]();
  }

  // The number that a click makes of another: pixels go 0, 0.5, 1, weights up to 2 and round.
  next(cell) {
    const value = valueOf(this.r, cell);
    if (cell.startsWith("x.")) return value >= 1 ? 0 : value >= 0.5 ? 1 : 0.5;
    const step = /^[wb]\./.test(cell) ? 1 : 0.25;
    const most = /^[wb]\./.test(cell) ? 2 : 1;
    const next = Math.floor(value / step + 1e-9) * step + step;
    return next > most ? -most : next;
  }

  edit(cell, value) {
    if (!cell || !Number.isFinite(value)) return this.draw();
    const state = this.store.get();
    const [array, ...place] = cell.split(".");
    const { shape } = this.r[array];
    const at = place.reduce((sum, index, axis) => sum * shape[axis] + Number(index), 0);
    const data = state[array].map((each, n) => (n === at ? value : each));
    this.costs = [];
    return this.store.set({ [array]: data, cell });
  }

  pressed(event) {
    const cell = event.target.dataset?.cell;
    if (event.target.name === "value" && event.key === "Enter") {
      event.preventDefault();
      this.edit(this.chosenCell(), Number(event.target.value));
      this.focus(this.store.get().cell);
      return;
    }
    if (!cell) return;
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key in moves) {
      event.preventDefault();
      this.move(event.target, ...moves[event.key]);
    } else if (EDITABLE.has(cell.split(".")[0]) && /^[-.0-9]$/.test(event.key)) {
      const field = this.$("[name=value]");
      if (!field) return;
      event.preventDefault();
      field.type = "text"; // a number field refuses a lone minus
      field.value = event.key;
      field.focus();
      field.setSelectionRange(1, 1);
    }
  }

  // To the neighbouring cell of the same grid.
  move(button, down, across) {
    const cells = [...button.parentElement.querySelectorAll("[data-cell]")];
    const columns = Number(button.parentElement.dataset.columns);
    const at = cells.indexOf(button);
    const column = (at % columns) + across;
    const next = at + down * columns + across;
    if (column >= 0 && column < columns && cells[next]) cells[next].focus();
  }

  focus(cell) {
    this.root.querySelector(`[data-cell="${CSS.escape(cell)}"]`)?.focus();
  }

  // Steps.

  go(step) {
    this.pause();
    this.store.set({ step: Math.max(0, Math.min(STEPS.length - 1, step)), cell: "" });
  }

  back() {
    this.go(this.store.get().step - 1);
  }

  step() {
    this.go(this.store.get().step + 1);
  }

  forward() {
    this.go(LAST_FORWARD);
  }

  backward() {
    this.go(STEPS.length - 1);
  }

  reset() {
    this.pause();
    this.costs = [];
    this.say("");
    this.store.set({ ...this.example, step: 0, cell: "" });
  }

  update() {
    this.pause();
    const state = this.store.get();
    if (!this.costs.length) this.costs = [this.r.C];
    this.costs.push(costAfterUpdate(state, this.r));
    this.store.set({ ...updated(state, this.r), step: STEPS.length - 1, cell: "" });
  }

  play() {
    if (this.timer) return this.pause(true);
    if (this.store.get().step === STEPS.length - 1) this.store.set({ step: 0, cell: "" });
    this.hovered = "";
    this.advance();
    return this.draw();
  }

  pause(redraw = false) {
    clearTimeout(this.timer);
    this.timer = 0;
    this.swept = null;
    if (redraw) this.draw();
  }

  // One moment of the playing: the next cell of a sweep, or the next step.
  advance() {
    const { step } = this.store.get();
    const { sweep } = STEPS[step];
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const count = sweep && !calm ? this.firstMap(sweep) : 0;
    const done = this.swept?.array === sweep ? this.swept.count : 0;
    if (done < count) {
      this.swept = { array: sweep, count: done + 1 };
      this.hovered = this.cellAt(sweep, done);
      this.draw();
      this.timer = setTimeout(() => this.advance(), PACE.cell);
      return;
    }
    this.swept = null;
    this.hovered = "";
    if (count) this.draw();
    this.timer = setTimeout(() => {
      if (step === STEPS.length - 1) return this.pause(true);
      this.store.set({ step: step + 1, cell: "" });
      return this.advance();
    }, PACE.step);
  }

  // A sweep goes through the cells of one map, or of one class; the others follow at once.
  firstMap(array) {
    const { shape, data } = this.r[array];
    return data.length / shape[0];
  }

  cellAt(array, n) {
    const { shape } = this.r[array];
    const place = [];
    let rest = n;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      place.unshift(rest % shape[axis]);
      rest = Math.floor(rest / shape[axis]);
    }
    return [array, ...place].join(".");
  }

  // Drawing.

  draw() {
    const state = this.store.get();
    this.r = run(state);
    this.known = known(state.step);
    const arrays = Object.values(this.r).filter((each) => each?.shape);
    this.limit = limitOf(arrays.map(({ data }) => data));
    morph(this.$(".stages"), WAY + STAGES.map((stage) => this.stage(stage, state)).join(""));
    document.querySelector(".scale").innerHTML = bar(this.limit, (v) => short(v, 3));
    for (const { key } of SETTINGS) this.$(`[name=${key}]`).value = state[key];
    this.$("[name=preset]").value = this.presetOf(state);
    this.root.querySelectorAll("[data-step]").forEach((button, n) => {
      button.classList.toggle("done", n < state.step);
      if (n === state.step) button.setAttribute("aria-current", "step");
      else button.removeAttribute("aria-current");
    });
    this.$("[data-act=play]").textContent = this.timer ? "❚❚ Pause" : "▶ Play";
    this.$("[data-act=back]").disabled = state.step === 0;
    this.$("[data-act=step]").disabled = state.step === STEPS.length - 1;
    const { name, words } = STEPS[state.step];
    this.$(".now").innerHTML = `<b>${state.step}. ${name}.</b> ${words}`;
    this.mark();
  }

  presetOf(state) {
    const same = (each) => SETTINGS.every(({ key }) => each[key] === state[key]) &&
      ARRAYS.every((key) => each[key].join() === state[key].join());
    return Object.keys(PRESETS).find((each) => same(changed(this.example, PRESETS[each]))) ?? "";
  }

  stage({ key, title, formula, values, gradients }, state) {
    const cost = key === "out" ? this.cost(state) : "";
    const subtitle = formula.split(", ").map((letter) => `<var>${letter}</var>`).join(", ");
    return `<section class="stage ${key}" aria-label="${title}">
      <h3>${title} <small>${subtitle}</small></h3>
      <div class="values" data-words="values">${values.map((each) => this.grids(each)).join("")}${cost}</div>
      <div class="gradients" data-words="gradients">${gradients.map((each) => this.grids(each)).join("")}</div>
    </section>`;
  }

  cost(state) {
    const shown = this.known.has("C") ? long(this.r.C) : "·";
    const all = this.costs.map((each) => short(each, 3)).join(" → ");
    return `<div class="cost"><button class="sum" data-cell="C" tabindex="0"><var>C</var> = ${shown}</button>
      ${all ? `<span class="history" title="cost after each update">${all}</span>` : ""}
      <span class="label">label: class ${state.label}</span></div>`;
  }

  // The grids of one array: one for each map, or each class.
  grids(array) {
    const { shape } = this.r[array];
    const caption = captionOf(array);
    if (shape.length === 1) return this.grid(array, "", caption, shape[0], 1, []);
    const isDense = /^d?W$/.test(array);
    const perClass = this.r.a.shape[2] * (this.r.a.shape[2] > 2 ? 1 : this.r.a.shape[0]);
    const columns = isDense ? perClass : shape.at(-1);
    const count = this.r[array].data.length / shape[0];
    const words = isDense ? "class" : shape[0] > 1 ? "map" : "";
    const drawn = Array.from({ length: shape[0] }, (_, f) =>
      this.grid(array, words && `${words} ${f}`, f ? "" : caption, count, columns, [f]));
    // Too many weights for numbers: their colours remain, and the panel says each.
    const size = isDense && count > MOST_WRITTEN ? " small" : "";
    return `<div class="maps-of ${array}${size}">${drawn.join("")}</div>`;
  }

  grid(array, words, caption, count, columns, lead) {
    const { shape } = this.r[array];
    const base = lead.length ? lead[0] * count : 0;
    const isKnown = this.known.has(array);
    const cells = [];
    for (let n = 0; n < count; n++) {
      const cell = this.cellAt(array, base + n);
      const swept = this.swept?.array === array && base + n >= this.swept.count;
      cells.push(this.cell(cell, this.r[array].data[base + n], isKnown && !swept, n === 0, shape));
    }
    const label = [caption && `<span class="name">${caption}</span>`, words].filter(Boolean).join(" ");
    return `<figure class="${array}"><figcaption>${label || "&nbsp;"}</figcaption>
      <div class="grid" role="group" aria-label="${array} ${words}" data-columns="${columns}"
        style="--columns: ${columns}">${cells.join("")}</div></figure>`;
  }

  cell(cell, value, isKnown, isFirst) {
    const tab = isFirst ? 0 : -1;
    if (!isKnown) return `<button class="cell later" data-cell="${cell}" tabindex="${tab}" aria-label="${cell}, not yet known">·</button>`;
    const { ground, ink } = colours(value, this.limit);
    const text = short(value);
    const kind = `${EDITABLE.has(cell.split(".")[0]) ? " edit" : ""}${text.length > 4 ? " long" : ""}`;
    return `<button class="cell${kind}" data-cell="${cell}" tabindex="${tab}" aria-label="${cell}: ${long(value)}"
      style="background: ${ground}; color: ${ink}">${text}</button>`;
  }

  chosenCell() {
    const { cell, step } = this.store.get();
    const wanted = this.hovered || cell || STEPS[step].cell;
    const [array, ...place] = wanted.split(".");
    if (wanted === "C") return this.known.has("C") ? "C" : "";
    const shape = this.r[array]?.shape;
    const fits = shape && place.length === shape.length && place.every((n, axis) => Number(n) < shape[axis]);
    return fits && this.known.has(array) ? wanted : "";
  }

  // Marks the cells that take part in the chosen one, and says how.
  mark() {
    const state = this.store.get();
    const cell = this.chosenCell();
    const said = cell ? explain(cell, state, this.r) : null;
    const parts = new Set(said?.parts ?? []);
    this.$(".stages").classList.toggle("marked", Boolean(said));
    for (const button of this.root.querySelectorAll("[data-cell]")) {
      const own = button.dataset.cell;
      button.classList.toggle("self", own === cell);
      button.classList.toggle("part", parts.has(own));
      button.classList.toggle("winner", own === said?.winner);
    }
    this.$(".words").innerHTML = said ? panel(said, this.r, this.limit) : this.rest(state);
  }

  rest(state) {
    if (state.step < STEPS.length - 1) {
      return '<p class="hint">Point at a number, or move to it with Tab and the arrow keys: what it is made of appears here.</p>';
    }
    const after = costAfterUpdate(state, this.r);
    const steps = this.costs.length ? `After ${this.costs.length - 1} update${this.costs.length === 2 ? "" : "s"}: ` : "";
    return `<div class="sum-up"><h4>One update</h4>${math("w \\leftarrow w - \\eta \\frac{\\partial C}{\\partial w}")}
      <p class="put">${steps}<var>C</var> = ${long(this.r.C)}. One update with η = ${state.rate} makes it <b>${long(after)}</b>.</p></div>`;
  }

}

function captionOf(array) {
  if (!/^d./.test(array)) return `<var>${array}</var>`;
  return `<span class="slope">∂<var>C</var>/∂<var>${array.slice(1)}</var></span>`;
}

const numberOr = (text) => (text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text);
