// Starts the page: reads its data and its address, and keeps both views in step with them.

import { check } from "./check.mjs";
import { Hand } from "./hand.mjs";
import { fromAddress, toAddress } from "./state.mjs";
import { Trained } from "./trained.mjs";

const data = JSON.parse(document.querySelector("#data").textContent);
let state = fromAddress(location.hash, data.example);

const store = {
  get: () => state,
  set(changes) {
    state = { ...state, ...changes };
    history.replaceState(null, "", toAddress(state, data.example));
    show();
  },
};

const hand = new Hand(document.querySelector("#hand"), data.example, store);
const trained = new Trained(document.querySelector("#net"), data.net, store);

function show() {
  for (const mode of ["hand", "net"]) {
    const isShown = state.mode === mode;
    document.querySelector(`#${mode}`).hidden = !isShown;
    document.querySelector(`#tab-${mode}`).setAttribute("aria-selected", isShown);
  }
  document.querySelector(".scale").hidden = state.mode !== "hand";
  if (state.mode === "hand") hand.draw();
  else trained.draw();
}

document.querySelector("nav").addEventListener("click", (event) => {
  const { mode } = event.target.dataset;
  if (mode) {
    hand.pause();
    store.set({ mode });
  }
});
addEventListener("hashchange", () => {
  hand.pause();
  state = fromAddress(location.hash, data.example);
  show();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);

document.querySelector(".check").textContent = check(data);
show();
