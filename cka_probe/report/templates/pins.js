// Pinned cells: each with its batches, and two or more side by side.

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
    card.append(make("p", {class: "note"}, "The file has no terms of this measure, batch by batch."));
  } else if (r.values[row][column] === null) {
    card.append(make("p", {class: "note"}, "Without a value there is no ratio; these are the terms."), termsTable(result, row, column));
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
      ? `The value, ${fixed(value)}, is the mean of the batches\u2019 values, each weighted by its images.`
      : batches.length === 1
      ? `All images are in one batch, and its value, ${fixed(value)}, is the value.`
      : `The value, ${fixed(value)}, is the ratio of the sums in the last line: \u03a3 w\u00b7xy / \u221a(\u03a3 w\u00b7xx \u00b7 \u03a3 w\u00b7yy). It is not the mean of the batches\u2019 own values` +
        (own.length === batches.length ? `, which is ${fixed(mean)}${fixed(mean) === fixed(value) ? " too, here" : ""}.` : "; some of them have none.");
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

// A dot a batch, the value as a line across, its interval as a band.
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
    const words = [layer.name !== layer.module && `module ${layer.module}`, layer.shape && `shape ${layer.shape}`, layer.spread && `spread ${layer.spread}`];
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
    [`less ${pins[0].letter}`, pin => pin === pins[0] || at(r.values, pin) === null || at(r.values, pins[0]) === null ? DASH : fixed(at(r.values, pin) - at(r.values, pins[0]))],
  ];
  const name = pin => [r.rows[pin.cell[0]].name, `\u00d7 ${r.columns[pin.cell[1]].name}`];
  const table = make("table", {class: "data comparison"},
    make("caption", {class: "visually-hidden"}, "Pinned cells side by side"),
    make("thead", {}, make("tr", {}, make("td"), ...pins.map(pin => make("th", {scope: "col", class: "number"}, make("span", {class: "letter"}, pin.letter), ...name(pin).map(layer => make("span", {class: "layer"}, layer)))))),
    make("tbody", {}, ...lines.map(([title, number]) =>
      make("tr", {}, make("th", {scope: "row"}, title), ...pins.map(pin => make("td", {class: "number"}, number(pin)))))));
  const words = "These cells share their images: whether their intervals overlap is no test of their difference.";
  return make("div", {}, make("p", {class: "note"}, words), make("div", {class: "scroll", tabindex: 0, role: "group", "aria-label": "Pinned cells side by side"}, table));
}
