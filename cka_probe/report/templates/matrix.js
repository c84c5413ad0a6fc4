// One interactive matrix: draws its cells, moves through them, pins them, and gives them away as files.

const LETTERS = "ABCDEF";
const MOST_NAMED = 1000; // cells that carry their words all the time; in larger ones a cell gets them when it is reached

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
        cell.place = [row, column];
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
    group.addEventListener("pointerover", event => event.target.place && this.read(event.target.place));
    // Not on the group: Chromium gives the focus to a part of an SVG that listens for it.
    const box = this.part(".drawing");
    box.addEventListener("focusin", event => event.target.place && this.reached(event.target.place));
    box.addEventListener("focusout", () => this.mark());
    group.addEventListener("click", event => {
      if (!event.target.place) return;
      this.move(event.target.place);
      this.pin(event.target.place);
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

  move(place) {
    this.cell(this.current).removeAttribute("tabindex");
    this.cell(place).setAttribute("tabindex", 0);
    this.current = place;
    this.name(place);
    this.cell(place).focus({preventScroll: false});
  }

  reached(place) {
    this.read(place);
    this.say(sentenceOf(this.result, this.data.models, ...place));
  }

  cell([row, column]) {
    return this.cells[row][column];
  }

  name([row, column]) {
    const r = this.result.document, number = this.view.number(r, row, column);
    this.cells[row][column].setAttribute("aria-label", `${r.rows[row].name} by ${r.columns[column].name}: ${number === null ? "undefined" : fixed(number)}`);
  }

  say(words) {
    this.part(".live").textContent = words;
  }

  read(place) {
    this.shown = place;
    this.part(".hint").classList.add("visually-hidden");
    this.part(".cell-facts").replaceChildren(cellFacts(this.result, this.data.models, ...place));
    this.mark();
  }

  // Frames around the cell that is read, the one with the keyboard, and the pinned ones with their letters.
  mark() {
    const marks = this.part(".marks"), [wide, high] = this.data.cell;
    const frame = (place, kind, wider) => {
      const [row, column] = place, at = {x: this.data.left + column * wide - wider, y: this.data.top + row * high - wider, width: wide + 2 * wider, height: high + 2 * wider};
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
      if (this.size[0] * this.size[1] <= MOST_NAMED) this.name([row, column]);
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

  // A view that this result has no numbers for cannot be chosen, and says why.
  offer(r) {
    const missing = {widths: !hasAny(r.low) && "no intervals in this result", above: !hasAny(r.null) && "no permutations were made"};
    for (const [name, why] of Object.entries(missing)) {
      const input = this.part(`input[value="${name}"]`);
      input.disabled = Boolean(why);
      input.parentElement.title = why || "";
    }
  }

  pin(place) {
    const at = this.pins.findIndex(pin => pin.cell[0] === place[0] && pin.cell[1] === place[1]);
    const r = this.result.document, title = `${r.rows[place[0]].name} by ${r.columns[place[1]].name}`;
    if (at >= 0) {
      this.pins.splice(at, 1);
      this.say(`Unpinned ${title}.`);
    } else {
      if (this.pins.length === LETTERS.length) this.pins.shift();
      const letter = [...LETTERS].find(one => !this.pins.some(pin => pin.letter === one));
      this.pins.push({cell: place, letter});
      this.say(`Pinned as ${letter}. ${sentenceOf(this.result, this.data.models, ...place)}`);
    }
    this.cell(place).setAttribute("aria-selected", String(at < 0));
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
