// The interactive matrix: its views, the readout of a cell, pinned cells with their batches, keyboard, and downloads.

const VIEWS = {
  values: {scale: "values", number: "value", ends: matrix => matrix.result.range, bar: result => result.measure, note: () => ""},
  widths: {
    scale: "widths",
    number: "width",
    ends: matrix => {
      const widest = matrix.cells.reduce((most, cell) => Math.max(most, cell.width ?? 0), 0) || 1;
      const power = 10 ** Math.floor(Math.log10(widest));
      return [0, [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map(step => step * power).find(step => step >= widest * (1 - 1e-9))];
    },
    bar: () => "width of the 95 % interval",
    note: () => "The width of the 95 % interval: darker cells are less certain. The scale ends near the widest interval.",
  },
  above: {
    scale: "values",
    number: "above",
    ends: matrix => [0, matrix.result.range[1]],
    bar: () => "value minus chance",
    note: matrix => {
      const low = matrix.cells.filter(isNotAbove).length;
      const count = low === 0 ? "Every cell is above chance." : `${low} of ${matrix.cells.length} cells are not above chance and are marked with a ring.`;
      return `The value minus the 95 % quantile of permuted pairings. ${count}`;
    },
  },
};
const ACCENT = "#0b559f", LETTERS = "ABCDEF";
const MAX_NAMED = 1000; // cells that always have an accessible name; in larger matrices a cell gets one when it is reached

const less = (one, other) => (one === null || other === null ? null : one - other);
const isNotAbove = cell => cell.above !== null && cell.above <= 0;

// The layers of a cell and its numbers, which are null where there is none.
function valuesOf(r, {row, column}) {
  const [value, low, high, chance, p] = ["values", "low", "high", "null", "p_values"].map(name => r[name][row][column]);
  const {low: lows, high: highs, p_values: ps, max} = r.family ?? {}, at = matrix => matrix?.[row][column] ?? null;
  const tau = max?.tau ?? null, most = r.settings.range?.[1] ?? 1;
  const calibrated = tau === null || value === null ? null : Math.min(1, Math.max(0, (value - tau) / Math.max(most - tau, 1e-12)));
  const family = {low: at(lows), high: at(highs), p: at(ps), calibrated};
  return {family, x: r.rows[row], y: r.columns[column], value, low, high, chance, p, width: less(high, low), above: less(value, chance)};
}

const nameOf = (cell, between) => `${cell.x.name} ${between} ${cell.y.name}`;
const intervalOf = cell => (cell.low === null ? DASH : `${fixed(cell.low)} to ${fixed(cell.high)}`);

// The facts of one cell after its value, in order: [name, text].
function factsOf(result, cell) {
  const permutations = result.document.settings.permutations;
  const reasons = [cell.x, cell.y].filter(layer => layer.undefined).map(layer => `${layer.name}: ${layer.undefined}`);
  const least = cell.p <= 1.0001 / (1 + (permutations ?? NaN)) ? ` (the smallest that ${permutations} permutations can give)` : "";
  return [
    cell.value === null && ["undefined", reasons.join("; ") || "no value"],
    cell.low !== null && ["95 % interval", intervalOf(cell)],
    cell.chance !== null && ["chance (95 %)", fixed(cell.chance)],
    cell.p !== null && ["p", fixed(cell.p) + least],
    cell.family.low !== null && ["95 % band of all cells", intervalOf(cell.family)],
    cell.family.p !== null && ["p among all cells", fixed(cell.family.p)],
    cell.family.calibrated !== null && ["calibrated", fixed(cell.family.calibrated)],
  ].filter(Boolean);
}

function sentenceOf(result, cell) {
  const value = cell.value === null ? "undefined" : `${result.measure} ${fixed(cell.value)}`;
  const facts = factsOf(result, cell).map(([name, text]) => `${name} ${text}`);
  return `Row ${cell.row} ${cell.x.name}, column ${cell.column} ${cell.y.name}: ${[value, ...facts].join(", ")}.`;
}

// A list of the facts of a cell and of its two layers.
function cellFacts(result, models, cell) {
  const fact = (name, ...nodes) => make("div", {}, make("dt", {}, name), ...nodes);
  const layerFact = (model, index, layer) => {
    const words = [
      layer.name !== layer.module && ["module ", ...broken(layer.module)],
      layer.shape?.length && [`shape ${layer.shape.join(" × ")}`],
      layer.rms !== null && [`rms ${fourDigits(layer.rms)}`],
    ].filter(Boolean).flatMap((nodes, at) => [at ? ", " : "", make("span", {class: "word"}, ...nodes)]);
    return fact(model, make("dd", {}, make("strong", {}, ...broken(layer.name)), ` (${index})`, make("span", {class: "layer"}, ...words)));
  };
  return make("dl", {class: "facts"},
    fact(result.measure, make("dd", {class: "value"}, fixed(cell.value))),
    ...factsOf(result, cell).map(([name, text]) => fact(name, make("dd", {}, text))),
    layerFact(models[0], cell.row, cell.x), layerFact(models[1], cell.column, cell.y));
}

// Pinned cells: each with its batches, two or more also side by side.

function batchesOf(terms, {row, column}) {
  return terms.weights.map((weight, batch) => {
    const xy = terms.xy[batch][row][column], xx = terms.xx[batch][row], yy = terms.yy[batch][column];
    return {weight, xy, xx, yy, value: xx > 0 && yy > 0 ? xy / Math.sqrt(xx * yy) : null};
  });
}

function cardOf(result, models, cell, letter, addressOf) {
  const title = nameOf(cell, "×");
  const unpin = make("button", {type: "button", class: "button unpin", "aria-label": `Unpin ${letter}: ${title}`}, "Unpin");
  const heading = make("h4", {}, make("span", {class: "letter"}, letter), " ", ...broken(title));
  const card = make("article", {class: "pin", "data-row": cell.row, "data-column": cell.column}, make("header", {}, heading, unpin), cellFacts(result, models, cell));
  const copies = copyButtons([
    ["LaTeX", `Copy ${letter} as LaTeX`, () => latexOf(cell)],
    ["CSV", `Copy ${letter} as CSV`, () => csvOf([cell])],
    ["Link", `Copy a link to ${letter}`, () => addressOf(cell)],
  ]);
  copies.prepend("Copy ");
  card.append(copies);
  const note = text => make("p", {class: "note"}, text);
  if (!result.batches) {
    card.append(note("The batch terms of this measure are not in this page."));
  } else {
    const batches = batchesOf(result.document.terms, cell);
    if (cell.value === null) card.append(note("The value is undefined; these are its terms."));
    else card.append(batchChart(result, batches, cell), note(termsSentence(result, batches, cell.value)));
    card.append(termsTable(result, batches, cell));
  }
  return {card, unpin};
}

function termsSentence(result, batches, value) {
  const values = batches.map(batch => batch.value).filter(one => one !== null);
  const mean = fixed(values.reduce((sum, one) => sum + one, 0) / values.length);
  if (result.batches === "mean") return `The value, ${fixed(value)}, is the mean of the batches’ values, weighted by their numbers of ${result.examples}.`;
  if (batches.length === 1) return `All ${result.examples} are in one batch, whose value is ${fixed(value)}.`;
  return `The value, ${fixed(value)}, is the ratio of the sums in the last line: Σ w·xy / √(Σ w·xx · Σ w·yy). It is not the mean of the batches’ values` +
    (values.length < batches.length ? "; some of them are undefined." : `, which is ${mean === fixed(value) ? "also " : ""}${mean}.`);
}

function termsTable(result, batches, cell) {
  const ratio = result.batches === "ratio", sum = term => batches.reduce((total, batch) => total + term(batch), 0);
  const line = (title, weight, terms, value) => [title, fixed(weight, Number.isInteger(weight) ? 0 : 1), ...(ratio ? terms.map(fourDigits) : []), fixed(value)];
  return tableOf("terms", `Terms of ${nameOf(cell, "and")}, batch by batch`,
    ["batch", `${result.examples}, w`, ...(ratio ? ["HSIC xy", "HSIC xx", "HSIC yy", "CKA"] : ["value"])],
    batches.map((batch, index) => line(index + 1, batch.weight, [batch.xy, batch.xx, batch.yy], batch.value)),
    [line(ratio ? "Σ w·" : "all", sum(batch => batch.weight), ["xy", "xx", "yy"].map(name => sum(batch => batch.weight * batch[name])), cell.value)]);
}

// One dot per batch, the value as a line, its interval as a band.
function batchChart(result, batches, {value, low, high}) {
  const numbers = [value, low, high, ...batches.map(batch => batch.value)].filter(number => number !== null);
  const air = Math.max(0.1 * (Math.max(...numbers) - Math.min(...numbers)), 0.005);
  const bottom = Math.min(...numbers) - air, top = Math.max(...numbers) + air;
  const left = 44, right = 262, upper = 8, lower = 98, last = batches.length - 1;
  const y = number => lower - (number - bottom) / (top - bottom) * (lower - upper);
  const x = index => left + 14 + (last ? index / last : 0.5) * (right - left - 28);
  const words = batches.map((batch, index) => `${index + 1}: ${fixed(batch.value)}`).join(", ");
  const svg = draw("svg", {class: "batches", viewBox: "0 0 340 120", role: "img", "font-size": 11, fill: "currentColor", "aria-label": `${result.measure} of each batch (${words}) and of all, ${fixed(value)}`});
  if (low !== null) svg.append(draw("rect", {class: "band", x: left, y: y(high), width: right - left, height: Math.max(1, y(low) - y(high))}));
  svg.append(
    draw("line", {class: "overall", x1: left, x2: right, y1: y(value), y2: y(value)}),
    draw("path", {class: "axis", d: `M${left} ${upper}V${lower}H${right}`, fill: "none"}),
    ...[bottom, top].map(end => draw("text", {x: left - 6, y: y(end), "text-anchor": "end", "dominant-baseline": "central"}, fixed(end, 2))),
    ...batches.flatMap((batch, index) => batch.value === null ? [] : [draw("circle", {class: "batch", cx: x(index), cy: y(batch.value), r: last >= 40 ? 2 : 3.5})]),
    draw("text", {x: right + 6, y: y(value), "dominant-baseline": "central", class: "overall-name"}, `all ${fixed(value)}`),
    ...[...new Set([0, last])].map(index => draw("text", {x: x(index), y: lower + 14, "text-anchor": "middle"}, index ? index + 1 : "batch 1")));
  return svg;
}

function comparisonOf(result, models, pins) {
  const first = pins[0].cell;
  const title = ({letter, cell}) => [make("span", {class: "letter"}, letter), ...[cell.x.name, `× ${cell.y.name}`].map(name => make("span", {class: "layer"}, name))];
  const lines = {
    [result.measure]: cell => fixed(cell.value),
    "95 % interval": intervalOf,
    "its width": cell => fixed(cell.width),
    "chance (95 %)": cell => fixed(cell.chance),
    p: cell => fixed(cell.p),
    [`minus ${pins[0].letter}`]: cell => (cell === first ? DASH : fixed(less(cell.value, first.value))),
  };
  const body = Object.entries(lines).map(([name, text]) => [name, ...pins.map(pin => text(pin.cell))]);
  const note = make("p", {class: "note"}, "These cells share their examples, so the overlap of their intervals does not test their difference.");
  const cells = pins.map(pin => pin.cell), copies = copyButtons([
    ["LaTeX", "Copy the table as LaTeX", () => latexTable(result, models, cells)],
    ["CSV", "Copy the table as CSV", () => csvOf(cells)],
  ]);
  copies.prepend("Copy the table ");
  return [note, tableOf("comparison", "Pinned cells side by side", ["", ...pins.map(title)], body), copies];
}

class Matrix {
  constructor(root, data, scales) {
    Object.assign(this, {root, data, scales, id: root.id, view: VIEWS.values, pins: [], svg: root.querySelector(".heatmap")});
    const {rows, columns} = data.results[0].document;
    this.size = [rows.length, columns.length];
    this.cells = rows.flatMap((_, row) => columns.map((_, column) => ({row, column})));
    this.build();
    this.listen();
    this.show(data.results[0]);
    for (const part of root.querySelectorAll(".controls, .readout, .made-downloads")) part.hidden = false;
  }

  part(name) {
    return this.root.querySelector(name);
  }

  cell(row, column) {
    return this.cells[row * this.size[1] + column];
  }

  // Show a result: every cell gets its numbers.
  show(result) {
    this.result = result;
    for (const cell of this.cells) Object.assign(cell, valuesOf(result.document, cell));
    this.redraw();
  }

  // The position of a cell in the drawing, wider by a margin on all sides.
  box({row, column}, margin = 0) {
    const [width, height] = this.data.cell, round = number => +number.toFixed(2);
    return {x: round(this.data.left + column * width - margin), y: round(this.data.top + row * height - margin), width: width + 2 * margin, height: height + 2 * margin};
  }

  center(cell) {
    const {x, y, width, height} = this.box(cell);
    return {x: x + width / 2, y: y + height / 2};
  }

  build() {
    const label = this.svg.getAttribute("aria-label");
    set(this.svg, {role: "group", "aria-describedby": `${this.id}-help`});
    set(this.part(".cells"), {role: "grid", "aria-label": label, "aria-rowcount": this.size[0], "aria-colcount": this.size[1], "aria-multiselectable": "true"});
    const rows = Array.from({length: this.size[0]}, () => draw("g", {role: "row"}));
    for (const cell of this.cells) {
      cell.rect = draw("rect", {role: "gridcell", ...this.box(cell)});
      cell.rect.cell = cell;
      rows[cell.row].append(cell.rect);
      if (!this.data.numbers) continue;
      cell.text = draw("text", {...this.center(cell), "dominant-baseline": "central"});
      this.part(".numbers").append(cell.text);
    }
    this.part(".cells").replaceChildren(...rows);
    this.current = this.cells[0];
    this.current.rect.setAttribute("tabindex", 0);
  }

  listen() {
    // Call with the cell of an event. Focus is not listened to on the cells' group: Chromium makes SVG elements with
    // focus listeners focusable.
    const onCell = (part, type, action) =>
      this.part(part).addEventListener(type, event => event.target.cell && action(event.target.cell));
    onCell(".cells", "pointerover", cell => this.read(cell));
    onCell(".drawing", "focusin", cell => { this.read(cell); this.say(sentenceOf(this.result, cell)); });
    onCell(".drawing", "focusout", () => this.mark());
    onCell(".cells", "click", cell => { this.move(cell); this.pin(cell); });
    this.part(".cells").addEventListener("keydown", event => this.key(event));
    this.root.addEventListener("keydown", event => {
      if (event.key !== "Escape" || !this.pins.length) return;
      event.preventDefault();
      this.pin(this.pins.at(-1).cell);
    });
    for (const input of this.root.querySelectorAll(".controls input"))
      input.addEventListener("change", () => {
        if (input.name.endsWith("-view")) this.view = VIEWS[input.value];
        this.show(input.name.endsWith("-view") ? this.result : this.data.results[Number(input.value)]);
      });
    this.part(".as-table").addEventListener("toggle", () => this.writeTable());
    for (const link of this.root.querySelectorAll("[data-make]"))
      for (const type of ["click", "contextmenu"]) link.addEventListener(type, () => { link.href = this.file(link.dataset.make); });
  }

  key(event) {
    const {row, column} = this.current, [rows, columns] = this.size, jump = event.ctrlKey || event.metaKey;
    const page = Math.max(1, Math.round(rows / 10));
    const target = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      Home: [jump ? 0 : row, 0], End: [jump ? rows - 1 : row, columns - 1], PageUp: [row - page, column], PageDown: [row + page, column],
    }[event.key];
    if (!target && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    const inside = (index, count) => Math.min(count - 1, Math.max(0, index));
    if (target) this.move(this.cell(inside(target[0], rows), inside(target[1], columns)));
    else this.pin(this.current);
  }

  move(cell) {
    this.current.rect.removeAttribute("tabindex");
    this.current = cell;
    this.name(cell);
    set(cell.rect, {tabindex: 0}).focus();
  }

  name(cell) {
    const number = cell[this.view.number];
    cell.rect.setAttribute("aria-label", `${nameOf(cell, "by")}: ${number === null ? "undefined" : fixed(number)}`);
  }

  say(text) {
    this.part(".live").textContent = text;
  }

  read(cell) {
    this.shown = cell;
    this.part(".hint").classList.add("visually-hidden");
    this.part(".cell-facts").replaceChildren(cellFacts(this.result, this.data.models, cell));
    this.mark();
  }

  // Rings of cells that are not above chance, and frames around the pinned cells with their letters, the cell that is
  // read and the focused cell.
  mark() {
    const marks = this.part(".marks"), [width, height] = this.data.cell;
    const frame = (cell, kind, margin = 0) => marks.append(
      draw("rect", {...this.box(cell, margin), class: `${kind} outer`, stroke: "#fff", "stroke-width": 4}),
      draw("rect", {...this.box(cell, margin), class: kind, stroke: ACCENT, "stroke-width": 2}));
    marks.replaceChildren();
    for (const cell of this.view === VIEWS.above ? this.cells.filter(isNotAbove) : []) {
      const {x, y} = this.center(cell);
      marks.append(draw("circle", {class: "not-above", cx: x, cy: y, r: 0.36 * Math.min(width, height), stroke: "#fff", "stroke-width": Math.max(0.8, 0.03 * width)}));
    }
    for (const pin of this.pins) frame(pin.cell, "pinned");
    if (this.shown) frame(this.shown, "read");
    if (document.activeElement === this.current.rect) frame(this.current, "focused", 1.5);
    for (const pin of this.pins) { // above all frames
      const {x, y, width} = this.box(pin.cell);
      marks.append(draw("circle", {cx: x + width, cy: y, r: 8, fill: ACCENT, stroke: "#fff", "stroke-width": 1.5}),
        draw("text", {x: x + width, y, fill: "#fff", "font-size": 10, "font-weight": 700, "text-anchor": "middle", "dominant-baseline": "central"}, pin.letter));
    }
  }

  redraw() {
    const [low, high] = this.view.ends(this);
    this.offer();
    for (const cell of this.cells) {
      const number = cell[this.view.number], position = Math.min(1, Math.max(0, (number - low) / (high - low)));
      const color = number === null ? null : this.scales[this.view.scale][Math.round(255 * position)];
      cell.rect.setAttribute("fill", color === null ? `url(#${this.id}-hatch)` : `#${color}`);
      if (cell.text) cell.text.textContent = number === null ? "" : brief(number);
      if (cell.text && color !== null) cell.text.setAttribute("fill", lettersOn(color));
      if (this.cells.length <= MAX_NAMED || cell === this.current) this.name(cell);
    }
    this.part(".bar").setAttribute("fill", `url(#${this.id}-${this.view.scale})`);
    const ticks = ticksOf([low, high]), note = this.part(".view-note");
    this.root.querySelectorAll(".tick").forEach((tick, step) => { tick.textContent = ticks[step]; });
    this.part(".bar-name").textContent = this.view.bar(this.result);
    note.textContent = this.view.note(this);
    note.hidden = !note.textContent;
    if (this.shown) this.read(this.shown);
    this.mark();
    this.writePins();
    this.writeTable();
  }

  // Disable the views that this result has no numbers for, with the reason as a tooltip.
  offer() {
    const missing = {widths: ["low", "no intervals in this result"], above: ["chance", "no permutations in this result"]};
    for (const [name, [number, reason]] of Object.entries(missing)) {
      const input = this.part(`input[value="${name}"]`);
      input.disabled = this.cells.every(cell => cell[number] === null);
      input.parentElement.title = input.disabled ? reason : "";
    }
  }

  // Pin a cell, or unpin it if it is pinned.
  pin(cell) {
    const index = this.pins.findIndex(pin => pin.cell === cell);
    if (index >= 0) {
      this.pins.splice(index, 1);
      this.say(`Unpinned ${nameOf(cell, "by")}.`);
    } else {
      if (this.pins.length === LETTERS.length) this.pins.shift().cell.rect.setAttribute("aria-selected", "false");
      const letter = [...LETTERS].find(one => !this.pins.some(pin => pin.letter === one));
      this.pins.push({cell, letter});
      this.say(`Pinned as ${letter}. ${sentenceOf(this.result, cell)}`);
    }
    cell.rect.setAttribute("aria-selected", String(index < 0));
    this.mark();
    this.writePins();
  }

  writePins() {
    const cards = this.pins.map(({cell, letter}) => {
      const {card, unpin} = cardOf(this.result, this.data.models, cell, letter, one => this.address(one));
      unpin.addEventListener("click", () => { this.pin(cell); this.current.rect.focus(); });
      const reason = this.data.reasons[cell.row]?.[cell.column];
      if (reason && this.result === this.data.results[0]) card.append(whyOf(reason, cell, this.data.thumbnails));
      return card;
    });
    this.part(".pins").hidden = !cards.length;
    this.part(".pins").replaceChildren(make("h3", {}, cards.length === 1 ? "Pinned cell" : "Pinned cells"),
      ...(cards.length > 1 ? comparisonOf(this.result, this.data.models, this.pins) : []), make("div", {class: "cards"}, ...cards));
  }

  // The address of a cell in this page, by the names of its layers and of the measure.
  address(cell) {
    const query = new URLSearchParams({row: cell.x.name, column: cell.y.name, measure: this.result.label});
    return `${location.href.split("#")[0]}#${this.id}?${query}`;
  }

  // Show the measure and pin the cell that an address names.
  select(query) {
    this.part(".missing")?.remove();
    const [row, column, measure] = ["row", "column", "measure"].map(name => query.get(name));
    const {rows, columns} = this.data.results[0].document, index = this.data.results.findIndex(result => result.label === measure);
    const place = [rows.findIndex(layer => layer.name === row), columns.findIndex(layer => layer.name === column)];
    if (index < 0 || place.includes(-1)) {
      this.root.prepend(make("p", {class: "note missing", role: "alert"}, `This page does not have the linked cell: ${measure}, ${row} × ${column}.`));
      return;
    }
    const input = this.part(`.controls input[name$="-result"][value="${index}"]`), cell = this.cell(...place);
    if (input) input.checked = true; // there is no switch between measures of a single one
    this.show(this.data.results[index]);
    this.move(cell);
    if (!this.pins.some(pin => pin.cell === cell)) this.pin(cell);
  }

  writeTable() {
    if (!this.part(".as-table").open) return;
    const r = this.result.document, [x, y] = this.data.models;
    const body = r.rows.map((axis, row) => [axis.name, ...r.columns.map((_, column) => fixed(this.cell(row, column)[this.view.number]))]);
    const name = `${this.result.label}, ${this.view.bar(this.result)}: rows ${x}, columns ${y}`;
    this.part(".as-table .scroll").replaceWith(tableOf("cells-table", name, ["layer", ...r.columns.map(axis => axis.name)], body));
  }

  file(kind) {
    if (kind === "json") return "data:application/json;charset=utf-8," + encodeURIComponent(JSON.stringify(this.result.document, null, 1) + "\n");
    if (kind === "tex") return "data:application/x-tex;charset=utf-8," + encodeURIComponent(this.result.latex);
    if (kind === "csv") return "data:text/csv;charset=utf-8," + encodeURIComponent(csvOf(this.cells));
    const svg = this.svg.cloneNode(true);
    svg.querySelectorAll(".read, .focused").forEach(mark => mark.remove());
    svg.querySelectorAll("[role], [tabindex]").forEach(one => ["role", "tabindex", "aria-label", "aria-selected"].forEach(name => one.removeAttribute(name)));
    set(svg, {xmlns: SVG, color: "#1a1a1a", role: "img"}).removeAttribute("aria-describedby");
    svg.prepend(draw("rect", {width: "100%", height: "100%", fill: "#fff"}));
    return "data:image/svg+xml;charset=utf-8," + encodeURIComponent(new XMLSerializer().serializeToString(svg));
  }
}

function csvOf(cells) {
  const quoted = text => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = cells.map(cell => [quoted(cell.x.name), quoted(cell.y.name), cell.row, cell.column, cell.value, cell.low, cell.high, cell.chance, cell.p].map(entry => entry ?? "").join(","));
  return ["layer_x,layer_y,index_x,index_y,value,low,high,null,p_value", ...lines].join("\n") + "\n";
}

const LATEX = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "[": "{[}", "]": "{]}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}"};
const escaped = text => text.replace(/[\\~^[\]<>|&%$#_{}]/g, letter => LATEX[letter] ?? `\\${letter}`);
const inMath = number => (number === null ? "--" : `$${fixed(number).replace(MINUS, "-")}$`);
const mathInterval = cell => (cell.low === null ? "--" : `$[${[cell.low, cell.high].map(end => fixed(end).replace(MINUS, "-")).join(", ")}]$`);

// The value of a cell and its interval, for a sentence.
const latexOf = cell => inMath(cell.value) + (cell.low === null ? "" : ` ${mathInterval(cell)}`);

// Cells as the rows of a table (package booktabs).
function latexTable(result, models, cells) {
  const row = entries => entries.join(" & ") + " \\\\";
  const head = row([...[...models, result.measure].map(escaped), "95\\,\\% interval", "chance (95\\,\\%)", "$p$"]);
  const body = cells.map(cell => row([escaped(cell.x.name), escaped(cell.y.name), inMath(cell.value), mathInterval(cell), inMath(cell.chance), inMath(cell.p)]));
  return ["\\begin{tabular}{llrrrr}", "\\toprule", head, "\\midrule", ...body, "\\bottomrule", "\\end{tabular}"].join("\n") + "\n";
}
