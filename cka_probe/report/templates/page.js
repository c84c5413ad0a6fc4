// The page's script: formatted numbers, new elements, sortable tables, copy buttons, and the start of each matrix.

const MINUS = "−", DASH = "—", SVG = "http://www.w3.org/2000/svg";

const fixed = (value, digits = 3) =>
  value === null || value === undefined ? DASH : value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", MINUS);

// Two decimals without the 0 before the point, as the static figure writes them.
const brief = value => fixed(value, 2).replace(/^(−?)0\./, "$1.");

// Four digits; a power of ten above six digits before the point or three zeros after it.
function fourDigits(value) {
  if (value === null || value === undefined) return DASH;
  const size = Math.abs(value);
  if (value === 0 || (size >= 1e-3 && size < 1e6)) return fixed(value, size === 0 ? 0 : Math.max(0, 3 - Math.floor(Math.log10(size))));
  const [digits, power] = value.toExponential(3).replace("+", "").split("e");
  return `${digits.replace("-", MINUS)}\u2009×\u200910${power.replace("-", "⁻").replace(/\d/g, digit => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit])}`;
}

// Set an element's attributes. Text from results is set by textContent only and never parsed as HTML.
function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function make(name, attributes = {}, ...children) {
  const element = set(document.createElement(name), attributes);
  element.append(...children);
  return element;
}

function draw(name, attributes = {}, text = "") {
  const element = set(document.createElementNS(SVG, name), attributes);
  element.textContent = text;
  return element;
}

// A table that can be scrolled. A row begins with its heading.
function tableOf(kind, name, head, body, foot = []) {
  const rows = (lines, first, other) => lines.map(([title, ...cells]) => make("tr", {}, first(title), ...cells.map(other)));
  const heading = title => make("th", {scope: "row"}, title), cell = text => make("td", {class: "number"}, text);
  const column = (kind = "number") => content => make("th", {scope: "col", class: kind}, ...[content].flat());
  return make("div", {class: `scroll ${kind}-scroll`, tabindex: 0, role: "group", "aria-label": name},
    make("table", {class: `data ${kind}`}, make("caption", {}, name),
      make("thead", {}, ...rows([head], column(""), column())),
      make("tbody", {}, ...rows(body, heading, cell)), make("tfoot", {}, ...rows(foot, heading, cell))));
}

// Six numbers from one end of a scale to the other, with as many decimals as their distance needs.
function ticksOf([low, high]) {
  const step = (high - low) / 5, digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  return [0, 1, 2, 3, 4, 5].map(count => fixed(low + count * step, digits));
}

// A dotted name as nodes that allow a line break after a dot, a slash or an underscore.
const broken = name => name.split(/(?<=[._/])/).flatMap((part, index) => (index ? [make("wbr"), part] : [part]));

// Black or white, whichever has more contrast on a colour "rrggbb" (WCAG 2).
function lettersOn(color) {
  const linear = [0, 2, 4].map(index => {
    const part = parseInt(color.slice(index, index + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.179 ? "white" : "black";
}

// Sortable tables: a button in every heading, the direction in aria-sort, missing values last. A column in which most
// cells begin with a number ("0.214 ± 0.019") is sorted by it, any other as text.

const collator = new Intl.Collator("en", {numeric: true});
const NUMBER = /^−?\d[\d\s]*(\.\d+)?(e−?\d+)?(?![\w.:-])/;

function numberOf(cell) {
  const text = cell.dataset.key ?? cell.textContent.match(NUMBER)?.[0].replace(/\s/g, "").replaceAll(MINUS, "-") ?? "";
  return text === "" ? NaN : Number(text);
}

function sortRows(body, column, descending) {
  const rows = [...body.rows].map(row => ({row, text: row.cells[column].textContent, number: numberOf(row.cells[column])}));
  const numbers = rows.filter(each => !isNaN(each.number)).length;
  const present = rows.filter(each => !["", "–", DASH].includes(each.text)).length;
  const numeric = numbers && 2 * numbers >= present, sign = descending ? -1 : 1;
  const missing = each => (numeric ? isNaN(each.number) : each.text === DASH);
  const difference = (one, other) => (numeric ? one.number - other.number || 0 : collator.compare(one.text, other.text));
  rows.sort((one, other) => missing(one) - missing(other) || (missing(one) ? 0 : sign * difference(one, other)));
  body.append(...rows.map(each => each.row));
}

function sortable(table) {
  const headings = [...table.tHead.rows[0].cells], status = make("span", {class: "visually-hidden", role: "status"});
  table.closest(".table-item").append(status);
  headings.forEach((heading, column) => {
    const title = heading.textContent, button = make("button", {type: "button"}, title || "name");
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const direction = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      sortRows(table.tBodies[0], column, direction === "descending");
      headings.forEach(each => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", direction);
      status.textContent = `Sorted by ${button.textContent}, ${direction}`;
    });
  });
}

// Buttons that copy texts, as [name, accessible name, function to the text]. Where the browser refuses, the text is selected
// in `source`, or shown and selected.
function copyButtons(entries, source = null) {
  const status = make("span", {class: "copied", role: "status"});
  const buttons = entries.map(([name, label, textOf]) => {
    const button = make("button", {type: "button", class: "button copy", "aria-label": label}, name);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(textOf());
        status.replaceChildren("Copied");
      } catch {
        const code = source ?? make("code", {}, textOf());
        status.replaceChildren(...(source ? [] : [code]), "Selected: press Ctrl + C to copy");
        getSelection().selectAllChildren(code);
      }
    });
    return button;
  });
  return make("p", {class: "copies"}, ...buttons, status);
}

function copyable(code) {
  set(code.parentElement, {tabindex: 0, role: "group", "aria-label": "Code"});
  code.parentElement.after(copyButtons([["Copy", "Copy the code", () => code.textContent]], code));
}

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).json();
}

async function activate(root) {
  const data = JSON.parse(root.querySelector(".matrix-data").textContent);
  root.matrix = new Matrix(root, data.packed ? await unpacked(data.packed) : data, JSON.parse(document.getElementById("scales").textContent));
}

// Make a matrix interactive, once.
function begin(root) {
  root.ready ??= activate(root).catch(error => {
    console.error(error);
    root.querySelector(".as-table").after(make("p", {class: "note"}, `This browser shows the matrix but cannot make it interactive (${error.message}).`));
  });
  return root.ready;
}

// Open the folded matrix that the address names, and select its cell: "#id" or "#id?row=…&column=…&measure=…".
async function reveal() {
  const [id, query] = location.hash.slice(1).split("?"), target = document.getElementById(decodeURIComponent(id));
  const folded = target?.closest("details.pair");
  if (folded) folded.open = true;
  if (target?.matches(".matrix") && query) {
    await begin(target);
    target.scrollIntoView();
    target.matrix?.select(new URLSearchParams(query));
  } else if (folded) {
    folded.scrollIntoView();
    folded.querySelector("summary").focus({preventScroll: true});
  }
}

function start() {
  document.querySelectorAll(".table-item table").forEach(sortable);
  document.querySelectorAll("pre > code").forEach(copyable);
  for (const root of document.querySelectorAll(".matrix")) {
    const folded = root.closest("details.pair");
    if (folded) folded.addEventListener("toggle", () => begin(root), {once: true}); // a page may have many
    else begin(root);
  }
  for (const root of document.querySelectorAll(".models-board")) {
    const scales = JSON.parse(document.getElementById("scales").textContent);
    new Models(root, JSON.parse(root.querySelector(".models-data").textContent), scales.values);
  }
  addEventListener("hashchange", reveal);
  for (const link of document.querySelectorAll(".models a"))
    link.addEventListener("click", () => { if (link.getAttribute("href") === location.hash) reveal(); });
  reveal();
}
