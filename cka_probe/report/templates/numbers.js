// Numbers as they are read, and elements as they are made.

const MINUS = "\u2212", DASH = "\u2014", SVG = "http://www.w3.org/2000/svg";
const RAISED = {"-": "\u207b", 0: "\u2070", 1: "\u00b9", 2: "\u00b2", 3: "\u00b3", 4: "\u2074", 5: "\u2075", 6: "\u2076", 7: "\u2077", 8: "\u2078", 9: "\u2079"};

const fixed = (value, digits = 3) =>
  value === null || value === undefined ? DASH : value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", MINUS);

// Two decimals without the 0 before the point, as the static figure writes them.
const brief = value => fixed(value, 2).replace(/^(\u2212?)0\./, "$1.");

// Four digits; a power of ten where there are more than six places before the point or three zeros behind it.
function fourDigits(value) {
  if (value === null || value === undefined) return DASH;
  const size = Math.abs(value);
  if (value === 0 || (size >= 1e-3 && size < 1e6))
    return value.toFixed(size === 0 ? 0 : Math.max(0, 3 - Math.floor(Math.log10(size)))).replace("-", MINUS);
  const [digits, power] = value.toExponential(3).replace("+", "").split("e");
  return `${digits}\u2009\u00d7\u200910`.replace("-", MINUS) + [...power].map(one => RAISED[one]).join("");
}

// Set an element's attributes; strangers' text goes in by textContent and nowhere else.
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

// A name of parts, as nodes that may go to the next line after a dot, a slash or an underscore.
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
