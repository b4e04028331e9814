// Three panes: a list, one entry's tree, its bytes. All of it is in the page, as JSON beside this script.
// Everything from the wire is data: it becomes text nodes and attributes, never HTML. Nothing is loaded from anywhere.
"use strict";
{
const WIDTH = 16; // octets in a row of the bytes
const COLUMNS = ["number", "time", "source", "target", "protocol", "length", "info"];
const TEXTS = 5; // texts of a node, after its three numbers

function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...inside);
  return element;
}

function fill(sentence, values) {
  return sentence.replace(/\{(\w+)\}/g, (_all, name) => String(values[name]));
}

/** Scroll a pane, and nothing around it, until the element is seen. */
function reveal(pane, element) {
  const outer = pane.getBoundingClientRect();
  const inner = element.getBoundingClientRect();
  const top = outer.top + (pane.querySelector("thead")?.offsetHeight ?? 0);
  if (inner.top < top) pane.scrollTop -= top - inner.top;
  else if (inner.bottom > outer.top + pane.clientHeight) pane.scrollTop += inner.bottom - outer.top - pane.clientHeight;
}

/** One element of a pane is in the tab order: the current one. */
function rove(from, to, focus) {
  from?.setAttribute("tabindex", "-1");
  to?.setAttribute("tabindex", "0");
  if (focus) to?.focus({ preventScroll: true });
}

function printable(event) {
  return event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey;
}

/** The list and its filter. chosen(index) is called when another entry is selected. */
function entryList(entries, words, note, chosen, next) {
  const search = make("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  const count = make("span", { class: "labkit-count", role: "status" });
  const columns = COLUMNS.map((_name, column) => column).filter((column) => entries.some((entry) => entry[column] !== ""));
  const head = make("tr", { role: "row" });
  for (const column of columns) head.append(make("th", { role: "columnheader", scope: "col" }, words[COLUMNS[column]]));
  const body = make("tbody", { role: "rowgroup" });
  const grid = make(
    "table",
    { role: "grid", "aria-label": words.list, "aria-rowcount": entries.length + 1 },
    make("thead", { role: "rowgroup" }, head),
    body,
  );
  const rows = entries.map((entry, index) => {
    const row = make("tr", { role: "row", tabindex: "-1", "aria-selected": "false", "aria-rowindex": index + 2 });
    for (const column of columns)
      row.append(make("td", { role: "gridcell", class: `labkit-cell-${COLUMNS[column]}` }, String(entry[column])));
    body.append(row);
    return { row, index, text: entry.join(" ").toLowerCase() };
  });
  const pane = make("div", { class: "labkit-pane labkit-list" }, grid);
  let current = null;
  const shown = () => rows.filter((entry) => !entry.row.hidden);

  function select(entry, focus) {
    if (!entry) return;
    rove(current?.row, entry.row, focus);
    current?.row.setAttribute("aria-selected", "false");
    entry.row.setAttribute("aria-selected", "true");
    reveal(pane, entry.row);
    if (entry !== current) chosen(entry.index);
    current = entry;
  }

  function filter() {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const entry of rows) entry.row.hidden = !wanted.every((word) => entry.text.includes(word));
    const left = shown();
    count.textContent = [note, wanted.length ? fill(words.filtered, { shown: left.length, count: rows.length }) : ""]
      .filter(Boolean)
      .join(" ");
    if (current?.row.hidden) select(left[0], false);
  }

  search.addEventListener("input", filter);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && search.value) {
      search.value = "";
      filter();
    } else if (event.key === "Enter" || event.key === "ArrowDown") {
      select(current && !current.row.hidden ? current : shown()[0], true);
    } else return;
    event.preventDefault();
  });
  body.addEventListener("keydown", (event) => {
    const left = shown();
    const at = left.indexOf(current);
    const page = Math.max(1, Math.floor(pane.clientHeight / (current?.row.offsetHeight || 24)) - 2);
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: Infinity };
    if (event.key in moves) select(left[Math.min(Math.max(moves[event.key], 0), left.length - 1)], true);
    else if (event.key === "Enter") next();
    else if (printable(event)) {
      search.value += event.key;
      search.focus();
      filter();
    } else return;
    event.preventDefault();
  });
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    select(rows.find((entry) => entry.row === row), true);
  });
  filter();
  const label = make("label", {}, words.filter, " ", search);
  return { elements: [make("div", { class: "labkit-bar" }, label, count), pane], first: () => select(rows[0], false) };
}

/** An entry's tree. chosen(node) is called when another node is selected. */
function spanTree(words, styles, chosen, next) {
  const pane = make("div", { class: "labkit-pane labkit-spans" });
  let entries = [];
  let current = null;
  let typed = "";
  let typedAt = 0;

  function show(tree) {
    entries = [];
    current = null;
    const root = make("ul", { role: "tree", "aria-label": words.tree });
    const above = [{ list: root }];
    tree.nodes.forEach((node, index) => {
      const [depth, start, end, style, field, value, meaning, source] = node;
      const [mark, word, fillColour, ink] = styles[style];
      const branch = tree.nodes[index + 1]?.[0] > depth;
      const badge = make("span", { class: "labkit-badge", title: word }, mark);
      badge.style.backgroundColor = fillColour;
      badge.style.color = ink;
      const label = make("span", { class: "labkit-label" }, badge, " ", make("b", {}, field));
      if (value) label.append(" ", make("code", {}, value));
      if (meaning) label.append(" ", make("span", { class: "labkit-told" }, meaning));
      const said = [word, field, value, meaning].filter(Boolean).join(", ");
      const item = make(
        "li",
        { role: "treeitem", tabindex: "-1", "aria-level": depth + 1, "aria-selected": "false", "aria-label": said },
        label,
      );
      const parent = above[depth];
      const entry = { item, label, field, start, end, said, source, depth, parent: parent.entry, branch, index };
      parent.list.append(item);
      if (branch) {
        const list = make("ul", { role: "group" });
        item.append(list);
        above[depth + 1] = { list, entry };
        open(entry, false);
      }
      entries.push(entry);
    });
    const last = entries.filter((entry) => !entry.depth).at(-1);
    for (let entry = last; entry?.branch; entry = entries[entry.index + 1]) open(entry, true);
    pane.replaceChildren(root, ...(tree.note ? [make("p", { class: "labkit-note" }, tree.note)] : []));
    pane.scrollTop = 0;
    rove(null, entries[0]?.item, false);
  }

  function open(entry, whether) {
    if (entry.branch) entry.item.setAttribute("aria-expanded", String(whether));
  }

  const isOpen = (entry) => entry.item.getAttribute("aria-expanded") === "true";

  function seen(entry) {
    for (let parent = entry.parent; parent; parent = parent.parent) if (!isOpen(parent)) return false;
    return true;
  }

  function select(entry, focus, tell = true) {
    if (!entry) return;
    for (let parent = entry.parent; parent; parent = parent.parent) open(parent, true);
    rove((current ?? entries[0]).item, entry.item, focus);
    current?.item.setAttribute("aria-selected", "false");
    entry.item.setAttribute("aria-selected", "true");
    current = entry;
    reveal(pane, entry.label);
    if (tell) chosen(entry);
  }

  /** The next node, open or not, with a part of its name that begins with the letters typed just now. */
  function find(key, now) {
    typed = now - typedAt < 800 ? typed + key : key;
    typedAt = now;
    const from = current ? current.index + (typed.length === 1 ? 1 : 0) : 0;
    return [...entries.slice(from), ...entries.slice(0, from)].find((entry) => `.${entry.field}`.includes(`.${typed}`));
  }

  pane.addEventListener("keydown", (event) => {
    const visible = entries.filter(seen);
    const entry = current ?? entries[0];
    const at = visible.indexOf(entry);
    if (!entry) return;
    if (event.key === "ArrowDown") select(visible[Math.min(at + 1, visible.length - 1)], true);
    else if (event.key === "ArrowUp") select(visible[Math.max(at - 1, 0)], true);
    else if (event.key === "Home") select(visible[0], true);
    else if (event.key === "End") select(visible.at(-1), true);
    else if (event.key === "ArrowRight" && entry.branch && !isOpen(entry)) open(entry, true);
    else if (event.key === "ArrowRight") select(entry.branch ? entries[entry.index + 1] : entry, true);
    else if (event.key === "ArrowLeft" && entry.branch && isOpen(entry)) open(entry, false);
    else if (event.key === "ArrowLeft") select(entry.parent ?? entry, true);
    else if (event.key === " ") open(entry, !isOpen(entry));
    else if (event.key === "Enter") {
      select(entry, false);
      next();
    } else if (printable(event)) select(find(event.key.toLowerCase(), event.timeStamp), true);
    else return;
    event.preventDefault();
  });
  pane.addEventListener("click", (event) => {
    const item = event.target.closest("li");
    const entry = entries.find((one) => one.item === item);
    if (!entry) return;
    if (entry === current || event.offsetX < 0) open(entry, !isOpen(entry));
    select(entry, true);
  });

  /** The innermost node around an octet. */
  function at(position) {
    let found = null;
    for (const entry of entries) if (entry.start <= position && position < entry.end) found = entry;
    return found;
  }

  return { pane, show, select, at, focus: () => (current ?? entries[0])?.item.focus({ preventScroll: true }) };
}

/** The bytes of an entry. chosen(position) is called when another octet is selected. */
function byteGrid(words, chosen, next) {
  const pane = make("div", { class: "labkit-pane labkit-bytes" });
  let cells = []; // of each octet: its hexadecimal and its character
  let current = 0;

  function show(tree) {
    cells = [];
    current = 0;
    const grid = make("div", { role: "grid", "aria-label": words.bytes, "aria-multiselectable": "true" });
    for (const [title, start, end, first] of tree.parts) {
      if (tree.parts.length > 1) {
        const heading = make("div", { role: "gridcell", class: "labkit-heading" }, title);
        grid.append(make("div", { role: "row" }, heading));
      }
      for (let at = start; at < end; at += WIDTH) grid.append(line(tree.octets, at, Math.min(at + WIDTH, end), at - start + first));
    }
    pane.replaceChildren(grid);
    pane.scrollTop = 0;
    rove(null, cells[0]?.hex, false);
  }

  function line(octets, from, to, offset) {
    const label = make("span", { role: "rowheader", class: "labkit-offset" }, offset.toString(16).padStart(4, "0"));
    const row = make("div", { role: "row", class: "labkit-row" }, label);
    const text = make("span", { class: "labkit-characters", role: "gridcell", "aria-hidden": "true" });
    for (let at = from; at < to; at++) {
      const digits = octets.slice(2 * at, 2 * at + 2);
      const octet = parseInt(digits, 16);
      const hex = make("span", { role: "gridcell", tabindex: "-1", "aria-selected": "false", "data-at": at }, digits);
      const character = make("span", { "data-at": at }, octet > 32 && octet < 127 ? String.fromCharCode(octet) : octet === 32 ? " " : "·");
      row.append(hex);
      text.append(character);
      cells.push({ hex, character });
    }
    for (let at = to; at < from + WIDTH; at++) row.append(make("span", { class: "labkit-none", "aria-hidden": "true" }, "  "));
    row.append(text);
    return row;
  }

  function light(start, end) {
    cells.forEach((cell, at) => {
      const lit = start <= at && at < end;
      cell.hex.setAttribute("aria-selected", String(lit));
      cell.character.classList.toggle("labkit-lit", lit);
    });
    if (current < start || current >= end) step(start, false);
    if (cells[start]) reveal(pane, cells[start].hex);
  }

  function step(to, focus) {
    if (!cells[to]) return;
    rove(cells[current]?.hex, cells[to].hex, focus);
    current = to;
    if (focus) {
      chosen(to);
      reveal(pane, cells[to].hex);
    }
  }

  pane.addEventListener("keydown", (event) => {
    const first = current - (current % WIDTH);
    const end = cells.length - 1;
    const moves = {
      ArrowLeft: current - 1,
      ArrowRight: current + 1,
      ArrowUp: current - WIDTH,
      ArrowDown: current + WIDTH,
      Home: event.ctrlKey ? 0 : first,
      End: event.ctrlKey ? end : Math.min(first + WIDTH - 1, end),
      PageUp: current - 8 * WIDTH,
      PageDown: current + 8 * WIDTH,
    };
    if (event.key in moves) step(moves[event.key], true);
    else if (event.key === "Enter") next();
    else return;
    event.preventDefault();
  });
  pane.addEventListener("click", (event) => {
    const at = event.target.closest("[data-at]");
    if (at) step(Number(at.getAttribute("data-at")), true);
  });

  return { pane, show, light, focus: () => cells[current]?.hex.focus({ preventScroll: true }) };
}

/** The tree with this index, unpacked. */
function unpacked(data, index) {
  const [octets, parts, packed, note] = data.trees[index];
  const numbers = packed.split(" ").filter(Boolean).map(Number);
  const nodes = [];
  for (let at = 0; at < numbers.length; at += 3 + TEXTS)
    nodes.push([...numbers.slice(at, at + 3), ...numbers.slice(at + 3, at + 3 + TEXTS).map((text) => data.texts[text])]);
  return { octets, parts, nodes, note };
}

function start(box) {
  const data = JSON.parse(box.querySelector("script").textContent);
  const words = data.words;
  const about = make("p", { class: "labkit-about", role: "status" });
  let parts = [];

  const bytes = byteGrid(words, (position) => select(tree.at(position), false), () => tree.focus());
  const tree = spanTree(words, data.styles, (entry) => select(entry, true), () => bytes.focus());
  const list = entryList(data.entries, words, data.note, show, () => tree.focus());

  function select(entry, fromTree) {
    if (!entry) return;
    if (!fromTree) tree.select(entry, false, false);
    bytes.light(entry.start, entry.end);
    const part = parts.find(([_title, start, end]) => start <= entry.start && entry.start < end);
    const moved = part ? part[3] - part[1] : 0;
    const range = fill(words.range, { first: entry.start + moved, last: entry.end - 1 + moved });
    about.textContent = [entry.said, entry.source, range].filter(Boolean).join(" · ");
  }

  function show(index) {
    const shown = unpacked(data, index);
    parts = shown.parts;
    about.textContent = words.keys;
    tree.show(shown);
    bytes.show(shown);
  }

  const lower = make("div", { class: "labkit-lower" });
  for (const [title, pane] of [[words.tree, tree.pane], [words.bytes, bytes.pane]]) {
    lower.append(make("div", { class: "labkit-half" }, make("div", { class: "labkit-title", "aria-hidden": "true" }, title), pane));
  }
  box.replaceChildren(...list.elements, lower, about);
  list.first();
}

for (const box of document.querySelectorAll(".labkit-explore")) if (box.querySelector("script")) start(box);
}
