// The panel: one cache, one node, or one copy with both.

import { bytes, element, plural, prose, time } from "./words.js";

const AGAIN_MS = 2_000; // between two questions, however often something changes
const ANYWAY_MS = 30_000; // what no cell tells, as rates and services, is asked for this often

const LATER = Symbol("the controller has too much to do");

export class Panel {
  constructor(panel, closed) {
    this.panel = panel;
    this.closed = closed;
    this.subject = null;
    panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
    setInterval(() => this.refresh(), ANYWAY_MS);
  }

  // subject: {cache, node}: names, or null.
  open(subject) {
    this.subject = subject;
    this.asked = 0;
    this.panel.hidden = false;
    this.fill(element("p", {}, "…"));
    this.refresh();
    this.panel.focus();
  }

  close() {
    this.subject = null;
    this.panel.hidden = true;
    this.panel.replaceChildren();
    this.closed();
  }

  changed(touched) {
    if (this.subject && (touched.caches.has(this.subject.cache) || touched.nodes.has(this.subject.node))) this.refresh();
  }

  refresh() {
    if (!this.subject || this.timer) return;
    const wait = Math.max(0, (this.asked ?? 0) + AGAIN_MS - Date.now());
    this.timer = setTimeout(async () => {
      this.timer = 0;
      this.asked = Date.now();
      await this.ask(this.subject);
    }, wait);
  }

  async ask(subject) {
    if (!subject) return;
    const [cache, node] = await Promise.all([load("cache", subject.cache), load("node", subject.node)]);
    if (subject !== this.subject) return;
    if (cache === LATER || node === LATER) {
      this.refresh();
      return;
    }
    const parts = [];
    if (cache && node) parts.push(copyPart(cache, node));
    if (cache) parts.push(cachePart(cache));
    if (node) parts.push(nodePart(node));
    if (parts.length) this.fill(...parts);
    else this.fill(element("p", {}, "It is gone, or the controller does not answer."));
  }

  fill(...parts) {
    const close = element("button", { type: "button", class: "close", "aria-label": "Close" }, "×");
    close.addEventListener("click", () => this.close());
    const hadFocus = this.panel.querySelector(".close") === document.activeElement;
    const { scrollTop } = this.panel;
    this.panel.replaceChildren(close, ...parts);
    this.panel.scrollTop = scrollTop;
    if (hadFocus) close.focus();
  }
}

async function load(kind, name) {
  if (name === null) return null;
  try {
    const answer = await fetch(`${kind}?name=${encodeURIComponent(name)}`);
    if (answer.status === 429 || answer.status === 503) return LATER;
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

function copyPart(cache, node) {
  const model = node.models.find((one) => one.name === cache.name);
  if (!model) return element("section", {}, element("h2", {}, "No copy"), element("p", {}, `${cache.name} has none on ${node.name}.`));
  return element(
    "section",
    { class: "copy" },
    element("h2", {}, element("span", { class: `dot ${model.tone}` }), `${model.reason} ${model.percent} %`),
    element("p", { class: "message" }, model.message),
    facts({
      done: `${bytes(model.bytes)} of ${bytes(model.total)}`,
      rate: model.rate ? `${bytes(model.rate)}/s` : null,
      "tried again": model.retry && time(model.retry),
      complete: model.completed && time(model.completed),
    }),
  );
}

function cachePart(cache) {
  return element(
    "section",
    { class: "cache" },
    element("h2", {}, cache.name),
    facts({
      source: cache.uri,
      size: bytes(cache.size),
      revision: cache.revision,
      groups: cache.groups.join(", "),
      "used by": cache.services.join(", ") || null,
      defect: cache.defect,
    }),
    ...cache.conditions.map((one) =>
      element("p", { class: "condition" }, element("b", {}, `${one.type} ${one.status}`), ` ${one.reason}: ${one.message}`),
    ),
    element("h3", {}, "Copies"),
    ...cache.copies.map(groupPart),
    element("h3", {}, "Timeline"),
    element("ol", { class: "timeline" }, ...cache.timeline.map(momentPart)),
  );
}

function groupPart(group) {
  const more = group.count > group.nodes.length ? ` and ${group.count - group.nodes.length} more` : "";
  const wrong = group.tone === "trouble" || group.tone === "lost";
  return element(
    "div",
    { class: "group" },
    element("p", {}, element("span", { class: `dot ${group.tone}` }), element("b", {}, `${group.count} × ${group.reason}`), ` ${group.nodes.join(", ")}${more}`),
    wrong ? element("p", { class: "message" }, group.message) : null,
    wrong ? element("p", {}, ...prose(`${group.meaning} ${group.next}`)) : null,
    wrong && group.action ? element("p", {}, element("b", {}, "To do: "), ...prose(group.action)) : null,
    group.retry ? element("p", {}, `Tried again at ${time(group.retry)}`) : null,
  );
}

function momentPart(moment) {
  const at = element("time", { datetime: moment.at }, time(moment.at));
  return element("li", {}, element("span", { class: `dot ${moment.tone}` }), at, ` ${moment.what}`);
}

function nodePart(node) {
  const state = node.silent ? "its agent is silent" : node.ready ? "ready" : "not ready";
  return element(
    "section",
    { class: "node" },
    element("h2", {}, node.name),
    facts({ state, groups: node.groups.join(", ") }),
    ...diskPart(node),
    element(
      "table",
      {},
      element("caption", {}, plural(node.models.length, "model", "models")),
      element("thead", {}, element("tr", {}, ...["model", "state", "on disk"].map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {}, ...node.models.map(modelRow)),
    ),
  );
}

function modelRow(model) {
  const share = model.tone === "ready" ? "" : ` ${model.percent} %`;
  const rate = model.rate ? `, ${bytes(model.rate)}/s` : "";
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, element("span", { class: `dot ${model.tone}` }), model.name),
    element("td", { title: model.message }, `${model.reason}${share}${rate}`),
    element("td", {}, model.shared ? "shared" : bytes(model.bytes)),
  );
}

// The disk as a bar: each model, what is not the cache's, what is kept free, what is free for models.
function diskPart(node) {
  const { capacity, free, kept, models } = node.disk;
  if (!capacity) return [element("p", {}, "Its disk is not known: no agent has told of it.")];
  const others = Math.max(0, capacity - free - kept - models);
  const segments = node.models
    .filter((model) => !model.shared && model.bytes)
    .map((model) => [model.tone, model.bytes, `${model.name}: ${bytes(model.bytes)}`]);
  segments.push(["others", others, `not models: ${bytes(others)}`], ["kept", kept, `kept free: ${bytes(kept)}`], ["free", free, `free: ${bytes(free)}`]);
  const whole = segments.reduce((sum, [, size]) => sum + size, 0);
  const bar = element("div", { class: "disk", role: "img" });
  for (const [tone, size, text] of segments) {
    const part = element("i", { class: tone, title: text });
    part.style.width = `${(100 * size) / whole}%`;
    bar.append(part);
  }
  const told = `${bytes(models)} of models, ${bytes(others)} of others, ${bytes(kept)} kept free, ${bytes(free)} free of ${bytes(capacity)}`;
  bar.setAttribute("aria-label", `Disk: ${told}`);
  return [bar, element("p", {}, told)];
}

function facts(pairs) {
  const known = Object.entries(pairs).filter(([, value]) => value);
  return element("dl", {}, ...known.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}
