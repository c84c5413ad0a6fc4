"""Images are decoded by Pillow's own readers only."""

import pytest
from PIL import EpsImagePlugin, Image

from cka_probe.errors import DataError
from cka_probe.images.reading import FORMATS, image_size, read_image


@pytest.mark.parametrize("read", [read_image, image_size])
def test_a_file_that_would_start_ghostscript_is_not_read(tmp_path, monkeypatch, read):
    path = tmp_path / "z.jpg"
    Image.new("RGB", (8, 8)).save(path, format="EPS")
    calls = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **options: calls.append(args))
    with pytest.raises(DataError, match="unreadable image"):
        read(path)
    assert calls == []


@pytest.mark.parametrize("kind", FORMATS)
def test_the_formats_of_images_are_read_whatever_the_suffix(tmp_path, kind):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 6), (255, 0, 0)).save(path, format=kind)
    assert read_image(path).shape == (3, 6, 8)
    assert image_size(path) == (6, 8)
