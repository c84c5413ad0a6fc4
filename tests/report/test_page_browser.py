"""The page in a real browser: what is pointed at, pinned, sorted, printed; light, dark, narrow; and nothing outside."""

import base64
import json
import re
import time
from itertools import pairwise
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from helpers.browser import CONTRAST, all_of, cell, choose, focused, look, point, press, text_of
from helpers.matrices import result_of
from helpers.result_folders import atlas, comparison, strip
from PIL import Image

from cka_probe.comparison.explanation import explain
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.plotting import Heatmap, save
from cka_probe.plotting.style import STYLES
from cka_probe.report import report
from cka_probe.report.blocks import Heading, MatrixBlock, Page, TableBlock, Text, Thumbnails
from cka_probe.report.html import save_page

pytestmark = pytest.mark.slow
RESULTS = {"CKA, unbiased": result_of(undefined=(2,)), "CKA, biased": result_of(estimator="biased", seed=3)}
FRAME = pd.DataFrame({"layer": ["b10", "a2", "b9", "c"], "value": [0.5, np.nan, -0.25, 11.0]})


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    blocks = (
        Heading("What was compared"),
        Text("Two networks."),
        Thumbnails((np.full((96, 96, 3), 90, np.uint8),) * 3),
        Heading("Similarity"),
        MatrixBlock(RESULTS),
        Heading("Table"),
        TableBlock(FRAME, "Four layers.", "layers"),
        Text("| model | error |\n| --- | ---: |\n| MP | 0.25 ± 0.1 |\n| SP | not run |\n| GP | −0.5 |\n"),
    )
    page = Page("Two networks", (*blocks, Text("```\nckaprobe compare a b\n```")), "In a test.", ("Few images.",))
    return save_page(page, tmp_path_factory.mktemp("page") / "index.html")


@pytest.fixture
def page(chromium, file):
    """The page, freshly opened at a desk, in the light."""
    look(chromium)
    chromium.get_log("performance")
    chromium.get(file.as_uri())
    yield chromium
    assert [line for line in chromium.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []


def test_pointing_at_a_cell_reads_it(page):
    result = RESULTS["CKA, unbiased"]
    point(page, cell(page, 4, 5))
    words = text_of(page, ".readout")
    low, high = result.low[4, 5], result.high[4, 5]
    for part in (f"{result.values[4, 5]:.3f}", f"{low:.3f} to {high:.3f}", "0.050", "0.005", "layer0.4", "layer0.5"):
        assert part in words
    for part in ("module backbone.layer0.4", "shape 8 × 16 × 16", "rms 4.500", "rms 5.500", "first", "second"):
        assert part in words
    point(page, cell(page, 2, 0))
    assert "layer0.2: does not vary" in text_of(page, ".readout")


def test_colours_and_numbers_are_those_of_the_result(page):
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    values = RESULTS["CKA, unbiased"].values
    for row, column in ((0, 0), (4, 5), (8, 0)):
        color = to_rgb(cell(page, row, column).get_attribute("fill"))
        expected = colormaps["magma"](float(np.clip(values[row, column], 0, 1)))[:3]
        np.testing.assert_allclose(color, expected, atol=0.02)
    numbers = page.execute_script("return [...document.querySelectorAll('.numbers text')].map(t => t.textContent)")
    assert numbers[:2] == [f"{value:.2f}".replace("0.", ".") for value in values[0, :2]]
    assert numbers[18] == ""
    assert "hatch" in cell(page, 2, 0).get_attribute("fill")


def test_a_click_pins_a_cell_and_shows_its_terms(page):
    result = RESULTS["CKA, unbiased"]
    cell(page, 1, 3).click()
    rows = [[data.text for data in row.find_elements("css selector", "th, td")] for row in all_of(page, ".terms tr")]
    terms = result.terms
    for batch in (0, 1):
        xy, xx, yy = terms["xy"][batch, 1, 3], terms["xx"][batch, 1], terms["yy"][batch, 3]
        assert rows[1 + batch][:2] == [str(batch + 1), f"{terms['weights'][batch]:.0f}"]
        shown = [float(number) for number in rows[1 + batch][2:]]
        np.testing.assert_allclose(shown, [xy, xx, yy, xy / np.sqrt(xx * yy)], rtol=2e-3)
    sums = [float(number) for number in rows[3][2:]]
    np.testing.assert_allclose(sums[3], sums[0] / np.sqrt(sums[1] * sums[2]), atol=1e-3)
    assert f"{result.values[1, 3]:.3f}, is the ratio of the sums" in text_of(page, ".pin")
    assert "not the mean" in text_of(page, ".pin")
    assert len(all_of(page, ".pin .batch")) == 2
    assert cell(page, 1, 3).get_attribute("aria-selected") == "true"


def test_pins_stand_side_by_side_and_escape_takes_them_away(page):
    values = RESULTS["CKA, unbiased"].values
    cell(page, 0, 0).click()
    press(page, "ARROW_DOWN")
    press(page, "ENTER")
    assert len(all_of(page, ".pin")) == 2
    words = text_of(page, ".comparison")
    assert f"{values[1, 0] - values[0, 0]:.3f}".replace("-", "−") in words
    press(page, "ESCAPE")
    assert [card.get_attribute("data-row") for card in all_of(page, ".pin")] == ["0"]
    assert "Unpinned" in page.execute_script("return document.querySelector('.live').textContent")
    all_of(page, ".unpin")[0].click()
    assert all_of(page, ".pin") == []
    assert focused(page) == (1, 0)


def test_keys_move_through_the_cells(page):
    page.execute_script("document.querySelector('.cells [tabindex=\"0\"]').focus()")
    steps = [
        ("ARROW_RIGHT", (0, 1)),
        ("ARROW_DOWN", (1, 1)),
        ("END", (1, 8)),
        ("ARROW_RIGHT", (1, 8)),
        ("HOME", (1, 0)),
    ]
    for key, place in (*steps, ("ARROW_LEFT", (1, 0)), ("ARROW_UP", (0, 0)), ("ARROW_UP", (0, 0))):
        press(page, key)
        assert focused(page) == place
    press(page, "CONTROL", "END")
    assert focused(page) == (8, 8)
    assert len(all_of(page, '.cells [tabindex="0"]')) == 1
    said = page.execute_script("return document.querySelector('.live').textContent")
    assert said.startswith("Row 8 layer0.8, column 8 layer0.8: CKA (unbiased)")
    press(page, "CONTROL", "HOME")
    assert focused(page) == (0, 0)


def test_the_switch_and_the_views_redraw_the_same_cells(page):
    point(page, cell(page, 3, 3))
    choose(page, "CKA, biased")
    biased = RESULTS["CKA, biased"]
    assert f"{biased.values[3, 3]:.3f}" in text_of(page, ".readout")
    choose(page, "Interval width")
    numbers = page.execute_script("return [...document.querySelectorAll('.numbers text')].map(t => t.textContent)")
    widths = biased.high - biased.low
    assert numbers == [f"{width:.2f}".replace("0.", ".") for width in widths.ravel()]
    choose(page, "Above chance")
    low = int((biased.values <= biased.null).sum())
    assert f"{low} of 81 cells are not above chance" in text_of(page, ".view-note")
    assert len(all_of(page, ".not-above")) == low > 0


def test_what_is_downloaded_is_the_result(page, tmp_path):
    result = RESULTS["CKA, unbiased"]
    files = page.execute_script("const m = document.querySelector('.matrix').matrix;"
                                "return ['json', 'csv', 'svg', 'tex'].map(kind => m.file(kind))")  # fmt: skip
    for name, address in zip(("a.json", "a.csv", "a.svg", "a.tex"), files, strict=True):
        (tmp_path / name).write_text(unquote(address.split(",", 1)[1]), encoding="utf-8")
    np.testing.assert_array_equal(SimilarityMatrix.load(tmp_path / "a.json").values, result.values)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv"), result.to_frame())
    assert (tmp_path / "a.tex").read_text("utf-8") == result.to_latex()
    from xml.etree import ElementTree

    assert len(list(ElementTree.parse(tmp_path / "a.svg").iter("{http://www.w3.org/2000/svg}rect"))) > 81


def copied(page, name):
    """Click the button of an accessible name and return what the clipboard holds."""
    permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"]
    page.execute_cdp_cmd("Browser.grantPermissions", {"permissions": permissions})
    (button,) = [button for button in all_of(page, ".copy") if button.accessible_name == name]
    button.click()
    return page.execute_async_script("navigator.clipboard.readText().then(arguments[0], arguments[0])")


def test_cells_are_copied_as_latex_and_csv(page, tmp_path):
    result = RESULTS["CKA, unbiased"]
    cell(page, 1, 3).click()
    value, low, high = (matrix[1, 3] for matrix in (result.values, result.low, result.high))
    assert copied(page, "Copy A as LaTeX") == f"${value:.3f}$ $[{low:.3f}, {high:.3f}]$"
    assert "Copied" in text_of(page, ".pin .copied")
    csv = tmp_path / "cells.csv"
    csv.write_text(copied(page, "Copy A as CSV"))
    frame = result.to_frame().query("index_x == 1 and index_y == 3").reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_csv(csv), frame)
    cell(page, 2, 0).click()  # undefined
    assert copied(page, "Copy B as LaTeX") == "--"
    lines = copied(page, "Copy the table as LaTeX").splitlines()
    assert lines[2] == r"first & second & CKA (unbiased) & 95\,\% interval & chance (95\,\%) & $p$ \\"
    assert lines[4] == rf"layer0.1 & layer0.3 & ${value:.3f}$ & $[{low:.3f}, {high:.3f}]$ & $0.050$ & $0.005$ \\"
    assert lines[5] == r"layer0.2 & layer0.0 & -- & -- & -- & -- \\"
    csv.write_text(copied(page, "Copy the table as CSV"))
    assert len(pd.read_csv(csv)) == 2


def test_a_text_that_cannot_be_copied_is_selected(page):
    cell(page, 1, 3).click()
    page.execute_script("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    all_of(page, ".pin .copy")[0].click()
    assert "press Ctrl + C" in text_of(page, ".pin .copied")
    value = RESULTS["CKA, unbiased"].values[1, 3]
    assert page.execute_script("return String(getSelection())").startswith(f"${value:.3f}$")


def test_a_link_opens_its_cell_in_its_measure(page, file):
    choose(page, "CKA, biased")
    cell(page, 4, 5).click()
    link = copied(page, "Copy a link to A")
    assert link.startswith(f"{file.as_uri()}#matrix-result-")
    page.get("about:blank")
    page.get(link)
    value = f"{RESULTS['CKA, biased'].values[4, 5]:.3f}"
    assert value in text_of(page, ".pin")
    assert value in text_of(page, ".readout")
    assert focused(page) == (4, 5)
    assert page.execute_script("return document.querySelector('.controls input:checked').value") == "1"
    page.get(link.replace("layer0.4", "layer9"))
    assert "does not have the linked cell: CKA, biased, layer9 × layer0.5" in text_of(page, ".missing")
    page.get(link)
    assert all_of(page, ".missing") == []


def test_tables_sort_by_click_and_by_key(page):
    def column(number):
        rows = all_of(page, "main > .table-item tbody tr")
        return [row.find_elements("css selector", "td")[number].text for row in rows]

    buttons = all_of(page, "main > .table-item th button")
    buttons[1].click()
    assert column(1) == ["−0.25", "0.50", "11.00", "—"]
    buttons[1].click()
    assert column(1) == ["11.00", "0.50", "−0.25", "—"]
    assert all_of(page, "th[aria-sort]")[0].get_attribute("aria-sort") == "descending"
    page.execute_script("arguments[0].focus()", buttons[0])
    press(page, "ENTER")
    assert column(0) == ["a2", "b9", "b10", "c"]
    assert all_of(page, "th[aria-sort]")[0].text.startswith("layer")


def test_tables_in_markdown_sort_by_the_number_that_a_cell_begins_with(page):
    buttons = all_of(page, ".prose th button")
    for expected in (["GP", "MP", "SP"], ["MP", "GP", "SP"]):  # the missing number is last in both directions
        buttons[1].click()
        assert [cell.text for cell in all_of(page, ".prose td:first-child")] == expected


def test_nothing_but_the_file_is_asked_for(page, file):
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert file.as_uri() in asked
    assert [url for url in asked if url != file.as_uri() and not url.startswith("data:")] == []
    entries = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in entries if not name.startswith("data:")] == []


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_page_never_scrolls_sideways(page, width):
    look(page, width)
    cell(page, 0, 0).click()
    cell(page, 1, 1).click()
    page.execute_script("document.querySelector('details').open = true")
    assert page.execute_script("return document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_can_be_read_in_the_light_and_in_the_dark(page, scheme):
    look(page, scheme=scheme)
    cell(page, 0, 0).click()
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", ground)[:3])) < 60) == (scheme == "dark")
    body = page.execute_script(CONTRAST, "p, li, td, th, dt, dd, h1, h2, h3, h4, a, summary, legend, pre, figcaption")
    assert len(body) > 10
    assert {name: ratio for name, ratio in body.items() if ratio < 4.5} == {}
    other = page.execute_script(CONTRAST, "span, button, strong, code")
    assert {name: ratio for name, ratio in other.items() if ratio < 3} == {}


def test_it_prints_whole_and_without_controls(page):
    cell(page, 0, 0).click()
    look(page, 718, "dark", "print")
    hidden = all_of(page, ".controls, .button, nav, .copy, .unpin")
    assert hidden
    assert not any(element.is_displayed() for element in hidden)
    assert page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    box = page.execute_script(
        "const b = document.querySelector('.heatmap').getBoundingClientRect(); return [b.left, b.right]"
    )
    assert 0 <= box[0] < box[1] <= 718
    assert page.execute_script("return document.documentElement.scrollWidth") <= 718
    assert "is the ratio of the sums" in text_of(page, ".pin")
    look(page)
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 6


def test_everything_has_a_name_and_headings_are_in_order(page):
    cell(page, 0, 0).click()
    cell(page, 1, 1).click()
    for control in all_of(page, "a, button, input, summary, [tabindex='0']"):
        if not control.is_displayed() and control.tag_name not in ("input", "rect"):
            continue
        assert control.accessible_name, control.get_attribute("outerHTML")[:200]
    assert all(image.get_attribute("alt") for image in all_of(page, "img"))
    for drawing in all_of(page, "svg"):
        assert drawing.get_attribute("aria-label")
    levels = [int(heading.tag_name[1]) for heading in all_of(page, "h1, h2, h3, h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.find_element("css selector", "html").get_attribute("lang") == "en"
    assert page.execute_script(
        "return [...document.querySelectorAll('.cells > *')].every(row => row.getAttribute('role') === 'row')"
    )
    assert all_of(page, ".live[aria-live=polite]")


def test_large_matrices_are_drawn_and_read(chromium, tmp_path):
    result = result_of(120, 120, undefined=(3,))
    path = save_page(Page("Large", (MatrixBlock({"one": result}),)), tmp_path / "large.html")
    look(chromium)
    chromium.get(path.as_uri())
    assert chromium.execute_async_script(
        "const done = arguments[0]; const wait = () => document.querySelector('.matrix').matrix ? done(true) : "
        "setTimeout(wait, 50); wait()"
    )
    assert chromium.execute_script("return document.querySelectorAll('.cells rect').length") == 120 * 120
    chromium.execute_script(
        "const matrix = document.querySelector('.matrix').matrix, cell = matrix.cell(100, 90);"
        "matrix.move(cell); matrix.pin(cell)"
    )
    assert f"{result.values[100, 90]:.3f}" in text_of(chromium, ".readout")
    assert all_of(chromium, ".terms")
    assert chromium.execute_script("return document.documentElement.scrollWidth") == 1280


def test_a_clicked_cell_shows_the_images_that_carry_it(chromium, tmp_path):
    result = comparison(tmp_path)
    strip(tmp_path, 24)
    path = report(tmp_path)
    why = explain(*(Fingerprint.load(tmp_path / f"{side}.fingerprint") for side in "xy"), "1", "2")
    for width in (1280, 390):
        look(chromium, width)
        chromium.get(path.as_uri())
        milliseconds = chromium.execute_script(
            "const start = performance.now(); arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}));"
            "document.querySelector('.why').getBoundingClientRect(); return performance.now() - start",
            cell(chromium, 1, 2),
        )
        assert milliseconds < 100
        words = text_of(chromium, ".why")
        order = why.influences.argsort()
        for image in (order[-1], order[0]):
            assert f"image {image + 1}, {'+' if why.influences[image] > 0 else '−'}" in words
        assert len(all_of(chromium, ".why .influential img")) == 10
        count, value = why.curve[-1]
        table = text_of(chromium, ".why table.curve tbody tr:last-child")
        assert table.startswith(f"{count} {value:.3f}".replace("-", "−"))
        assert f"{why.components[0][1]:.0%}".replace("%", " %") in text_of(chromium, ".why table.components")
        assert f"{result.values[1, 2]:.3f}" in text_of(chromium, ".pin").replace("−", "-")
        assert chromium.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert [line for line in chromium.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []


def test_a_slider_moves_the_matrix_and_the_map_of_models(chromium, tmp_path):
    several = atlas(tmp_path / "models", 4)
    path = report(tmp_path / "models")
    for width in (1280, 390):
        look(chromium, width)
        chromium.get(path.as_uri())
        (slider,) = all_of(chromium, ".models-board > .controls input")
        (cell, *_) = all_of(chromium, ".model-cell")
        places = [group.get_attribute("transform") for group in all_of(chromium, ".model-map g")]
        assert f"{several.values[0, 1]:.3f}" in cell.get_attribute("aria-label")
        chromium.execute_script("arguments[0].focus()", slider)
        press(chromium, "ARROW_RIGHT")
        press(chromium, "ARROW_RIGHT")
        assert slider.get_attribute("aria-valuetext") == text_of(chromium, ".controls output") == "1"
        value = several.results[0, 1].values[1, 1]
        assert f"{value:.3f}, 95 % interval" in cell.get_attribute("aria-label")
        assert [group.get_attribute("transform") for group in all_of(chromium, ".model-map g")] != places
        assert all(float(node.get_attribute("rx")) > 0 for node in all_of(chromium, ".model-map ellipse"))
        best, worst = (end({r.values[1, 1]: pair for pair, r in several.results.items()}.items()) for end in (max, min))
        for _, pair in (best, worst):
            assert " and ".join(several.names[index] for index in pair) in text_of(chromium, ".extremes")
        assert chromium.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert [line for line in chromium.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []


def test_a_slider_goes_along_the_steps_of_a_training_run(chromium, tmp_path):
    several = atlas(tmp_path / "models", 4)
    path = report(tmp_path / "models")
    (run,) = several.runs
    layers = len(several.first.rows)
    for width in (1280, 390):
        look(chromium, width)
        chromium.get(path.as_uri())
        (slider,) = all_of(chromium, ".training-run input")
        assert len(all_of(chromium, ".training-run .layer")) == layers
        assert text_of(chromium, ".training-run output") == f"step {run.steps[0]}"
        (mark,) = all_of(chromium, ".training-run .mark")
        start = float(mark.get_attribute("x1"))
        chromium.execute_script("arguments[0].focus()", slider)
        for number in range(1, 4):
            press(chromium, "ARROW_RIGHT")
            assert slider.get_attribute("aria-valuetext") == f"step {run.steps[number]}"
            if number < 3:
                settled = int((several.settling["step"] <= run.steps[number]).sum())
                assert f"{settled} of {layers} layers have settled" in text_of(chromium, ".training-run .note")
        assert "last checkpoint, with which" in text_of(chromium, ".training-run .note")
        assert float(mark.get_attribute("x1")) > start
        assert chromium.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert [line for line in chromium.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []


def test_a_cell_of_the_matrix_of_models_opens_the_pair(chromium, tmp_path):
    several = atlas(tmp_path / "models")
    look(chromium)
    chromium.get(report(tmp_path / "models").as_uri())
    assert not all_of(chromium, ".pair[open]")
    (link, _) = all_of(chromium, ".models a[href='#models-1-2']")
    assert f"step_1 and step_2: {several.values[1, 2]:.3f}" in link.get_attribute("aria-label")
    link.click()
    (opened,) = all_of(chromium, ".pair[open]")
    assert opened.get_attribute("id") == "models-1-2"
    assert chromium.execute_script("return document.activeElement.tagName") == "SUMMARY"
    (first, *_) = opened.find_elements("css selector", "[role=gridcell]")
    point(chromium, first)
    assert f"{several.results[1, 2].values[0, 0]:.3f}" in text_of(chromium, ".pair[open] .readout")
    assert [line for line in chromium.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []


def test_figures_are_downloaded_at_a_column_of_a_venue(chromium, tmp_path):
    folder, downloads = tmp_path / "compared", tmp_path / "downloads"
    result = comparison(folder, save_prints=False)
    save(Heatmap(result), [folder / "heatmap.png"])
    look(chromium, 390)
    for venue, linked in ((None, ["heatmap.png"]), ("cvpr", [])):
        chromium.get(report(folder, venue=venue).as_uri())
        links = all_of(chromium, "figure .downloads a")
        assert [link.text for link in links] == ["PDF", "SVG", "PNG"]
        addresses = [link.get_dom_attribute("href") for link in links]
        assert [address for address in addresses if not address.startswith("data:")] == linked
        assert chromium.execute_script("return document.documentElement.scrollWidth") == 390
    assert "3.25 inches wide, for cvpr" in text_of(chromium, "figcaption")
    behavior = {"behavior": "allow", "downloadPath": str(downloads), "eventsEnabled": False}
    chromium.execute_cdp_cmd("Browser.setDownloadBehavior", behavior)
    for link in links:
        link.click()
        path = downloads / f"heatmap_cvpr.{link.text.lower()}"
        until = time.monotonic() + 20
        while not path.is_file() and time.monotonic() < until:
            time.sleep(0.05)
    assert re.search(rb"/MediaBox \[ 0 0 234 ", (downloads / "heatmap_cvpr.pdf").read_bytes())
    assert re.search('width="234pt"', (downloads / "heatmap_cvpr.svg").read_text("utf-8"))
    with Image.open(downloads / "heatmap_cvpr.png") as image:
        assert image.width == 3.25 * STYLES["paper"].dpi
    assert [line for line in chromium.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []
