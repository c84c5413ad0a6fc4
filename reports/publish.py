"""Publish the report of a study here: its page, tables and figures, the figures reduced to a few colours.

    python reports/publish.py runs/mesa reports/mesa

Notes and other files in the target folder stay; its tables and figures are replaced.
"""

import shutil
import sys
from pathlib import Path

from PIL import Image

WIDTH, COLOURS, IMAGE_COLOURS = 1120, 48, 256
"""Largest width in pixels, and colours of a figure without and with images in it."""
LONG = 20_000  # bytes; longer tables are published as CSV only
PHOTOGRAPHIC = ("depth_", "segments", "figure6")
"""Prefixes of the names of figures that show images."""


def publish(study: Path, target: Path) -> None:
    """Copy `study`/report to `target`."""
    for name in ("README.md", "claims.csv"):
        shutil.copy(study / "report" / name, target / name)
    for name in ("tables", "figures"):
        shutil.rmtree(target / name, ignore_errors=True)
        (target / name).mkdir()
    for table in (study / "report" / "tables").iterdir():
        if table.suffix == ".csv" or (table.suffix == ".md" and table.stat().st_size < LONG):
            shutil.copy(table, target / "tables" / table.name)
    for figure in sorted((study / "report" / "figures").glob("*.png")):
        image = Image.open(figure).convert("RGB")
        if image.width > WIDTH:
            image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
        if figure.name.startswith(PHOTOGRAPHIC):
            image = image.quantize(IMAGE_COLOURS, kmeans=4, dither=Image.Dither.FLOYDSTEINBERG)
        else:
            image = image.quantize(COLOURS, kmeans=4, dither=Image.Dither.NONE)
        image.save(target / "figures" / figure.name, optimize=True)


if __name__ == "__main__":
    publish(Path(sys.argv[1]), Path(sys.argv[2]))
