// What the page knows, and what of it is to be seen. No document, no network: data in, data out.

export const TONES = ["trouble", "lost", "moving", "waiting", "leaving", "ready"];
const PERCENTS = 128;

export function empty() {
  // kinds[k]: {tone (index into TONES), reason, sentence}; slot → info; rows: node's slot → cells by cache's slot.
  return { kinds: [], caches: new Map(), nodes: new Map(), rows: new Map(), head: {} };
}

export function fromSnapshot(data) {
  const state = empty();
  learnKinds(state, data.kinds);
  for (const [slot, info] of data.caches) state.caches.set(slot, info);
  for (const [slot, info, cells] of data.nodes) {
    state.nodes.set(slot, info);
    state.rows.set(slot, cells);
  }
  state.head = data.head ?? {};
  return state;
}

// Returns the names of the caches and nodes that changed.
export function apply(state, data) {
  const touched = { caches: new Set(), nodes: new Set() };
  learnKinds(state, data.kinds ?? []);
  for (const [slot, info] of data.caches ?? []) {
    if (state.caches.get(slot)?.name !== info?.name) {
      for (const cells of state.rows.values()) if (cells[slot]) cells[slot] = 0;
    }
    replace(state.caches, slot, info, touched.caches);
  }
  for (const [slot, info] of data.nodes ?? []) {
    if (state.nodes.get(slot)?.name !== info?.name) state.rows.set(slot, []);
    if (!info) state.rows.delete(slot);
    replace(state.nodes, slot, info, touched.nodes);
  }
  const cells = data.cells ?? [];
  for (let i = 0; i < cells.length; i += 3) {
    const row = state.rows.get(cells[i]);
    if (!row) continue;
    while (row.length < cells[i + 1]) row.push(0);
    row[cells[i + 1]] = cells[i + 2];
    touched.nodes.add(state.nodes.get(cells[i])?.name);
    touched.caches.add(state.caches.get(cells[i + 1])?.name);
  }
  if (data.head) state.head = data.head;
  return touched;
}

// null where no copy is, nor should be.
export function cell(state, node, cache) {
  const value = state.rows.get(node)?.[cache];
  if (!value) return null;
  const kind = state.kinds[Math.floor(value / PERCENTS)];
  return { ...kind, tone: TONES[kind.tone], percent: value % PERCENTS };
}

// What the filters leave, trouble first. filters: {cache, node: text; tones: Set, all when it is empty}.
export function view(state, filters) {
  const caches = matching(state.caches, filters.cache, (info) => [info.name]);
  const nodes = matching(state.nodes, filters.node, (info) => [info.name, ...info.groups]);
  const byCache = new Map(caches.map((slot) => [slot, new Uint32Array(TONES.length)]));
  const byNode = new Map(nodes.map((slot) => [slot, new Uint32Array(TONES.length)]));
  const sum = new Uint32Array(TONES.length);
  for (const node of nodes) {
    const row = state.rows.get(node) ?? [];
    const ofNode = byNode.get(node);
    for (const cache of caches) {
      const value = row[cache];
      if (!value) continue;
      const tone = state.kinds[Math.floor(value / PERCENTS)].tone;
      ofNode[tone] += 1;
      byCache.get(cache)[tone] += 1;
      sum[tone] += 1;
    }
  }
  const wanted = TONES.map((tone) => filters.tones.has(tone));
  const shows = (counts) => !filters.tones.size || counts.some((count, tone) => count && wanted[tone]);
  return {
    rows: ranked(caches.filter((slot) => shows(byCache.get(slot))), byCache, state.caches),
    columns: ranked(nodes.filter((slot) => shows(byNode.get(slot))), byNode, state.nodes),
    byCache,
    byNode,
    sum,
  };
}

function learnKinds(state, kinds) {
  for (const [index, tone, reason, sentence] of kinds) {
    state.kinds[index] = { tone: TONES.indexOf(tone), reason, sentence };
  }
}

function replace(infos, slot, info, touched) {
  touched.add(infos.get(slot)?.name);
  touched.add(info?.name);
  if (info) infos.set(slot, info);
  else infos.delete(slot);
}

function matching(infos, text, words) {
  const wanted = text.trim().toLowerCase();
  const found = [...infos.keys()];
  if (!wanted) return found;
  return found.filter((slot) => words(infos.get(slot)).some((word) => word.toLowerCase().includes(wanted)));
}

function ranked(slots, counts, infos) {
  return slots.sort((a, b) => compare(counts.get(a), counts.get(b)) || order(infos.get(a).name, infos.get(b).name));
}

// More trouble first, then more that is lost; what moves or waits keeps the order of names, or nothing would stand still.
function compare(a, b) {
  return b[0] - a[0] || b[1] - a[1] || Number(b[2] + b[3] > 0) - Number(a[2] + a[3] > 0);
}

function order(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}
