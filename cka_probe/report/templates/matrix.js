// The interactive matrix: its views, the readout of a cell, pinned cells with their batches, keyboard, and downloads.

const VIEWS = {
  values: {
    scale: "values",
    number: (r, row, column) => r.values[row][column],
    ends: (r, result) => result.range,
    bar: result => result.measure,
    note: () => "",
  },
  widths: {
    scale: "widths",
    number: (r, row, column) =>
      r.low[row][column] === null || r.high[row][column] === null ? null : r.high[row][column] - r.low[row][column],
    ends: r => {
      const widths = r.values.flatMap((line, row) => line.map((_, column) => VIEWS.widths.number(r, row, column)));
      const widest = widths.reduce((most, width) => Math.max(most, width ?? 0), 0) || 1;
      const power = 10 ** Math.floor(Math.log10(widest));
      return [0, [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map(step => step * power).find(step => step >= widest * (1 - 1e-9))];
    },
    bar: () => "width of the 95 % interval",
    note: () => "The width of the 95 % interval: darker cells are less certain. The scale ends near the widest interval.",
  },
  above: {
    scale: "values",
    number: (r, row, column) =>
      r.values[row][column] === null || r.null[row][column] === null ? null : r.values[row][column] - r.null[row][column],
    ends: (r, result) => [0, result.range[1]],
    bar: () => "value minus chance",
    note: (r, result, low) =>
      "The value minus the 95 % quantile of permuted pairings. " +
      (low === 0 ? "Every cell is above chance." : `${low} of ${r.values.length * r.values[0].length} cells are not above chance and are marked with a ring.`),
  },
};

const hasAny = matrix => matrix.some(line => line.some(value => value !== null));

function colourOf(scales, view, value, [low, high]) {
  return scales[view.scale][Math.round(255 * Math.min(1, Math.max(0, (value - low) / (high - low))))];
}

// The facts of one cell, in order: [name, value].
function factsOf(result, row, column) {
  const r = result.document, x = r.rows[row], y = r.columns[column];
  const facts = [];
  const undefinedWhy = [x.undefined && `${x.name}: ${x.undefined}`, y.undefined && `${y.name}: ${y.undefined}`];
  if (r.values[row][column] === null) facts.push(["undefined", undefinedWhy.filter(Boolean).join("; ") || "no value"]);
  if (r.low[row][column] !== null) facts.push(["95 % interval", `${fixed(r.low[row][column])} to ${fixed(r.high[row][column])}`]);
  if (r.null[row][column] !== null) facts.push(["chance (95 %)", fixed(r.null[row][column])]);
  if (r.p_values[row][column] !== null) facts.push(["p", chanceOf(r, row, column)]);
  return facts;
}

function chanceOf(r, row, column) {
  const p = r.p_values[row][column], least = 1 / (1 + (r.settings.permutations ?? NaN));
  return fixed(p) + (p <= least * 1.0001 ? ` (the smallest that ${r.settings.permutations} permutations can give)` : "");
}

// The two layers of a cell.
function layersOf(result, models, row, column) {
  const r = result.document;
  return [[models[0], row, r.rows[row]], [models[1], column, r.columns[column]]].map(([model, index, layer]) => ({
    model, index, name: layer.name, module: layer.module,
    shape: (layer.shape ?? []).join(" \u00d7 "),
    rms: layer.rms === null ? "" : fourDigits(layer.rms),
  }));
}

function sentenceOf(result, models, row, column) {
  const r = result.document, value = r.values[row][column];
  const text = value === null ? "undefined" : `${result.measure} ${fixed(value)}`;
  const rest = factsOf(result, row, column).map(([name, fact]) => `${name} ${fact}`);
  return `Row ${row} ${r.rows[row].name}, column ${column} ${r.columns[column].name}: ${[text, ...rest].join(", ")}.`;
}

// Pinned cells: each with its batches, two or more also side by side.

function batchesOf(r, row, column) {
  const terms = r.terms;
  return terms.weights.map((weight, batch) => {
    const xy = terms.xy[batch][row][column], xx = terms.xx[batch][row], yy = terms.yy[batch][column];
    return {weight, xy, xx, yy, value: xx > 0 && yy > 0 ? xy / Math.sqrt(xx * yy) : null};
  });
}

function cardOf(result, models, pin) {
  const r = result.document, [row, column] = pin.cell;
  const title = `${r.rows[row].name} \u00d7 ${r.columns[column].name}`;
  const unpin = make("button", {type: "button", class: "unpin", "aria-label": `Unpin ${pin.letter}: ${title}`}, "Unpin");
  const heading = make("h4", {}, make("span", {class: "letter"}, pin.letter), " ", ...broken(title));
  const card = make("article", {class: "pin", "data-row": row, "data-column": column}, make("header", {}, heading, unpin), cellFacts(result, models, row, column));
  if (!result.batches) {
    card.append(make("p", {class: "note"}, "The file has no batch terms of this measure."));
  } else if (r.values[row][column] === null) {
    card.append(make("p", {class: "note"}, "The value is undefined; these are its terms."), termsTable(result, row, column));
  } else {
    card.append(...termsOf(result, row, column));
  }
  return {card, unpin};
}

function termsOf(result, row, column) {
  const r = result.document;
  const batches = batchesOf(r, row, column), value = r.values[row][column];
  const own = batches.map(batch => batch.value).filter(one => one !== null);
  const mean = own.reduce((sum, one) => sum + one, 0) / own.length;
  const words =
    result.batches === "mean"
      ? `The value, ${fixed(value)}, is the mean of the batches\u2019 values, weighted by their numbers of images.`
      : batches.length === 1
      ? `All images are in one batch, whose value is ${fixed(value)}.`
      : `The value, ${fixed(value)}, is the ratio of the sums in the last line: \u03a3 w\u00b7xy / \u221a(\u03a3 w\u00b7xx \u00b7 \u03a3 w\u00b7yy). It is not the mean of the batches\u2019 values` +
        (own.length === batches.length ? `, which is ${fixed(mean) === fixed(value) ? "also " : ""}${fixed(mean)}.` : "; some of them are undefined.");
  return [batchChart(result, batches, row, column), make("p", {class: "note"}, words), termsTable(result, row, column)];
}

function termsTable(result, row, column) {
  const r = result.document, ratio = result.batches === "ratio";
  const batches = batchesOf(r, row, column);
  const line = (name, cells, kind) =>
    make("tr", {}, make("th", {scope: "row"}, name), ...cells.map(text => make("td", {class: kind ?? "number"}, text)));
  const heads = ["batch", "images, w", ...(ratio ? ["HSIC xy", "HSIC xx", "HSIC yy", "CKA"] : ["value"])];
  const hsics = (xy, xx, yy) => ratio ? [xy, xx, yy].map(fourDigits) : [];
  const sum = name => batches.reduce((total, batch) => total + batch.weight * batch[name], 0);
  const table = make("table", {class: "data terms"},
    make("caption", {class: "visually-hidden"}, `Terms of ${r.rows[row].name} and ${r.columns[column].name}, batch by batch`),
    make("thead", {}, make("tr", {}, ...heads.map((head, at) => make("th", at ? {scope: "col", class: "number"} : {scope: "col"}, head)))),
    make("tbody", {}, ...batches.map((batch, index) =>
      line(index + 1, [fixed(batch.weight, Number.isInteger(batch.weight) ? 0 : 1), ...hsics(batch.xy, batch.xx, batch.yy), fixed(batch.value)]))),
    make("tfoot", {}, line(ratio ? "\u03a3 w\u00b7" : "all", [fixed(batches.reduce((n, batch) => n + batch.weight, 0), 0), ...hsics(sum("xy"), sum("xx"), sum("yy")), fixed(r.values[row][column])])));
  return make("div", {class: "scroll terms-scroll", tabindex: 0, role: "group", "aria-label": `Terms of ${r.rows[row].name} and ${r.columns[column].name}`}, table);
}

// One dot per batch, the value as a line, its interval as a band.
function batchChart(result, batches, row, column) {
  const r = result.document;
  const value = r.values[row][column], low = r.low[row][column], high = r.high[row][column];
  const shown = [value, low, high, ...batches.map(batch => batch.value)].filter(one => one !== null);
  let bottom = Math.min(...shown), top = Math.max(...shown);
  const air = Math.max(0.1 * (top - bottom), 0.005);
  bottom -= air;
  top += air;
  const width = 340, height = 120, left = 44, right = 262, upper = 8, lower = 98;
  const y = one => lower - (one - bottom) / (top - bottom) * (lower - upper);
  const x = index => left + 14 + (batches.length === 1 ? 0.5 : index / (batches.length - 1)) * (right - left - 28);
  const words = batches.map((batch, index) => `${index + 1}: ${fixed(batch.value)}`).join(", ");
  const svg = draw("svg", {class: "batches", viewBox: `0 0 ${width} ${height}`, role: "img", "font-size": 11, fill: "currentColor", "aria-label": `${result.measure} of each batch (${words}) and of all, ${fixed(value)}`});
  if (low !== null) svg.append(draw("rect", {class: "band", x: left, y: y(high), width: right - left, height: Math.max(1, y(low) - y(high))}));
  svg.append(draw("line", {class: "overall", x1: left, x2: right, y1: y(value), y2: y(value)}));
  svg.append(draw("path", {class: "axis", d: `M${left} ${upper}V${lower}H${right}`, fill: "none"}));
  for (const end of [bottom, top]) svg.append(draw("text", {x: left - 6, y: y(end), "text-anchor": "end", "dominant-baseline": "central"}, fixed(end, 2)));
  batches.forEach((batch, index) => {
    if (batch.value !== null) svg.append(draw("circle", {class: "batch", cx: x(index), cy: y(batch.value), r: batches.length > 40 ? 2 : 3.5}));
  });
  svg.append(draw("text", {x: right + 6, y: y(value), "dominant-baseline": "central", class: "overall-name"}, `all ${fixed(value)}`));
  const ends = batches.length === 1 ? [0] : [0, batches.length - 1];
  for (const index of ends) svg.append(draw("text", {x: x(index), y: lower + 14, "text-anchor": "middle"}, index ? index + 1 : "batch 1"));
  return svg;
}

function cellFacts(result, models, row, column) {
  const r = result.document, list = make("dl", {class: "facts"});
  for (const [name, text] of [[result.measure, fixed(r.values[row][column])], ...factsOf(result, row, column)])
    list.append(make("div", {}, make("dt", {}, name), make("dd", name === result.measure ? {class: "value"} : {}, text)));
  for (const layer of layersOf(result, models, row, column)) {
    const words = [layer.name !== layer.module && `module ${layer.module}`, layer.shape && `shape ${layer.shape}`, layer.rms && `rms ${layer.rms}`];
    list.append(make("div", {}, make("dt", {}, layer.model),
      make("dd", {}, make("strong", {}, ...broken(layer.name)), ` (${layer.index})`, make("span", {class: "layer"}, ...words.filter(Boolean).flatMap((word, at) => [at ? ", " : "", make("span", {class: "word"}, ...(word.startsWith("module") ? broken(word) : [word]))])))));
  }
  return list;
}

function comparisonOf(result, pins) {
  const r = result.document, at = (matrix, pin) => matrix[pin.cell[0]][pin.cell[1]];
  const width = pin => at(r.low, pin) === null ? null : at(r.high, pin) - at(r.low, pin);
  const lines = [
    [result.measure, pin => fixed(at(r.values, pin))],
    ["95 % interval", pin => at(r.low, pin) === null ? DASH : `${fixed(at(r.low, pin))} to ${fixed(at(r.high, pin))}`],
    ["its width", pin => fixed(width(pin))],
    ["chance (95 %)", pin => fixed(at(r.null, pin))],
    ["p", pin => fixed(at(r.p_values, pin))],
    [`minus ${pins[0].letter}`, pin => pin === pins[0] || at(r.values, pin) === null || at(r.values, pins[0]) === null ? DASH : fixed(at(r.values, pin) - at(r.values, pins[0]))],
  ];
  const name = pin => [r.rows[pin.cell[0]].name, `\u00d7 ${r.columns[pin.cell[1]].name}`];
  const table = make("table", {class: "data comparison"},
    make("caption", {class: "visually-hidden"}, "Pinned cells side by side"),
    make("thead", {}, make("tr", {}, make("td"), ...pins.map(pin => make("th", {scope: "col", class: "number"}, make("span", {class: "letter"}, pin.letter), ...name(pin).map(layer => make("span", {class: "layer"}, layer)))))),
    make("tbody", {}, ...lines.map(([title, number]) =>
      make("tr", {}, make("th", {scope: "row"}, title), ...pins.map(pin => make("td", {class: "number"}, number(pin)))))));
  const words = "These cells share their images, so the overlap of their intervals does not test their difference.";
  return make("div", {}, make("p", {class: "note"}, words), make("div", {class: "scroll", tabindex: 0, role: "group", "aria-label": "Pinned cells side by side"}, table));
}

const LETTERS = "ABCDEF";
const MAX_NAMED = 1000; // cells that always have an accessible name; in larger matrices a cell gets one when it is reached

class Matrix {
  constructor(root, data, scales) {
    Object.assign(this, {root, data, scales, id: root.id, current: [0, 0], view: VIEWS.values, pins: []});
    this.result = data.results[0];
    this.svg = root.querySelector(".heatmap");
    this.size = [this.result.document.rows.length, this.result.document.columns.length];
    this.build();
    this.listen();
    this.redraw();
    for (const part of root.querySelectorAll(".controls, .readout, .made-downloads")) part.hidden = false;
  }

  part(name) {
    return this.root.querySelector(name);
  }

  build() {
    const [wide, high] = this.data.cell, group = this.part(".cells"), numbers = this.part(".numbers");
    this.svg.setAttribute("role", "group");
    this.svg.setAttribute("aria-describedby", `${this.id}-help`);
    set(group, {role: "grid", "aria-label": this.svg.getAttribute("aria-label"), "aria-rowcount": this.size[0], "aria-colcount": this.size[1], "aria-multiselectable": "true"});
    group.replaceChildren();
    numbers.replaceChildren();
    this.cells = [];
    this.texts = [];
    for (let row = 0; row < this.size[0]; row++) {
      const line = draw("g", {role: "row"});
      const y = this.data.top + row * high;
      this.cells.push(Array.from({length: this.size[1]}, (_, column) => {
        const cell = draw("rect", {role: "gridcell", x: +(this.data.left + column * wide).toFixed(2), y: +y.toFixed(2), width: wide, height: high});
        cell.position = [row, column];
        line.append(cell);
        return cell;
      }));
      group.append(line);
      if (!this.data.numbers) continue;
      this.texts.push(Array.from({length: this.size[1]}, (_, column) => {
        const text = draw("text", {x: this.data.left + (column + 0.5) * wide, y: y + high / 2, "dominant-baseline": "central"});
        numbers.append(text);
        return text;
      }));
    }
    this.cells[0][0].setAttribute("tabindex", 0);
  }

  listen() {
    const group = this.part(".cells");
    group.addEventListener("pointerover", event => event.target.position && this.read(event.target.position));
    // Not on the group: Chromium makes SVG elements with focus listeners focusable.
    const box = this.part(".drawing");
    box.addEventListener("focusin", event => event.target.position && this.announce(event.target.position));
    box.addEventListener("focusout", () => this.mark());
    group.addEventListener("click", event => {
      if (!event.target.position) return;
      this.move(event.target.position);
      this.pin(event.target.position);
    });
    group.addEventListener("keydown", event => this.key(event));
    this.root.addEventListener("keydown", event => {
      if (event.key !== "Escape" || !this.pins.length) return;
      event.preventDefault();
      this.pin(this.pins.at(-1).cell);
    });
    for (const input of this.root.querySelectorAll(".controls input"))
      input.addEventListener("change", () => {
        if (input.name.endsWith("-view")) this.view = VIEWS[input.value];
        else this.result = this.data.results[Number(input.value)];
        this.redraw();
      });
    this.part(".as-table").addEventListener("toggle", () => this.writeTable());
    for (const link of this.root.querySelectorAll("[data-make]")) {
      const give = () => { link.href = this.file(link.dataset.make); };
      link.addEventListener("click", give);
      link.addEventListener("contextmenu", give);
    }
  }

  key(event) {
    const [row, column] = this.current, [rows, columns] = this.size, jump = event.ctrlKey || event.metaKey;
    const page = Math.max(1, Math.round(rows / 10));
    const to = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      Home: [jump ? 0 : row, 0], End: [jump ? rows - 1 : row, columns - 1], PageUp: [row - page, column], PageDown: [row + page, column],
    }[event.key];
    if (to) {
      event.preventDefault();
      this.move([Math.min(rows - 1, Math.max(0, to[0])), Math.min(columns - 1, Math.max(0, to[1]))]);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.pin(this.current);
    }
  }

  move(position) {
    this.cell(this.current).removeAttribute("tabindex");
    this.cell(position).setAttribute("tabindex", 0);
    this.current = position;
    this.name(position);
    this.cell(position).focus({preventScroll: false});
  }

  announce(position) {
    this.read(position);
    this.say(sentenceOf(this.result, this.data.models, ...position));
  }

  cell([row, column]) {
    return this.cells[row][column];
  }

  name([row, column]) {
    const r = this.result.document, number = this.view.number(r, row, column);
    this.cells[row][column].setAttribute("aria-label", `${r.rows[row].name} by ${r.columns[column].name}: ${number === null ? "undefined" : fixed(number)}`);
  }

  say(text) {
    this.part(".live").textContent = text;
  }

  read(position) {
    this.shown = position;
    this.part(".hint").classList.add("visually-hidden");
    this.part(".cell-facts").replaceChildren(cellFacts(this.result, this.data.models, ...position));
    this.mark();
  }

  // Frames around the cell that is read, the focused cell, and the pinned cells with their letters.
  mark() {
    const marks = this.part(".marks"), [wide, high] = this.data.cell;
    const frame = (position, kind, wider) => {
      const [row, column] = position, at = {x: this.data.left + column * wide - wider, y: this.data.top + row * high - wider, width: wide + 2 * wider, height: high + 2 * wider};
      marks.append(draw("rect", {...at, class: `${kind} outer`, stroke: "#fff", "stroke-width": 4}), draw("rect", {...at, class: kind, stroke: "#0b559f", "stroke-width": 2}));
    };
    marks.replaceChildren();
    if (this.view === VIEWS.above) this.ring(marks);
    for (const pin of this.pins) frame(pin.cell, "pinned", 0);
    if (this.shown) frame(this.shown, "read", 0);
    if (document.activeElement === this.cell(this.current)) frame(this.current, "focused", 1.5);
    for (const pin of this.pins) { // above all frames
      const x = this.data.left + (pin.cell[1] + 1) * wide, y = this.data.top + pin.cell[0] * high;
      marks.append(draw("circle", {cx: x, cy: y, r: 8, fill: "#0b559f", stroke: "#fff", "stroke-width": 1.5}),
        draw("text", {x, y, fill: "#fff", "font-size": 10, "font-weight": 700, "text-anchor": "middle", "dominant-baseline": "central"}, pin.letter));
    }
  }

  ring(marks) {
    const r = this.result.document, [wide, high] = this.data.cell;
    this.each((row, column) => {
      const above = VIEWS.above.number(r, row, column);
      if (above !== null && above <= 0)
        marks.append(draw("circle", {class: "not-above", cx: this.data.left + (column + 0.5) * wide, cy: this.data.top + (row + 0.5) * high, r: 0.36 * Math.min(wide, high), stroke: "#fff", "stroke-width": Math.max(0.8, 0.03 * wide)}));
    });
  }

  each(visit) {
    for (let row = 0; row < this.size[0]; row++) for (let column = 0; column < this.size[1]; column++) visit(row, column);
  }

  redraw() {
    const r = this.result.document, ends = this.view.ends(r, this.result);
    this.offer(r);
    let notAbove = 0;
    this.each((row, column) => {
      const number = this.view.number(r, row, column), cell = this.cells[row][column];
      const colour = number === null ? null : colourOf(this.scales, this.view, number, ends);
      cell.setAttribute("fill", colour === null ? `url(#${this.id}-hatch)` : `#${colour}`);
      if (this.texts.length) {
        this.texts[row][column].textContent = number === null ? "" : brief(number);
        if (colour !== null) this.texts[row][column].setAttribute("fill", lettersOn(colour));
      }
      notAbove += number !== null && number <= 0;
      if (this.size[0] * this.size[1] <= MAX_NAMED) this.name([row, column]);
    });
    this.name(this.current);
    this.part(".bar").setAttribute("fill", `url(#${this.id}-${this.view.scale})`);
    const ticks = ticksOf(ends);
    this.root.querySelectorAll(".tick").forEach((tick, step) => { tick.textContent = ticks[step]; });
    this.part(".bar-name").textContent = this.view.bar(this.result);
    const note = this.part(".view-note");
    note.textContent = this.view.note(r, this.result, notAbove);
    note.hidden = !note.textContent;
    if (this.shown) this.read(this.shown);
    this.mark();
    this.writePins();
    this.writeTable();
  }

  // Disable the views that this result has no numbers for, with the reason as a tooltip.
  offer(r) {
    const missing = {widths: !hasAny(r.low) && "no intervals in this result", above: !hasAny(r.null) && "no permutations in this result"};
    for (const [name, why] of Object.entries(missing)) {
      const input = this.part(`input[value="${name}"]`);
      input.disabled = Boolean(why);
      input.parentElement.title = why || "";
    }
  }

  pin(position) {
    const at = this.pins.findIndex(pin => pin.cell[0] === position[0] && pin.cell[1] === position[1]);
    const r = this.result.document, title = `${r.rows[position[0]].name} by ${r.columns[position[1]].name}`;
    if (at >= 0) {
      this.pins.splice(at, 1);
      this.say(`Unpinned ${title}.`);
    } else {
      if (this.pins.length === LETTERS.length) this.pins.shift();
      const letter = [...LETTERS].find(one => !this.pins.some(pin => pin.letter === one));
      this.pins.push({cell: position, letter});
      this.say(`Pinned as ${letter}. ${sentenceOf(this.result, this.data.models, ...position)}`);
    }
    this.cell(position).setAttribute("aria-selected", String(at < 0));
    this.mark();
    this.writePins();
  }

  writePins() {
    const box = this.part(".pins");
    box.hidden = !this.pins.length;
    box.replaceChildren();
    if (box.hidden) return;
    box.append(make("h3", {}, this.pins.length === 1 ? "Pinned cell" : "Pinned cells"));
    if (this.pins.length > 1) box.append(comparisonOf(this.result, this.pins));
    const cards = make("div", {class: "cards"});
    for (const pin of this.pins) {
      const {card, unpin} = cardOf(this.result, this.data.models, pin);
      unpin.addEventListener("click", () => { this.pin(pin.cell); this.cell(this.current).focus(); });
      cards.append(card);
    }
    box.append(cards);
  }

  writeTable() {
    if (!this.part(".as-table").open) return;
    const r = this.result.document, table = this.part(".cells-table");
    table.caption.textContent = `${this.result.label}, ${this.view.bar(this.result)}: rows ${this.data.models[0]}, columns ${this.data.models[1]}`;
    const head = make("thead", {}, make("tr", {}, make("th", {scope: "col"}, "layer"), ...r.columns.map(axis => make("th", {scope: "col", class: "number"}, axis.name))));
    const body = make("tbody", {}, ...r.rows.map((axis, row) =>
      make("tr", {}, make("th", {scope: "row"}, axis.name), ...r.columns.map((_, column) => make("td", {class: "number"}, fixed(this.view.number(r, row, column)))))));
    table.tHead?.remove();
    table.replaceChildren(table.caption, head, body);
  }

  file(kind) {
    if (kind === "json") return "data:application/json;charset=utf-8," + encodeURIComponent(JSON.stringify(this.result.document, null, 1) + "\n");
    if (kind === "csv") return "data:text/csv;charset=utf-8," + encodeURIComponent(csvOf(this.result.document));
    const svg = this.svg.cloneNode(true);
    svg.querySelectorAll(".read, .focused").forEach(mark => mark.remove());
    svg.querySelectorAll("[role], [tabindex]").forEach(one => ["role", "tabindex", "aria-label", "aria-selected"].forEach(name => one.removeAttribute(name)));
    set(svg, {xmlns: SVG, color: "#1a1a1a", role: "img"}).removeAttribute("aria-describedby");
    svg.prepend(draw("rect", {width: "100%", height: "100%", fill: "#fff"}));
    return "data:image/svg+xml;charset=utf-8," + encodeURIComponent(new XMLSerializer().serializeToString(svg));
  }
}

function csvOf(r) {
  const quoted = text => /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const lines = ["layer_x,layer_y,index_x,index_y,value,low,high,null,p_value"];
  r.rows.forEach((x, row) => r.columns.forEach((y, column) => lines.push(
    [quoted(x.name), quoted(y.name), row, column, ...["values", "low", "high", "null", "p_values"].map(name => r[name][row][column] ?? "")].join(","))));
  return lines.join("\n") + "\n";
}
