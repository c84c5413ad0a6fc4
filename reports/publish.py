"""Bring a study's report here: its page, tables and images, the images in as few colours as show no loss.

    python reports/publish.py runs/mesa reports/mesa

Notes and whatever else lies in the target folder stay as they are; its tables and figures are replaced.
"""

import shutil
import sys
from pathlib import Path

from PIL import Image

MOST, COLOURS = 1600, 128
"""Pixels across, and colours of an image."""
PHOTOGRAPHIC = ("depth_", "segments", "figure6")
"""Beginnings of names of figures with images in them, which keep all their colours."""


def publish(study: Path, target: Path) -> None:
    """Copy `study`/report to `target`."""
    for name in ("README.md", "claims.csv"):
        shutil.copy(study / "report" / name, target / name)
    for name in ("tables", "figures"):
        shutil.rmtree(target / name, ignore_errors=True)
        (target / name).mkdir()
    for table in (study / "report" / "tables").iterdir():
        if table.suffix in (".csv", ".md"):
            shutil.copy(table, target / "tables" / table.name)
    for figure in sorted((study / "report" / "figures").glob("*.png")):
        image = Image.open(figure).convert("RGB")
        if image.width > MOST:
            image = image.resize((MOST, round(image.height * MOST / image.width)), Image.Resampling.LANCZOS)
        if not figure.name.startswith(PHOTOGRAPHIC):
            image = image.quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
        image.save(target / "figures" / figure.name, optimize=True)


if __name__ == "__main__":
    publish(Path(sys.argv[1]), Path(sys.argv[2]))
