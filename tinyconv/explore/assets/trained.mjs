// A trained network: a digit that is drawn, what its layers make of it, where its gradient goes.

import { ends, gradient, limitOf, mixed } from "./colours.mjs";
import { backward, forward, read, receptiveField } from "./layers.mjs";
import { math, long, short } from "./notation.mjs";
import { array, crossEntropy, softmax } from "./ops.mjs";

const MOST_MAPS = 48;
const SHIFTS = { left: [0, -1], right: [0, 1], up: [-1, 0], down: [1, 0] };

export class Trained {
  constructor(root, packed, store) {
    this.root = root;
    this.store = store;
    this.before = null; // probabilities before the last change
    this.hovered = "";
    if (!packed) {
      root.querySelector(".missing").hidden = false;
      root.querySelector(".trained").hidden = true;
      root.querySelector(".words").hidden = true;
      return;
    }
    this.net = read(packed);
    this.build();
    this.listen();
  }

  $(selector) {
    return this.root.querySelector(selector);
  }

  build() {
    const { net } = this;
    const [, H, W] = net.input;
    Object.assign(this.$(".draw"), { width: W, height: H });
    const target = this.$("[name=target]");
    target.innerHTML =
      '<option value="">the likeliest class</option>' +
      net.classes.map((name, k) => `<option value="${k}">${escaped(name)}</option>`).join("");
    this.$(".samples").innerHTML = net.samples
      .map(({ label }, n) => `<button data-sample="${n}" aria-label="Sample: ${escaped(net.classes[label])}"><canvas width="${W}" height="${H}"></canvas></button>`)
      .join("");
    this.$(".probabilities").innerHTML = net.classes
      .map((name, k) => `<span>${escaped(name)}</span><span class="track"><span class="fill"></span><span class="before" hidden></span></span><span class="number" data-class="${k}"></span>`)
      .join("");
    this.$(".layers").innerHTML =
      this.pairs(-1, "Image", net.input) +
      net.layers.map(({ title, shape, hidden }, n) => (hidden ? "" : this.pairs(n, title, shape))).join("");
  }

  pairs(n, title, shape) {
    const isMaps = shape.length === 3;
    const count = isMaps ? shape[0] : 1;
    const shown = Math.min(count, MOST_MAPS);
    const [width, height] = isMaps ? [shape[2], shape[1]] : [shape[0], 1];
    const side = (kind) => {
      const maps = Array.from({ length: shown }, (_, c) =>
        `<button class="map${isMaps ? "" : " vector"}" data-unit="${n}.${c}" data-kind="${kind}" tabindex="${c ? -1 : 0}"
          aria-label="${title}, ${kind}${isMaps ? `, map ${c}` : ""}"><canvas width="${width}" height="${height}"></canvas></button>`);
      const left = count > shown ? `<p>and ${count - shown} more maps</p>` : "";
      return `<div class="side"><p>${kind} <span class="mini"></span> <span class="range" data-range="${n}.${kind}"></span></p>
        <div class="maps${isMaps ? (count > 3 ? "" : " large") : " vector"}">${maps.join("")}</div>${left}</div>`;
    };
    return `<article class="layer"><header><h3>${n < 0 ? "" : `${n} `}${title} <small>${shape.join(" × ")}</small></h3></header>
      <div class="pair">${side("values")}${side("gradients")}</div></article>`;
  }

  listen() {
    const { root } = this;
    const paper = this.$(".draw");
    let last = null;
    const paint = (event) => {
      const box = paper.getBoundingClientRect();
      const to = [
        ((event.clientX - box.left) / box.width) * paper.width,
        ((event.clientY - box.top) / box.height) * paper.height,
      ];
      this.stroke(last ?? to, to);
      last = to;
    };
    paper.addEventListener("pointerdown", (event) => {
      paper.setPointerCapture(event.pointerId);
      this.before = null;
      paint(event);
    });
    paper.addEventListener("pointermove", (event) => {
      if (event.buttons && last) paint(event);
    });
    for (const kind of ["pointerup", "pointercancel"]) paper.addEventListener(kind, () => (last = null));
    paper.addEventListener("keydown", (event) => {
      const act = event.key.replace("Arrow", "").toLowerCase();
      if (!(act in SHIFTS)) return;
      event.preventDefault();
      this.shift(...SHIFTS[act]);
    });
    root.addEventListener("change", ({ target }) => {
      if (target.name === "target") this.store.set({ target: target.value });
    });
    root.addEventListener("click", (event) => this.clicked(event));
    const layers = this.$(".layers");
    layers.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "mouse") return;
      const unit = unitUnder(event);
      if (unit === this.hovered) return;
      this.hovered = unit;
      this.mark();
    });
    layers.addEventListener("pointerleave", () => {
      this.hovered = "";
      this.mark();
    });
    layers.addEventListener("keydown", (event) => this.pressed(event));
  }

  clicked(event) {
    const button = event.target.closest("button");
    if (!button) return;
    const { act, sample, unit } = button.dataset;
    if (act === "clear") this.change({ image: this.written(array(this.net.input)) }, false);
    else if (act === "off") this.toggle();
    else if (act in SHIFTS) this.shift(...SHIFTS[act]);
    else if (sample !== undefined) this.change({ sample, image: "" }, false);
    else if (unit !== undefined) {
      const chosen = event.detail ? unitUnder(event) : this.middle(unit);
      this.store.set({ unit: chosen });
    }
  }

  pressed(event) {
    const act = event.key.replace("Arrow", "").toLowerCase();
    const map = event.target.dataset?.unit;
    if (!map || !(act in SHIFTS)) return;
    event.preventDefault();
    const { unit } = this.store.get();
    const [n, c, h, w] = (unit.startsWith(`${map}.`) ? unit : this.middle(map)).split(".").map(Number);
    const [down, across] = SHIFTS[act];
    const next = [n, c, h + down, w + across].join(".");
    if (this.fits(next)) this.store.set({ unit: next });
  }

  middle(map) {
    const shape = this.shapeOf(Number(map.split(".")[0]));
    const [h, w] = shape.length === 3 ? [shape[1] >> 1, shape[2] >> 1] : [0, 0];
    return `${map}.${h}.${w}`;
  }

  shapeOf(n) {
    return n < 0 ? this.net.input : this.net.layers[n]?.shape;
  }

  fits(unit) {
    const place = unit.split(".").map(Number);
    const shape = this.shapeOf(place[0]);
    if (!shape || place.length !== 4 || this.net.layers[place[0]]?.hidden) return false;
    const [C, H, W] = shape.length === 3 ? shape : [1, 1, shape[0]];
    return [C, H, W].every((size, axis) => place[axis + 1] >= 0 && place[axis + 1] < size);
  }

  // A change that the bars compare with what was before.
  change(changes, compare = true) {
    this.before = compare ? this.y : null;
    this.store.set(changes);
  }

  toggle() {
    const [n, c] = this.store.get().unit.split(".");
    const off = new Set(this.off);
    const key = `${n}.${c}`;
    if (!off.delete(key)) off.add(key);
    this.change({ off: [...off].join("_") });
  }

  shift(down, across) {
    const [C, H, W] = this.net.input;
    const moved = array(this.net.input);
    for (let c = 0; c < C; c++) {
      for (let h = 0; h < H; h++) {
        for (let w = 0; w < W; w++) {
          const [row, column] = [h - down, w - across];
          if (row < 0 || column < 0 || row >= H || column >= W) continue;
          moved.data[(c * H + h) * W + w] = this.image.data[(c * H + row) * W + column];
        }
      }
    }
    this.change({ image: this.written(moved) });
  }

  stroke([x0, y0], [x1, y1]) {
    const [C, H, W] = this.net.input;
    const image = array(this.net.input, this.image.data);
    const radius = Math.max(H, W) / 20;
    const steps = Math.ceil(Math.hypot(x1 - x0, y1 - y0) * 2) || 1;
    for (let n = 0; n <= steps; n++) {
      const [x, y] = [x0 + ((x1 - x0) * n) / steps, y0 + ((y1 - y0) * n) / steps];
      for (let h = 0; h < H; h++) {
        for (let w = 0; w < W; w++) {
          const ink = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(w + 0.5 - x, h + 0.5 - y)));
          for (let c = 0; c < C; c++) {
            const at = (c * H + h) * W + w;
            image.data[at] = Math.max(image.data[at], ink);
          }
        }
      }
    }
    this.store.set({ image: this.written(image) });
  }

  // The first channel in sixteenths, a letter a pixel; a drawing has no colours.
  written(image) {
    const [, H, W] = this.net.input;
    return [...image.data.slice(0, H * W)]
      .map((value) => Math.round(15 * Math.min(1, Math.max(0, value))).toString(16))
      .join("");
  }

  imageOf({ image, sample }) {
    const [C, H, W] = this.net.input;
    if (image.length !== H * W) return (this.net.samples[sample] ?? this.net.samples[0]).image;
    const plane = [...image].map((letter) => parseInt(letter, 16) / 15);
    return array(this.net.input, Array.from({ length: C }, () => plane).flat());
  }

  // Drawing.

  draw() {
    if (!this.net) return;
    const { net } = this;
    const state = this.store.get();
    this.image = this.imageOf(state);
    this.off = new Set(state.off.split("_").filter((key) => this.fits(`${key}.0.0`)));
    this.passes = forward(net, this.image, this.off);
    const logits = this.passes.at(-1).shown;
    this.y = [...softmax(logits).data];
    const likeliest = this.y.indexOf(Math.max(...this.y));
    const chosen = state.target === "" ? likeliest : Math.min(Number(state.target), this.y.length - 1);
    this.gradients = backward(net, this.passes, chosen, this.off);

    picture(this.$(".draw"), this.image, null);
    this.root.querySelectorAll("[data-sample]").forEach((button, n) => {
      picture(button.firstChild, net.samples[n].image, null);
    });
    this.$("[name=target]").value = state.target;
    this.$(".cost-of").textContent = `cost of ${net.classes[chosen]}: ${long(crossEntropy(logits, chosen))}`;
    this.bars();
    for (const n of [-1, ...net.layers.keys()]) {
      if (n >= 0 && net.layers[n].hidden) continue;
      this.layer(n, "values", n < 0 ? this.image : this.passes[n].shown);
      this.layer(n, "gradients", this.gradients[n + 1]);
    }
    this.mark();
  }

  bars() {
    const fills = this.root.querySelectorAll(".fill");
    const marks = this.root.querySelectorAll(".before");
    this.y.forEach((value, k) => {
      fills[k].style.width = `${100 * value}%`;
      this.$(`[data-class="${k}"]`).textContent = `${(100 * value).toFixed(1)} %`;
      marks[k].hidden = !this.before;
      if (this.before) marks[k].style.left = `calc(${100 * this.before[k]}% - 1px)`;
    });
  }

  layer(n, kind, tensor) {
    const limit = limitOf([tensor.data]);
    const range = this.$(`[data-range="${n}.${kind}"]`);
    range.textContent = `±${short(limit, 6)}`;
    range.previousElementSibling.style.background = gradient();
    for (const button of this.root.querySelectorAll(`[data-unit^="${n}."][data-kind=${kind}]`)) {
      const c = Number(button.dataset.unit.split(".")[1]);
      picture(button.firstChild, tensor, limit, c);
      button.classList.toggle("off", this.off.has(`${n}.${c}`));
    }
  }

  // Marks the chosen unit, and the part of the image that it sees.
  mark() {
    const state = this.store.get();
    const unit = this.hovered || (this.fits(state.unit) ? state.unit : "");
    const [n, c, h, w] = unit.split(".").map(Number);
    for (const old of this.root.querySelectorAll(".unit")) old.remove();
    for (const button of this.root.querySelectorAll("[data-unit]")) {
      const isSelf = unit !== "" && button.dataset.unit === `${n}.${c}`;
      button.classList.toggle("self", isSelf);
      if (isSelf) button.append(square(this.boxOf(n), [[h, h], [w, w]], "unit"));
    }
    const field = this.$(".field");
    field.hidden = !unit;
    this.$(".words").innerHTML = unit ? this.said(n, c, h, w) : this.nothing();
    if (!unit) return;
    const seen = this.seen(n, h, w);
    place(field, this.net.input.slice(1), seen);
  }

  boxOf(n) {
    const shape = this.shapeOf(n);
    return shape.length === 3 ? shape.slice(1) : [1, shape[0]];
  }

  seen(n, h, w) {
    if (n < 0) return [[h, h], [w, w]];
    const isMap = this.net.layers[n].shape.length === 3;
    return receptiveField(this.net, n, isMap ? [h, w] : [0, 0]);
  }

  nothing() {
    return '<p class="hint">Draw a digit, or take a sample; move it by a pixel with the arrows. Point at a unit of any map to see what it looks at; click it to keep it, and to switch its filter off.</p>';
  }

  said(n, c, h, w) {
    const shape = this.shapeOf(n);
    const [, H, W] = shape.length === 3 ? shape : [1, 1, shape[0]];
    const at = (c * H + h) * W + w;
    const value = (n < 0 ? this.image : this.passes[n].shown).data[at];
    const gradient = this.gradients[n + 1].data[at];
    const name = n < 0 ? "Image" : `${n} ${this.net.layers[n].title}`;
    const where = shape.length === 3 ? `map ${c}, row ${h}, column ${w}` : `unit ${w}`;
    const [[top, bottom], [left, right]] = this.seen(n, h, w);
    const equation = n >= 0 && this.net.layers[n].equation;
    const isOff = this.off.has(`${n}.${c}`);
    const isChosen = this.store.get().unit.startsWith(`${n}.${c}.`);
    const button = n >= 0 && shape.length === 3 && isChosen
      ? `<button data-act="off">${isOff ? "Switch this filter on" : "Switch this filter off"}</button>`
      : "";
    return `<div class="sum-up"><h4>${name}: ${where}</h4>
      <p class="put">value <b>${long(value)}</b>, gradient of the cost <b>${long(gradient)}</b></p>
      <p>It sees rows ${top} to ${bottom} and columns ${left} to ${right} of the image: ${bottom - top + 1} × ${right - left + 1} pixels.</p>${button}</div>
      ${equation ? `<div>${math(equation)}</div>` : ""}`;
  }
}

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");

// Draws a channel on a scale; with no limit an image as ink on paper, in colour where it has three.
function picture(canvas, tensor, limit, channel = 0) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  const size = width * height;
  const scale = ends();
  const isColour = limit === null && tensor.shape[0] === 3;
  for (let n = 0; n < size; n++) {
    let rgb;
    if (isColour) rgb = [0, 1, 2].map((c) => 255 * tensor.data[c * size + n]);
    else if (limit === null) rgb = Array(3).fill(255 * (1 - Math.min(1, Math.max(0, tensor.data[n]))));
    else rgb = mixed(tensor.data[channel * size + n], limit, scale);
    pixels.data.set([...rgb, 255], 4 * n);
  }
  context.putImageData(pixels, 0, 0);
}

// A frame around rows and columns of a box of so many, in parts of it.
function square([rows, columns], seen, kind = "") {
  const frame = document.createElement("span");
  frame.className = kind;
  place(frame, [rows, columns], seen);
  return frame;
}

function place(element, [rows, columns], [[top, bottom], [left, right]]) {
  Object.assign(element.style, {
    top: `${(100 * top) / rows}%`,
    left: `${(100 * left) / columns}%`,
    height: `${(100 * (bottom - top + 1)) / rows}%`,
    width: `${(100 * (right - left + 1)) / columns}%`,
  });
}

// The unit under the pointer, "layer.map.row.column".
function unitUnder(event) {
  const button = event.target.closest?.("[data-unit]");
  if (!button) return "";
  const canvas = button.firstChild;
  const box = canvas.getBoundingClientRect();
  const part = (at, size, count) => Math.min(count - 1, Math.max(0, Math.floor((at / size) * count)));
  const row = part(event.clientY - box.top, box.height, canvas.height);
  const column = part(event.clientX - box.left, box.width, canvas.width);
  return `${button.dataset.unit}.${row}.${column}`;
}
