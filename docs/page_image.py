"""Take the README's image of a report page: two cells pinned, in a real browser.

    ckaprobe report reports/first_road && python docs/page_image.py reports/first_road/index.html docs/page.png

Needs Chromium and its driver, and `pip install -e '.[dev]'`.
"""

import shutil
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from selenium import webdriver

ACROSS, DOWN, PINNED = 1180, 1290, ((4, 4), (6, 2))
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1.5")


def image(page: Path, image: Path) -> None:
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
        window.execute_script("document.querySelector('[id*=similarity]').scrollIntoView()")
        Image.open(BytesIO(window.get_screenshot_as_png())).convert("RGB").save(image, optimize=True)
    finally:
        window.quit()


if __name__ == "__main__":
    image(Path(sys.argv[1]), Path(sys.argv[2]))
