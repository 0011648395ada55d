// Equations as MathML, written in the few words of TeX that the page needs; and numbers as text.

const SYMBOLS = {
  partial: "∂", sigma: "σ", sum: "∑", cdot: "·", max: "max", ln: "ln", exp: "exp", tanh: "tanh",
  eta: "η", leftarrow: "←", in: "∈", le: "≤", gt: ">", alpha: "α", prime: "′",
};
const OPERATORS = new Set(["·", "←", "∈", "≤", ">"]);
const NAMES = new Set(["max", "ln", "exp", "tanh"]);

// Returns a <math> element for, say, "z_{f;pq} = b_f + \sum_{i,j} w_{f;ij}".
export function math(source, display = true) {
  const tokens = source.match(/\\[a-z]+|[0-9]+(?:\.[0-9]+)?|\s+|./gu).filter((t) => t.trim());
  let at = 0;

  function group() {
    if (tokens[at] !== "{") return atom();
    at++;
    const inside = row("}");
    at++;
    return inside;
  }

  function words() {
    // The blanks of a text were dropped with the others; "~" stands for one.
    let text = "";
    for (at++; tokens[at] !== "}"; at++) text += tokens[at] === "~" ? " " : tokens[at];
    at++;
    return `<mtext>${text}</mtext>`;
  }

  function atom() {
    const token = tokens[at++];
    if (token === "\\frac") return `<mfrac>${group()}${group()}</mfrac>`;
    if (token === "\\sqrt") return `<msqrt>${group()}</msqrt>`;
    if (token === "\\text") return words();
    if (token === "~") return '<mspace width="0.3em"></mspace>';
    const letter = token.startsWith("\\") ? SYMBOLS[token.slice(1)] : token;
    if (letter === undefined) throw new Error(`no symbol ${token}`);
    if (letter === "∑" || letter === "max") return `<mo movablelimits="false">${letter}</mo>`;
    if (NAMES.has(letter)) return `<mi>${letter}</mi>`;
    if (/^[0-9]/.test(letter)) return `<mn>${letter}</mn>`;
    if (/^\p{L}|∂/u.test(letter)) return `<mi>${letter}</mi>`;
    if (letter === "-") return "<mo>−</mo>";
    return OPERATORS.has(letter) ? `<mo>${letter}</mo>` : `<mo stretchy="false">${letter}</mo>`;
  }

  function row(end) {
    let items = "";
    while (at < tokens.length && tokens[at] !== end) {
      const isLimit = tokens[at] === "\\sum" || tokens[at] === "\\max";
      let item = tokens[at] === "{" ? group() : atom();
      let below = null;
      let above = null;
      while (tokens[at] === "_" || tokens[at] === "^") {
        const isBelow = tokens[at++] === "_";
        if (isBelow) below = group();
        else above = group();
      }
      if (isLimit && below) item = `<munder>${item}${below}</munder>`;
      else if (below && above) item = `<msubsup>${item}${below}${above}</msubsup>`;
      else if (below) item = `<msub>${item}${below}</msub>`;
      else if (above) item = `<msup>${item}${above}</msup>`;
      items += item;
    }
    return `<mrow>${items}</mrow>`;
  }

  return `<math${display ? ' display="block"' : ""}>${row()}</math>`;
}

// A number for a cell: two decimals, three below a tenth, a true minus sign, no trailing zeros.
export function short(value, digits) {
  if (!Number.isFinite(value)) return value > 0 ? "∞" : value < 0 ? "−∞" : "?";
  const size = Math.abs(value);
  const decimals = digits ?? (size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.0995 ? 2 : 3);
  if (size !== 0 && size < 0.5 * 10 ** -decimals) return "≈0";
  const text = String(Number(size.toFixed(decimals)));
  return `${value < 0 ? "−" : ""}${digits === undefined ? text.replace(/^0\./, ".") : text}`;
}

// A number for a sum that is written out: four significant decimals.
export function long(value) {
  const size = Math.abs(value);
  const text = size !== 0 && size < 1e-4 ? size.toExponential(1) : String(Number(size.toFixed(4)));
  return `${value < 0 ? "−" : ""}${text}`;
}

// The same as a factor or a term behind a sign: negative ones stand in brackets.
export const bracketed = (value) => (value < 0 ? `(${long(value)})` : long(value));
