// The page's script: formatted numbers, new elements, sortable tables, the copy button, and the start of each matrix.

const MINUS = "\u2212", DASH = "\u2014", SVG = "http://www.w3.org/2000/svg";
const SUPERSCRIPTS = {"-": "\u207b", 0: "\u2070", 1: "\u00b9", 2: "\u00b2", 3: "\u00b3", 4: "\u2074", 5: "\u2075", 6: "\u2076", 7: "\u2077", 8: "\u2078", 9: "\u2079"};

const fixed = (value, digits = 3) =>
  value === null || value === undefined ? DASH : value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", MINUS);

// Two decimals without the 0 before the point, as the static figure writes them.
const brief = value => fixed(value, 2).replace(/^(\u2212?)0\./, "$1.");

// Four digits; a power of ten above six digits before the point or three zeros after it.
function fourDigits(value) {
  if (value === null || value === undefined) return DASH;
  const size = Math.abs(value);
  if (value === 0 || (size >= 1e-3 && size < 1e6))
    return value.toFixed(size === 0 ? 0 : Math.max(0, 3 - Math.floor(Math.log10(size)))).replace("-", MINUS);
  const [digits, power] = value.toExponential(3).replace("+", "").split("e");
  return `${digits}\u2009\u00d7\u200910`.replace("-", MINUS) + [...power].map(one => SUPERSCRIPTS[one]).join("");
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

function draw(name, attributes = {}, text = null) {
  const element = set(document.createElementNS(SVG, name), attributes);
  if (text !== null) element.textContent = text;
  return element;
}

// Six numbers from one end of a scale to the other, with as many decimals as their distance needs.
function ticksOf([low, high]) {
  const step = (high - low) / 5, digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  return [0, 1, 2, 3, 4, 5].map(count => fixed(low + count * step, digits));
}

// A dotted name as nodes that allow a line break after a dot, a slash or an underscore.
function broken(name) {
  return name.split(/(?<=[._/])/).flatMap((part, index) => (index ? [make("wbr"), part] : [part]));
}

// Black or white, whichever has more contrast on a colour "rrggbb" (WCAG 2).
function lettersOn(colour) {
  const linear = [0, 2, 4].map(at => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.179 ? "white" : "black";
}

// Sortable tables: a button in every heading, the direction in aria-sort, missing values last.

const collator = new Intl.Collator("en", {numeric: true});

function sortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const status = make("span", {class: "visually-hidden", role: "status"});
  table.closest(".table-item").append(status);
  headings.forEach((heading, column) => {
    const title = heading.textContent;
    const button = make("button", {type: "button"}, title);
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      const rows = [...body.rows].sort((one, other) => order(one.cells[column], other.cells[column], descending));
      body.append(...rows);
      headings.forEach(each => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      status.textContent = `Sorted by ${title}, ${descending ? "descending" : "ascending"}`;
    });
  });
}

function order(one, other, descending) {
  const [first, second] = [one, other].map(cell => cell.dataset.key);
  if (first === "" || second === "") return (first === "") - (second === "");
  const difference =
    first !== undefined && second !== undefined
      ? Number(first) - Number(second) || 0
      : collator.compare(one.textContent, other.textContent);
  return descending ? -difference : difference;
}

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

async function activate(root) {
  const stored = JSON.parse(root.querySelector(".matrix-data").textContent);
  const data = stored.packed ? await unpacked(stored.packed) : stored;
  root.matrix = new Matrix(root, data, JSON.parse(document.getElementById("scales").textContent));
}

function start() {
  for (const table of document.querySelectorAll(".table-item table.data")) sortable(table);
  for (const root of document.querySelectorAll(".matrix"))
    activate(root).catch(error => {
      console.error(error);
      root.querySelector(".downloads").before(make("p", {class: "note"}, `This browser shows the matrix but cannot make it interactive (${error.message}).`));
    });

  const copy = document.querySelector(".copy");
  if (copy) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      const code = document.querySelector(".command code"), status = document.querySelector(".copied");
      try {
        await navigator.clipboard.writeText(code.textContent);
        status.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        status.textContent = "Selected: press Ctrl + C to copy";
      }
    });
  }
}
