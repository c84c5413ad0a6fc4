"""Publish the report of a study here: its page, tables and figures, the figures reduced to a few colours.

    python reports/publish.py runs/mesa reports/mesa
    python reports/publish.py runs/mesa reports/mesa claims controls top_row      # these figures alone

Notes and other files in the target folder stay; its tables and figures are replaced.
"""

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

WIDTH, COLOURS, IMAGE_COLOURS = 1120, 48, 256
"""Largest width in pixels, and colours of a figure without and with images in it."""
LONG = 20_000  # bytes; longer tables are published as CSV only
PHOTOGRAPHIC = ("depth_", "segments", "figure6")
"""Prefixes of the names of figures that show images."""


def publish(study: Path, target: Path, stems: Sequence[str] = ()) -> None:
    """Copy `study`/report to `target`, with the figures of some stems alone, if any are given."""
    target.mkdir(exist_ok=True)
    shutil.copy(study / "report" / "claims.csv", target / "claims.csv")
    page = (study / "report" / "README.md").read_text("utf-8")
    for section in re.findall(r"### (\w+)\n\n.*\n\n!\[.*\]\(figures/.*\)\n\n", page) if stems else ():
        if section not in stems:
            page = re.sub(rf"### {section}\n\n.*\n\n!.*\n\n", "", page)
            page = re.sub(rf"\[([^\]]+)\]\(figures/{section}\.png\)", r"\1", page)
    (target / "README.md").write_text(page, "utf-8")
    for name in ("tables", "figures"):
        shutil.rmtree(target / name, ignore_errors=True)
        (target / name).mkdir()
    for table in (study / "report" / "tables").iterdir():
        if table.suffix == ".csv" or (table.suffix == ".md" and table.stat().st_size < LONG):
            shutil.copy(table, target / "tables" / table.name)
    for figure in sorted((study / "report" / "figures").glob("*.png")):
        if stems and figure.stem not in stems:
            continue
        image = Image.open(figure).convert("RGB")
        if image.width > WIDTH:
            image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
        if figure.name.startswith(PHOTOGRAPHIC):
            image = image.quantize(IMAGE_COLOURS, kmeans=4, dither=Image.Dither.FLOYDSTEINBERG)
        else:
            image = image.quantize(COLOURS, kmeans=4, dither=Image.Dither.NONE)
        image.save(target / "figures" / figure.name, optimize=True)


if __name__ == "__main__":
    publish(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
