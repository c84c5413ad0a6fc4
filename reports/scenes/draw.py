"""Draw this folder's contact sheets: what each kind of scene looks like, and every truth about a few frames.

python reports/scenes/draw.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from cka_probe.images.datasets import open_dataset
from cka_probe.plotting import save
from cka_probe.plotting.contact_sheet import DPI, ContactSheet, SampleTile

HERE = Path(__file__).parent
GALLERIES = {"rooms": ("192x144", 24), "streets": ("416x128", 16), "objects": ("144x144", 36)}
TRUTHS = {"rooms": "192x144", "streets": "320x128", "objects": "144x144"}
SEED = 7


def main() -> None:
    """Write three galleries and three sheets of truth."""
    for kind, (size, count) in GALLERIES.items():
        data = open_dataset(f"scenes:{kind}?num={count}&frames=1&size={size}&seed={SEED}")
        tiles = [SampleTile(str(index), {"image": data.image(index).numpy()}) for index in range(count)]
        draw(f"scenes:{kind}?seed={SEED}", tiles, data, kind)
    for kind, size in TRUTHS.items():
        data = open_dataset(f"scenes:{kind}?num=5&frames=2&size={size}&seed={SEED}&sources=1,s")
        tiles = [SampleTile(data.describe(index), arrays(data[index])) for index in range(len(data))]
        draw(
            f"scenes:{kind}?seed={SEED}&sources=1,s (the next frame, the stereo partner)", tiles, data, f"{kind}_truth"
        )


def arrays(sample: dict) -> dict:
    """Return a sample as numpy arrays."""
    return {name: field.numpy() for name, field in sample.items()}


def draw(title: str, tiles: list[SampleTile], data, name: str) -> None:
    """Write one sheet."""
    sheet = ContactSheet(title, tiles, data.classes.names, data.classes.colours, data.categories.names)
    with TemporaryDirectory() as folder:
        for path in save(sheet, [Path(folder) / f"{name}.png"], dpi=DPI):
            with Image.open(path) as drawn:  # a fifth of the size
                drawn.convert("RGB").save(HERE / f"{name}.jpg", quality=88, subsampling=0, optimize=True)
    print(f"{name}.jpg")


if __name__ == "__main__":
    main()
