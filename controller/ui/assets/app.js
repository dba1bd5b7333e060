// The page: what comes in by the stream, what the filters leave of it, where it is drawn.

import { Matrix } from "./matrix.js";
import { Panel } from "./panel.js";
import { TONES, apply, empty, fromSnapshot, view } from "./state.js";
import { listen } from "./stream.js";
import { element, plural } from "./words.js";

const MEANINGS = {
  trouble: "failed, or without space",
  lost: "node not ready, or agent silent",
  moving: "being fetched",
  waiting: "not begun",
  leaving: "being removed",
  ready: "complete",
};

const at = (id) => document.getElementById(id);
const filters = { cache: "", node: "", tones: new Set() };
let state = empty();

const panel = new Panel(at("panel"), () => matrix.refocus());
const matrix = new Matrix(at("matrix"), ({ cache, node }) => {
  panel.open({ cache: state.caches.get(cache)?.name ?? null, node: state.nodes.get(node)?.name ?? null });
});
const chips = TONES.map(chip);
at("tones").append(...chips.map(({ button }) => button));

function chip(tone) {
  const count = element("b", {}, "0");
  const button = element("button", { type: "button", class: "chip", "aria-pressed": "false", title: MEANINGS[tone] });
  button.append(element("span", { class: `dot ${tone}` }), `${tone} `, count);
  button.addEventListener("click", () => {
    if (!filters.tones.delete(tone)) filters.tones.add(tone);
    render();
  });
  return { tone, button, count };
}

for (const kind of ["cache", "node"]) {
  at(`${kind}-filter`).addEventListener("input", (event) => {
    filters[kind] = event.target.value;
    render();
  });
}
at("filters").addEventListener("submit", (event) => event.preventDefault());

// The filters are in the address, so that a wall keeps them when it is started again.
function remember() {
  const kept = new URLSearchParams();
  if (filters.cache) kept.set("cache", filters.cache);
  if (filters.node) kept.set("node", filters.node);
  if (filters.tones.size) kept.set("state", [...filters.tones].join(" "));
  const wanted = kept.size ? `#${kept}` : location.pathname;
  if (location.hash !== (kept.size ? wanted : "")) history.replaceState(null, "", wanted);
}

function recall() {
  const kept = new URLSearchParams(location.hash.slice(1));
  filters.cache = at("cache-filter").value = kept.get("cache") ?? "";
  filters.node = at("node-filter").value = kept.get("node") ?? "";
  filters.tones = new Set((kept.get("state") ?? "").split(" ").filter((tone) => TONES.includes(tone)));
}

function render() {
  const shown = view(state, filters);
  matrix.show(state, shown, filters.tones);
  TONES.forEach((tone, index) => {
    put(chips[index].count, String(shown.sum[index]));
    chips[index].button.setAttribute("aria-pressed", String(filters.tones.has(tone)));
  });
  put(at("sum"), `${plural(state.caches.size, "cache", "caches")} on ${plural(state.nodes.size, "node", "nodes")}, ${plural(shown.sum[0], "copy", "copies")} in trouble`);
  const problems = state.head.problems ?? [];
  at("problems").hidden = !problems.length;
  at("problems").replaceChildren(...problems.map((text) => element("li", {}, text)));
  const nothing = !state.caches.size ? "There is no cache yet." : !shown.rows.length || !shown.columns.length ? "Nothing is as the filters want it." : "";
  at("nothing").hidden = !nothing || !state.head.replica;
  put(at("nothing"), nothing);
  remember();
}

function put(where, text) {
  if (where.textContent !== text) where.textContent = text;
}

addEventListener("hashchange", () => {
  recall();
  render();
});

recall();
render();
listen({
  snapshot(data) {
    state = fromSnapshot(data);
    render();
    told();
    panel.refresh();
  },
  changes(data) {
    panel.changed(apply(state, data));
    render();
    told();
  },
  link(up, why) {
    document.body.classList.toggle("stale", !up);
    if (!up) put(at("link"), `not connected: ${why}`);
  },
});

function told() {
  put(at("link"), state.head.replica ? `live from ${state.head.replica}, which ${state.head.leading ? "leads" : "waits to lead"}` : "live");
}
