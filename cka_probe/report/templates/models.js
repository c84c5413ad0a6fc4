// Several models: a slider moves their matrix and their map from layer to layer, another goes along a training run.

class Models {
  constructor(root, data, colors) {
    Object.assign(this, {root, data, colors, count: data.names.length, slider: root.querySelector("input[type=range]")});
    this.cells = [...root.querySelectorAll(".model-cell")];
    if (data.steps[0].points) this.buildMap();
    this.slider.addEventListener("input", () => this.show(this.slider.valueAsNumber));
    for (const run of data.runs) new TrainingRun(this, run);
    this.show(0);
    root.querySelector(".controls").hidden = false;
  }

  // The index of two models among all pairs i < j.
  pair(i, j) {
    const [low, high] = i < j ? [i, j] : [j, i];
    return low * (2 * this.count - low - 1) / 2 + high - low - 1;
  }

  title(step, i, j) {
    const at = this.pair(i, j), value = step.values[at];
    const interval = step.low[at] === null ? "" : `, 95 % interval ${fixed(step.low[at])} to ${fixed(step.high[at])}`;
    return `${this.data.names[i]} and ${this.data.names[j]}: ${value === null ? "undefined" : fixed(value) + interval}`;
  }

  show(number) {
    const step = this.data.steps[number], [low, high] = this.data.range;
    this.cells.forEach((cell, index) => {
      const i = Math.floor(index / (this.count - 1)), other = index % (this.count - 1), j = other + (other >= i);
      const value = step.values[this.pair(i, j)], title = this.title(step, i, j), text = cell.querySelector("text");
      const color = value === null ? "" : this.colors[Math.round(255 * Math.min(1, Math.max(0, (value - low) / (high - low))))];
      cell.querySelector("rect").setAttribute("fill", color ? `#${color}` : `url(#${this.root.id}-hatch)`);
      cell.querySelector("title").textContent = title;
      cell.setAttribute("aria-label", title);
      if (text) set(text, {fill: color ? lettersOn(color) : "none"}).textContent = color ? brief(value) : "";
    });
    if (this.points) this.place(step);
    this.slider.setAttribute("aria-valuetext", step.name);
    this.root.querySelector("output").textContent = step.name;
    this.root.querySelector(".extremes").textContent = this.extremes(step);
  }

  extremes(step) {
    const pairs = [...this.data.names.keys()].flatMap(j => [...Array(j).keys()].map(i => [i, j]));
    const defined = pairs.filter(([i, j]) => step.values[this.pair(i, j)] !== null);
    if (!defined.length) return "No pair has a value here.";
    defined.sort((one, other) => step.values[this.pair(...one)] - step.values[this.pair(...other)]);
    return `Most alike: ${this.title(step, ...defined.at(-1))}. Least alike: ${this.title(step, ...defined[0])}.`;
  }

  // The map has one scale for all layers, so that points move and never jump.
  buildMap() {
    const reach = axis => Math.max(1e-3, ...this.data.steps.flatMap(step => step.points.map((point, index) => Math.abs(point[axis]) + (step.ellipses[index][0] ?? 0))));
    const [wide, high] = [reach(0), reach(1)];
    this.scale = 260 / Math.max(wide, high);
    const half = [Math.max(120, wide * this.scale) + 24, Math.max(60, high * this.scale) + 24].map(Math.round);
    const svg = draw("svg", {viewBox: `${-half[0]} ${-half[1]} ${2 * half[0]} ${2 * half[1]}`, width: 2 * half[0], height: 2 * half[1], role: "img", "font-size": 12, fill: "currentColor"});
    this.lines = this.data.runs.map(() => draw("polyline", {class: "run", fill: "none"}));
    this.points = this.data.names.map((name, index) => {
      const group = draw("g"), title = draw("title", {}, name);
      group.append(title, draw("ellipse"), draw("circle", {r: 3.5}), draw("text", {y: -6}, this.data.labels[index]));
      return group;
    });
    svg.append(...this.lines, ...this.points);
    this.root.querySelector(".model-map").prepend(svg);
    this.root.querySelector(".model-map").hidden = false;
    this.svg = svg;
  }

  place(step) {
    const at = index => step.points[index].map((value, axis) => +(value * this.scale * (axis ? -1 : 1)).toFixed(1));
    this.points.forEach((group, index) => {
      group.style.display = step.points[index][0] === null ? "none" : "";
      if (step.points[index][0] === null) return;
      const [x, y] = at(index), [long, short, angle] = step.ellipses[index], text = group.querySelector("text");
      group.setAttribute("transform", `translate(${x} ${y})`);
      set(text, {x: x < 0 ? 5 : -5, "text-anchor": x < 0 ? "start" : "end"});
      const radii = {rx: ((long ?? 0) * this.scale).toFixed(1), ry: ((short ?? 0) * this.scale).toFixed(1)};
      set(group.querySelector("ellipse"), {...radii, transform: `rotate(${(-angle || 0).toFixed(1)})`});
    });
    this.lines.forEach((line, run) => {
      const models = this.data.runs[run].models.filter(index => step.points[index][0] !== null);
      line.setAttribute("points", models.map(index => at(index).join(",")).join(" "));
    });
    const share = step.explained === null ? "" : ` Both axes explain ${Math.round(100 * step.explained)} %.`;
    this.svg.setAttribute("aria-label", `Map of the models, ${step.name}.${share}`);
    this.root.querySelector(".map-note").textContent = `Distances of points approximate √(2 (1 − s)).${share} Ellipses: 95 % over resamples of the images.`;
  }
}

// How similar each layer is to its state at the last checkpoint of a run, over steps; a slider marks one of them.
class TrainingRun {
  constructor(board, run) {
    const {steps: depths, settled} = board.data, last = run.models.at(-1);
    Object.assign(this, {board, run, settled});
    this.layers = depths.slice(1).map(depth => ({
      name: depth.name,
      values: run.models.map(model => (model === last ? 1 : depth.values[board.pair(model, last)])),
    }));
    this.box = {left: 44, right: 624, top: 8, bottom: 232};
    this.output = make("output");
    this.slider = make("input", {type: "range", min: 0, max: run.steps.length - 1, value: 0, step: 1});
    this.note = make("p", {class: "note", "aria-live": "polite"});
    const label = make("label", {class: "slider"}, `Run ${run.name} `, this.slider, " ", this.output);
    const title = make("p", {class: "caption"}, "When did each layer settle? Its similarity to the last checkpoint: dark lines are early layers, bright ones late.");
    board.root.querySelector(".training-runs").append(make("div", {class: "training-run"}, title, label, this.chart(), this.note));
    this.slider.addEventListener("input", () => this.show(this.slider.valueAsNumber));
    this.show(0);
  }

  x(step) {
    const {left, right} = this.box, [first, last] = [this.run.steps[0], this.run.steps.at(-1)];
    return +(left + (right - left) * (step - first) / (last - first)).toFixed(1);
  }

  y(value) {
    const {top, bottom} = this.box;
    return +(bottom - (bottom - top) * Math.max(0, Math.min(1, value))).toFixed(1);
  }

  color(layer) {
    const colors = this.board.colors;
    return `#${colors[Math.round((0.1 + 0.75 * layer / Math.max(1, this.layers.length - 1)) * (colors.length - 1))]}`;
  }

  chart() {
    const {left, right, top, bottom} = this.box, {steps} = this.run;
    const svg = draw("svg", {viewBox: "0 0 640 272", width: 640, height: 272, role: "img", "font-size": 12, fill: "currentColor", "aria-label": `Similarity of each layer of ${this.run.name} to its state at step ${steps.at(-1)}, over steps.`});
    for (const value of [0, 0.5, this.settled, 1]) {
      svg.append(draw("line", {class: value === this.settled ? "settled" : "grid", x1: left, x2: right, y1: this.y(value), y2: this.y(value)}));
      svg.append(draw("text", {x: left - 6, y: this.y(value) + 4, "text-anchor": "end"}, String(value)));
    }
    const shown = [...new Set([0, 0.25, 0.5, 0.75, 1].map(share => steps[Math.round(share * (steps.length - 1))]))];
    for (const step of shown) svg.append(draw("text", {x: this.x(step), y: bottom + 18, "text-anchor": "middle"}, String(step)));
    svg.append(draw("text", {x: (left + right) / 2, y: bottom + 36, "text-anchor": "middle"}, "step"));
    this.layers.forEach((layer, index) => {
      const points = layer.values.map((value, at) => (value === null ? "" : `${this.x(steps[at])},${this.y(value)}`)).filter(Boolean);
      const line = draw("polyline", {class: "layer", points: points.join(" "), fill: "none", stroke: this.color(index)});
      line.append(draw("title", {}, layer.name));
      svg.append(line);
    });
    this.mark = draw("line", {class: "mark", y1: top, y2: bottom});
    this.dots = this.layers.map((layer, index) => draw("circle", {r: 3.5, fill: this.color(index)}));
    svg.append(this.mark, ...this.dots);
    return svg;
  }

  show(number) {
    const {steps} = this.run, x = this.x(steps[number]), before = steps.length - 1;
    set(this.mark, {x1: x, x2: x});
    this.dots.forEach((dot, layer) => {
      const value = this.layers[layer].values[number];
      set(dot, {cx: x, cy: this.y(value ?? 0)}).style.display = value === null ? "none" : "";
    });
    const settled = this.layers.filter(({values}) => number < before && values.slice(number, before).every(value => value !== null && value >= this.settled));
    const names = settled.length ? `: ${settled.map(layer => layer.name).join(", ")}` : "";
    this.note.textContent = number === before
      ? "The last checkpoint, with which the others are compared."
      : `At step ${steps[number]}, ${settled.length} of ${this.layers.length} layers have settled (at least ${fixed(this.settled, 1)} similar to the last checkpoint from there on)${names}.`;
    this.output.textContent = `step ${steps[number]}`;
    this.slider.setAttribute("aria-valuetext", `step ${steps[number]}`);
  }
}
