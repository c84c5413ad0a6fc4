"""A page in a browser: its looks, its cells, and what hands and keys do with it."""

CONTRAST = """
const light = colour => { const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
  .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const under = node => { for (let at = node; at; at = at.parentElement) {
  const colour = getComputedStyle(at).backgroundColor;
  if (!/, 0\\)$/.test(colour)) return colour; } return "rgb(255, 255, 255)"; };
const found = {};
for (const node of document.querySelectorAll(arguments[0])) {
  if (!node.checkVisibility() || !node.textContent.trim() || node.closest("svg, :disabled + span")) continue;
  const [one, other] = [light(getComputedStyle(node).color), light(under(node))];
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  const name = node.tagName + "." + node.className;
  found[name] = Math.min(found[name] ?? 99, ratio);
}
return found;
"""


def look(window, width=1280, scheme="light", media=""):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def all_of(window, selector):
    return window.find_elements("css selector", selector)


def cell(window, row, column):
    return all_of(window, ".cells [role=row]")[row].find_elements("css selector", "[role=gridcell]")[column]


def point(window, element):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(window).move_to_element(element).perform()


def press(window, *keys):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    held = [getattr(Keys, key, key) for key in keys]
    chain = ActionChains(window)
    for key in held[:-1]:
        chain.key_down(key)
    chain.send_keys(held[-1])
    for key in held[:-1]:
        chain.key_up(key)
    chain.perform()


def text_of(window, selector):
    return " ".join(element.text for element in all_of(window, selector))


def focused(window):
    """Return the row and column of the focused cell."""
    return tuple(window.execute_script("const {row, column} = document.activeElement.cell; return [row, column]"))


def choose(window, name):
    next(label for label in all_of(window, ".choices label") if label.text == name).click()
