// What a matrix shows: one number a cell in each view, its colour, and its words.

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
    note: () => "From the lower to the upper end of the 95 % interval: the darker, the wider, the less sure. The scale ends near the widest.",
  },
  above: {
    scale: "values",
    number: (r, row, column) =>
      r.values[row][column] === null || r.null[row][column] === null ? null : r.values[row][column] - r.null[row][column],
    ends: (r, result) => [0, result.range[1]],
    bar: () => "value less chance",
    note: (r, result, low) =>
      "The value less what 95 % of permuted pairings stay below. " +
      (low === 0 ? "Every cell is above chance." : `${low} of ${r.values.length * r.values[0].length} cells are not above chance and are marked with a ring.`),
  },
};

const hasAny = matrix => matrix.some(line => line.some(value => value !== null));

function colourOf(scales, view, value, [low, high]) {
  return scales[view.scale][Math.round(255 * Math.min(1, Math.max(0, (value - low) / (high - low))))];
}

// Everything that is said of one cell, in order: [name, value].
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
  return fixed(p) + (p <= least * 1.0001 ? ` (the least that ${r.settings.permutations} permutations can give)` : "");
}

// The two layers of a cell: what a reader of the matrix wants to know of each.
function layersOf(result, models, row, column) {
  const r = result.document;
  return [[models[0], row, r.rows[row]], [models[1], column, r.columns[column]]].map(([model, index, layer]) => ({
    model, index, name: layer.name, module: layer.module,
    shape: (layer.shape ?? []).join(" \u00d7 "),
    spread: layer.spread === null ? "" : fourDigits(layer.spread),
  }));
}

function sentenceOf(result, models, row, column) {
  const r = result.document, value = r.values[row][column];
  const said = value === null ? "undefined" : `${result.measure} ${fixed(value)}`;
  const rest = factsOf(result, row, column).map(([name, text]) => `${name} ${text}`);
  return `Row ${row} ${r.rows[row].name}, column ${column} ${r.columns[column].name}: ${[said, ...rest].join(", ")}.`;
}
