// Why a cell has its value: the images that raise and lower it, the value without some of them, its leading components.

function whyOf(reason, cell, thumbnails) {
  const strip = document.querySelectorAll(".thumbnails:not(.influential) img"), percent = share => `${Math.round(100 * share)} %`;
  const image = ([number, influence]) => {
    const source = thumbnails[number] ?? strip[number]?.src;
    const words = `image ${number + 1}, ${influence < 0 ? MINUS : "+"}${fixed(Math.abs(influence), 4)}`;
    return make("li", {}, ...(source ? [make("img", {src: source, alt: ""})] : []), make("span", {}, words));
  };
  const list = (title, images) => [make("p", {class: "note"}, title), make("ul", {class: "thumbnails influential"}, ...images.map(image))];
  return make("section", {class: "why"}, make("h5", {}, "Why this value"),
    ...list("Images that raise it most: what it loses without each", reason.raise), ...list("Images that lower it most", reason.lower),
    tableOf("curve", "Without the most influential images", ["images left out", "value", "change"],
      reason.curve.map(([count, value]) => [count, fixed(value), fixed(value - cell.value)])),
    tableOf("components", "Share of the leading components", ["components", "variance of x", "variance of y", "biased CKA"],
      reason.components.map(([count, ...shares]) => [count, ...shares.map(percent)])));
}
