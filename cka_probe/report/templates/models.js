// Several models: a slider moves their matrix and their map from layer to layer.

class Models {
  constructor(root, data, colors) {
    Object.assign(this, {root, data, colors, count: data.names.length, slider: root.querySelector("input[type=range]")});
    this.cells = [...root.querySelectorAll(".model-cell")];
    if (data.steps[0].points) this.buildMap();
    this.slider.addEventListener("input", () => this.show(this.slider.valueAsNumber));
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
      const models = this.data.runs[run].filter(index => step.points[index][0] !== null);
      line.setAttribute("points", models.map(index => at(index).join(",")).join(" "));
    });
    const share = step.explained === null ? "" : ` Both axes explain ${Math.round(100 * step.explained)} %.`;
    this.svg.setAttribute("aria-label", `Map of the models, ${step.name}.${share}`);
    this.root.querySelector(".map-note").textContent = `Distances of points approximate √(2 (1 − s)).${share} Ellipses: 95 % over resamples of the images.`;
  }
}
