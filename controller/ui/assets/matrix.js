// Draws the part of the matrix that can be seen, and lets the keyboard walk through all of it.

import { TONES, cell } from "./state.js";
import { element, plural } from "./words.js";

const ROW = 26;
const NARROW = 24;
const WIDE = 170;
const READABLE = 96; // from this width on a cell has room for its reason
const HEAD = 200; // of upright names, at most; a longer one is cut, and told in full by its label
const LETTER = 9;
const SPARE = 3; // rows and columns beyond the edge, so that scrolling shows no gaps
const MARKS = { trouble: "!", lost: "?", moving: "↓", waiting: "·", leaving: "×", ready: "✓" };

export class Matrix {
  // choose({cache, node}): slots, null for a heading's other side.
  constructor(grid, choose) {
    this.grid = grid;
    this.choose = choose;
    this.state = null;
    this.shown = { rows: [], columns: [] };
    this.tones = new Set();
    this.focus = { cache: null, node: null };
    this.lines = new Map(); // cache's slot, null for the headings → {line, cells: node's slot, null for the name → element}
    this.space = element("div", { class: "space", role: "presentation" });
    grid.append(this.space);
    grid.addEventListener("scroll", () => this.later(), { passive: true });
    grid.addEventListener("keydown", (event) => this.key(event));
    grid.addEventListener("click", (event) => this.click(event));
    grid.addEventListener("focusin", (event) => this.focused(event));
    new ResizeObserver(() => this.later()).observe(grid);
  }

  show(state, shown, tones) {
    Object.assign(this, { state, shown, tones });
    this.longest = shown.columns.reduce((most, slot) => Math.max(most, state.nodes.get(slot).name.length), 0);
    this.grid.setAttribute("aria-rowcount", shown.rows.length + 1);
    this.grid.setAttribute("aria-colcount", shown.columns.length + 1);
    this.later();
  }

  later() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.draw();
    });
  }

  measure() {
    const { clientWidth, clientHeight } = this.grid;
    const name = Math.min(280, Math.floor(clientWidth * 0.4));
    const count = Math.max(1, this.shown.columns.length);
    const width = Math.min(WIDE, Math.max(NARROW, Math.floor((clientWidth - name) / count)));
    const readable = width >= READABLE;
    return { clientWidth, clientHeight, name, width, readable, head: readable ? 30 : Math.min(HEAD, 24 + LETTER * this.longest) };
  }

  draw() {
    if (!this.state) return;
    const size = (this.size = this.measure());
    const { rows, columns } = this.shown;
    const { scrollTop, scrollLeft } = this.grid;
    this.grid.classList.toggle("readable", size.readable);
    const style = this.space.style;
    style.height = `${size.head + rows.length * ROW}px`;
    style.width = `${size.name + columns.length * size.width}px`;
    style.setProperty("--name", `${size.name}px`);
    style.setProperty("--head", `${size.head}px`);
    style.setProperty("--width", `${size.width}px`);
    const focusRow = rows.indexOf(this.focus.cache);
    const focusColumn = columns.indexOf(this.focus.node);
    // Focus stays where it is, also on what was scrolled away.
    const wantedRows = near(scrollTop, size.clientHeight - size.head, ROW, rows.length, focusRow);
    const wantedColumns = near(scrollLeft, size.clientWidth - size.name, size.width, columns.length, focusColumn);
    this.gone = this.takeFocus();
    const keep = new Set([null, ...wantedRows.map((index) => rows[index])]);
    for (const [slot, line] of this.lines) {
      if (keep.has(slot)) continue;
      line.line.remove();
      this.lines.delete(slot);
    }
    this.drawLine(null, -1, wantedColumns);
    for (const index of wantedRows) this.drawLine(rows[index], index, wantedColumns);
    this.settleFocus();
  }

  drawLine(cache, index, wanted) {
    const { columns } = this.shown;
    let found = this.lines.get(cache);
    if (!found) {
      found = { line: element("div", { role: "row", class: cache === null ? "heads" : "line" }), cells: new Map() };
      this.lines.set(cache, found);
      this.space.append(found.line);
    }
    put(found.line, "aria-rowindex", index + 2);
    if (cache !== null) found.line.style.top = `${this.size.head + index * ROW}px`;
    const keep = new Set([null, ...wanted.map((column) => columns[column])]);
    for (const [node, made] of found.cells) {
      if (keep.has(node)) continue;
      made.remove();
      found.cells.delete(node);
    }
    this.drawCell(found, cache, null, -1);
    for (const column of wanted) this.drawCell(found, cache, columns[column], column);
  }

  drawCell(line, cache, node, column) {
    let made = line.cells.get(node);
    if (!made) {
      const role = cache === null ? "columnheader" : node === null ? "rowheader" : "gridcell";
      made = element("div", { role, tabindex: "-1" });
      made.place = { cache, node };
      line.cells.set(node, made);
      line.line.append(made);
    }
    put(made, "aria-colindex", column + 2);
    if (column >= 0) {
      const left = `${this.size.name + column * this.size.width}px`;
      if (made.style.left !== left) made.style.left = left;
    }
    if (cache === null) this.fillHead(made, node);
    else if (node === null) this.fillName(made, cache);
    else this.fillCell(made, cache, node);
  }

  fillHead(made, node) {
    if (node === null) {
      paint(made, "corner", plural(this.shown.rows.length, "cache", "caches") + ", " + plural(this.shown.columns.length, "node", "nodes"));
      return;
    }
    const info = this.state.nodes.get(node);
    const wrong = info.silent ? "agent silent" : info.ready ? "" : "not ready";
    paint(made, `head ${worst(this.shown.byNode.get(node))}${wrong ? " wrong" : ""}`, info.name);
    put(made, "aria-label", [`node ${info.name}`, wrong, summary(this.shown.byNode.get(node))].filter(Boolean).join(", "));
  }

  fillName(made, cache) {
    const info = this.state.caches.get(cache);
    const counts = this.shown.byCache.get(cache);
    const all = counts.reduce((sum, count) => sum + count, 0);
    const ready = counts[TONES.indexOf("ready")];
    paint(made, `name ${worst(counts)}`, info.name, `${ready}/${all}`);
    put(made, "aria-label", `cache ${info.name}, ${info.reason}, ${ready} of ${all} ready, ${summary(counts)}`);
  }

  fillCell(made, cache, node) {
    const value = this.state.rows.get(node)?.[cache] ?? 0;
    const key = `${value} ${this.size.readable} ${this.tones.size ? [...this.tones] : ""}`;
    if (made.drawn === key) return;
    made.drawn = key;
    const found = cell(this.state, node, cache);
    const names = `${this.state.caches.get(cache).name} on ${this.state.nodes.get(node).name}`;
    if (!found) {
      paint(made, "cell none", "");
      put(made, "aria-label", `${names}: none`);
      made.removeAttribute("title");
      return;
    }
    const faded = this.tones.size && !this.tones.has(found.tone) ? " faded" : "";
    const share = found.tone === "moving" || (found.percent > 0 && found.percent < 100) ? ` ${found.percent} %` : "";
    const text = this.size.readable ? found.reason + share : MARKS[found.tone];
    paint(made, `cell ${found.tone}${faded}`, text);
    made.style.setProperty("--done", `${found.percent}%`);
    put(made, "aria-label", `${names}: ${found.reason}${share}`);
    put(made, "title", `${names}\n${found.reason}${share}: ${found.sentence}`);
  }

  at(place) {
    return this.lines.get(place.cache)?.cells.get(place.node);
  }

  takeFocus() {
    return this.grid.contains(document.activeElement) && document.activeElement !== this.grid;
  }

  // One cell, and one only, is reached by the tab key.
  settleFocus() {
    const { rows, columns } = this.shown;
    const { focus } = this;
    if (focus.cache !== null && !rows.includes(focus.cache)) focus.cache = rows[0] ?? null;
    if (focus.node !== null && !columns.includes(focus.node)) focus.node = columns[0] ?? null;
    if (!this.touched && focus.cache === null && rows.length) Object.assign(focus, { cache: rows[0], node: columns[0] ?? null });
    const made = this.at(focus);
    if (made === this.reached && made?.isConnected) return;
    this.reached?.setAttribute("tabindex", "-1");
    this.reached = made;
    made?.setAttribute("tabindex", "0");
    if (this.gone && made && document.activeElement !== made) made.focus({ preventScroll: true });
  }

  focused(event) {
    const place = event.target.closest("[role=gridcell],[role=rowheader],[role=columnheader]")?.place;
    if (!place) return;
    this.touched = true;
    this.focus = { ...place };
    this.settleFocus();
  }

  key(event) {
    if (event.altKey || event.metaKey) return;
    const { rows, columns } = this.shown;
    let row = rows.indexOf(this.focus.cache);
    let column = columns.indexOf(this.focus.node);
    const page = Math.max(1, Math.floor((this.size.clientHeight - this.size.head) / ROW) - 1);
    switch (event.key) {
      case "ArrowUp": row -= 1; break;
      case "ArrowDown": row += 1; break;
      case "ArrowLeft": column -= 1; break;
      case "ArrowRight": column += 1; break;
      case "PageUp": row -= page; break;
      case "PageDown": row += page; break;
      case "Home": column = -1; if (event.ctrlKey) row = 0; break;
      case "End": column = columns.length - 1; if (event.ctrlKey) row = rows.length - 1; break;
      case "Enter":
      case " ": event.preventDefault(); this.open(this.focus); return;
      default: return;
    }
    event.preventDefault();
    row = Math.min(rows.length - 1, Math.max(-1, row));
    column = Math.min(columns.length - 1, Math.max(-1, column));
    this.go({ cache: row < 0 ? null : rows[row], node: column < 0 ? null : columns[column] });
  }

  go(place) {
    this.touched = true;
    this.focus = place;
    const row = this.shown.rows.indexOf(place.cache);
    const column = this.shown.columns.indexOf(place.node);
    const { head, name, width, clientHeight, clientWidth } = this.size;
    if (row >= 0) this.grid.scrollTop = into(this.grid.scrollTop, row * ROW, ROW, clientHeight - head);
    if (column >= 0) this.grid.scrollLeft = into(this.grid.scrollLeft, column * width, width, clientWidth - name);
    this.draw();
    this.at(place)?.focus({ preventScroll: true });
  }

  click(event) {
    const place = event.target.closest("[role=gridcell],[role=rowheader],[role=columnheader]")?.place;
    if (place) this.open(place);
  }

  open(place) {
    if (place.cache !== null || place.node !== null) this.choose(place);
  }

  refocus() {
    this.at(this.focus)?.focus();
  }
}

// Indices that can be seen, a few more, and the one with the focus.
function near(scroll, room, each, count, focus) {
  const first = Math.max(0, Math.floor(scroll / each) - SPARE);
  const last = Math.min(count, Math.ceil((scroll + Math.max(0, room)) / each) + SPARE);
  const found = [];
  for (let index = first; index < last; index += 1) found.push(index);
  if (focus >= 0 && (focus < first || focus >= last)) found.push(focus);
  return found;
}

function into(scroll, from, length, room) {
  if (from < scroll) return from;
  return from + length > scroll + room ? from + length - room : scroll;
}

function worst(counts) {
  return TONES.find((_, tone) => counts[tone]) ?? "none";
}

function summary(counts) {
  return TONES.map((tone, index) => (counts[index] ? `${counts[index]} ${tone}` : "")).filter(Boolean).join(", ");
}

function paint(made, classes, text, more) {
  if (made.className !== classes) made.className = classes;
  const key = `${text}\n${more ?? ""}`;
  if (made.painted === key) return;
  made.painted = key;
  made.replaceChildren(element("span", {}, text), ...(more === undefined ? [] : [element("small", {}, more)]));
}

function put(made, name, value) {
  if (made.getAttribute(name) !== String(value)) made.setAttribute(name, value);
}
