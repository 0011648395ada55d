// What stands below the stages: the equation of the chosen number, with its numbers put in.

import { colours } from "./colours.mjs";
import { valueOf } from "./explain.mjs";
import { bracketed, long, math, short } from "./notation.mjs";
import { EDITABLE } from "./state.mjs";

const MOST_TERMS = 12;

export function panel(said, r, limit) {
  const { cell, title, rule, equation, lead, terms, put, total, tables, words } = said;
  const isEdited = EDITABLE.has(cell.split(".")[0]);
  const value = cell === "C" ? r.C : valueOf(r, cell);
  const field = isEdited
    ? `<label class="value">value <input name="value" type="number" step="any" value="${Number(value.toFixed(6))}"></label>`
    : "";
  const sum = total === undefined ? "" : `<p class="put">${put ?? written(lead, terms)} = <b>${long(total)}</b></p>`;
  return `<div class="sum-up"><h4>${title}${rule ? ` <span class="rule">${rule}</span>` : ""}</h4>
    ${equation ? math(equation) : ""}${sum}<p>${words}</p>${field}</div>
    ${tables.length ? `<div class="tables">${lines(tables, limit)}</div>` : ""}`;
}

// A line for each map: factors and products stay together.
function lines(list, limit) {
  const drawn = list.map((each) => table(each, limit));
  let html = "";
  for (let n = 0; n < drawn.length; n += 3) html += `<div>${drawn.slice(n, n + 3).join("")}</div>`;
  return html;
}

function table({ sign, caption, rows }, limit) {
  const cells = rows.flat().map((value) => {
    if (value === null) return '<span class="cell none">–</span>';
    const { ground, ink } = colours(value, limit);
    const text = short(value);
    const kind = text.length > 4 ? " long" : "";
    return `<span class="cell${kind}" style="background: ${ground}; color: ${ink}">${text}</span>`;
  });
  return `${sign ? `<span class="sign">${sign}</span>` : ""}<figure><figcaption>${caption}</figcaption>
    <div class="grid" style="--columns: ${rows[0].length}">${cells.join("")}</div></figure>`;
}

// The sum with its numbers. Products with a factor 0 are counted, not written, where there are many.
function written(lead, terms) {
  const isLong = terms.length > MOST_TERMS;
  const shown = isLong ? terms.filter((factors) => factors.every((each) => each !== 0)) : terms;
  const list = shown.slice(0, 2 * MOST_TERMS).map(
    (factors) => `<span>${factors.map(bracketed).join(" · ")}</span>`);
  if (lead !== undefined) list.unshift(`<span>${long(lead)}</span>`);
  const left = terms.length - Math.min(shown.length, 2 * MOST_TERMS);
  const why = shown.length > 2 * MOST_TERMS ? "not written" : "0";
  const others = left ? `<span>${left} ${left === 1 ? "term that is" : "terms that are"} ${why}</span>` : "";
  if (others) list.push(others);
  return list.length ? list.join(" + ") : "0";
}
