"""Images as they are embedded in a page."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cka_probe.errors import DataError
from cka_probe.report import images


def test_an_image_keeps_its_colours_and_gets_a_white_ground():
    drawing = Image.new("RGBA", (1800, 30), (0, 0, 0, 0))
    drawing.paste((11, 85, 159, 255), (0, 0, 900, 30))
    stream = BytesIO()
    drawing.save(stream, format="PNG", dpi=(300, 300))
    embedded = images.embed(stream.getvalue(), images.QUALITIES[0])
    content = base64.b64decode(embedded.address.split(",")[1])
    decoded = np.asarray(Image.open(BytesIO(content)).convert("RGB"))
    assert decoded.shape[1] == 1400
    assert embedded.width == 900
    np.testing.assert_allclose(decoded[5, 100], (11, 85, 159), atol=3)
    np.testing.assert_allclose(decoded[5, 1300], 255, atol=3)


def test_other_bytes_and_missing_files_are_errors(tmp_path):
    with pytest.raises(DataError, match=r"expected an image \(PNG, JPEG, WebP or SVG\), found 5 bytes"):
        images.embed(b"words", images.QUALITIES[0])
    with pytest.raises(DataError, match="draw it again"):
        images.embed(tmp_path / "none.png", images.QUALITIES[0])
