"""Draw the images of the README and the docs again, from the results in `reports/`, and the gallery by its own code.

    python docs/images.py                from the folder of the repository

The image of a page is taken in a real browser, with two cells pinned: this needs Chromium and its driver, and
`pip install -e '.[dev]'`.
"""

import re
import runpy
import shutil
from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image
from selenium import webdriver

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.plotting import Heatmap, Profile, save
from cka_probe.report import report

ROOT = Path(__file__).resolve().parent.parent
ROAD, SIZES = ROOT / "reports/first_road", ROOT / "reports/how_many"
ACROSS, DOWN, PINNED, COLOURS, DPI = 1200, 865, ((4, 4), (6, 2)), 256, 240
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1.5")


def save_small(source: Path | BytesIO, image: Path) -> None:
    """Save an image in few colours."""
    pixels = Image.open(source).convert("RGB")
    pixels.quantize(COLOURS, kmeans=3, dither=Image.Dither.NONE).save(image, optimize=True)


def image_of_page(page: Path, image: Path) -> None:
    """Pin cells of the page's matrix and keep what is seen from its heading on."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in FLAGS:
        options.add_argument(flag)
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        window.set_window_size(ACROSS, DOWN)
        window.get(page.resolve().as_uri())
        rows = window.find_elements("css selector", ".cells [role=row]")
        for row, column in PINNED:
            rows[row].find_elements("css selector", "[role=gridcell]")[column].click()
        window.execute_script("document.querySelector('[id*=similarity]').scrollIntoView(); scrollBy(0, 50)")
        save_small(BytesIO(window.get_screenshot_as_png()), image)
    finally:
        window.quit()


def draw_gallery() -> None:
    """Run the code of docs/gallery.md, one block after another."""
    page = (ROOT / "docs/gallery.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    exec(compile("".join(blocks), "docs/gallery.md", "exec"), {})
    for image in sorted((ROOT / "docs/gallery").glob("*.png")):
        save_small(image, image)


if __name__ == "__main__":
    image_of_page(report(ROAD), ROOT / "docs/page.png")
    road, large = (SimilarityMatrix.load(ROAD / name) for name in ("result.json", "swin_large.json"))
    for figure, name in ((Heatmap(road), "heatmap"), (Profile(road), "profile"), (Heatmap(large), "swin_large")):
        save(figure, [ROAD / f"{name}.png"], dpi=DPI)
    draw_gallery()
    draw_sizes = runpy.run_path(str(SIZES / "how_many.py"))["draw_figure"]
    draw_sizes(pd.read_csv(SIZES / "how_many.csv"), SIZES / "how_many.png")
