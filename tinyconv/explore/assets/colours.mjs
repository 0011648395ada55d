// One scale of colours, centred on zero: blue is negative, orange positive. The two differ in the
// eyes of the colour-blind as well, and in lightness from the middle.
//
// Values are shown by the square root of their size, so that small gradients can be seen beside
// large values; the bar of the page says so.

const LIGHT = { middle: [250, 250, 248], minus: [32, 98, 172], plus: [203, 92, 8] };
const DARK = { middle: [38, 41, 46], minus: [92, 168, 240], plus: [250, 148, 60] };

const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;

export const ends = () => (dark() ? DARK : LIGHT);

export function mixed(value, limit, scale = ends()) {
  const part = Math.min(1, Math.sqrt(Math.abs(value) / (limit || 1)));
  const end = value < 0 ? scale.minus : scale.plus;
  return scale.middle.map((from, n) => Math.round(from + part * (end[n] - from)));
}

const luminance = (rgb) => {
  const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

// The background and the better of black and white text on it.
export function colours(value, limit) {
  const rgb = mixed(value, limit);
  const light = luminance(rgb);
  const ink = 1.05 / (light + 0.05) > (light + 0.05) / 0.05 ? "#fff" : "#111";
  return { ground: `rgb(${rgb.join(" ")})`, ink };
}

// The next power of two, so that the scale stays where it is while numbers change a little.
export function limitOf(arrays) {
  let largest = 0;
  for (const each of arrays) for (const value of each) largest = Math.max(largest, Math.abs(value));
  return largest ? 2 ** Math.ceil(Math.log2(largest) - 1e-9) : 1;
}

// The whole scale from left to right.
export function gradient() {
  const stops = [];
  for (let n = -10; n <= 10; n++) stops.push(`rgb(${mixed(n, 10).join(" ")}) ${50 + 5 * n}%`);
  return `linear-gradient(to right, ${stops.join(", ")})`;
}

// A bar with its ends, quarters and middle.
export function bar(limit, format) {
  const ticks = [-limit, -limit / 4, 0, limit / 4, limit];
  return `<span class="bar" style="background: ${gradient()}"></span>
    <span class="ticks">${ticks.map((v) => `<span style="left: ${50 + (50 * v) / limit}%">${format(v)}</span>`).join("")}</span>`;
}
