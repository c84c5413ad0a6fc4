// Numbers as they are read, and elements as they are made.

const MINUS = "\u2212", DASH = "\u2014", SVG = "http://www.w3.org/2000/svg";

const fixed = (value, digits = 3) =>
  value === null || value === undefined ? DASH : value.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", MINUS);

// Two decimals without the 0 before the point, as the static figure writes them.
const brief = value => fixed(value, 2).replace(/^(\u2212?)0\./, "$1.");

const fourDigits = value => value === null || value === undefined ? DASH : value.toPrecision(4).replaceAll("-", MINUS);

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

// Black or white, whichever has more contrast on a colour "rrggbb" (WCAG 2).
function lettersOn(colour) {
  const linear = [0, 2, 4].map(at => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.179 ? "white" : "black";
}
