"""The page as a document: whole, safe, small, the same every time, and equal to the results it shows."""

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from helpers.matrices import result_of
from PIL import Image

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError, OutputError
from cka_probe.report import html, images
from cka_probe.report.blocks import (
    Facts,
    FigureBlock,
    Markdown,
    MatrixBlock,
    Page,
    Paragraph,
    Section,
    TableBlock,
    Thumbnails,
)
from cka_probe.report.html import MAX_BYTES, render, save_page
from cka_probe.report.matrix import DIGITS, batches_of, color_scale, without_folders
from cka_probe.report.tables import table_of

HOSTILE = "</script><img src=x onerror=alert(1)><!--\"'&`{{ 7 * 7 }}"
VOID = {"meta", "link", "img", "input", "br", "wbr"}


def png(width=60, height=40, seed=None):
    """Return the bytes of an image: flat, or noise that no encoding makes small."""
    pixels = np.full((height, width, 3), 200, np.uint8)
    if seed is not None:
        pixels = np.random.default_rng(seed).integers(0, 256, pixels.shape, np.uint8)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def whole_page(words="plain", **matrix):
    """Return a page with one of everything, whose every text is `words`."""
    frame = pd.DataFrame({words: ["a", words], "number": [0.25, np.nan]})
    blocks = (
        Paragraph(words),
        Markdown(words),
        Facts(((words, words),)),
        TableBlock(frame, words, words),
        FigureBlock(png(), words, words),
        Thumbnails((np.zeros((8, 8, 3), np.uint8),), (words,)),
        MatrixBlock({words: result_of(name=words, **matrix)}, words),
    )
    sections = tuple(Section(words, blocks, intro=words) for _ in range(3))
    return Page(words, words, sections, (words,), ((words, words),), words)


class Reader(HTMLParser):
    """Checks that tags close in order, and keeps ids, references, texts and data."""

    def __init__(self, document):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.tags, self.attributes, self.data, self.texts = [], [], [], [], [], []
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.data if self.open and self.open[-1] == "script" else self.texts).append(data)

    def values(self, *names):
        return [value for _, name, value in self.attributes if name in names]


@pytest.mark.parametrize("words", ["plain", HOSTILE], ids=["plain", "hostile"])
def test_tags_balance_and_ids_are_unique_and_referred_to(words):
    reader = Reader(render(whole_page(words)))
    assert len(reader.ids) == len(set(reader.ids))
    referred = [part for value in reader.values("aria-labelledby", "aria-describedby") for part in value.split()]
    referred += [value[1:] for value in reader.values("href") if value.startswith("#")]
    assert set(referred) <= set(reader.ids)


def test_a_broken_document_would_be_found():
    with pytest.raises(AssertionError):
        Reader("<p><b>one</p>")


def test_hostile_names_stay_words():
    document = render(whole_page(HOSTILE))
    reader, plain = Reader(document), Reader(render(whole_page("plain")))
    assert reader.tags == plain.tags
    assert [name for _, name, _ in reader.attributes] == [name for _, name, _ in plain.attributes]
    assert "onerror" not in {name for _, name, _ in reader.attributes}
    assert "<!--" not in document
    assert any(HOSTILE in text for text in reader.texts)
    assert sum("{{ 7 * 7 }}" in text for text in reader.texts) > 15  # not one of them was taken for a template


def test_markdown_is_rendered_without_html_images_and_local_links():
    source = "- one\n  - *two* <b>raw</b>\n\n```\nx  y\n```\n\n[a](b.md) [c](https://d) ![e](f.png) [g](javascript:h)\n"
    document = render(Page("a", "", (Section("m", (Markdown(source),)),)))
    assert "<em>two</em> &lt;b&gt;raw&lt;/b&gt;" in document
    assert "<pre><code>x  y\n</code></pre>" in document
    assert '<p>a <a href="https://d">c</a>  [g](javascript:h)</p>' in document


def test_nothing_comes_from_outside():
    document = render(whole_page())
    reader = Reader(document)
    addresses = reader.values("src", "href", "srcset", "action", "data", "poster")
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"url\((?!#)", document)
    assert "@import" not in document


def test_the_policy_allows_exactly_the_style_and_script_that_are_there():
    from hashlib import sha256

    document = render(whole_page())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', document)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", document, re.DOTALL)[1]
        digest = base64.b64encode(sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "style=" not in document.split("</style>")[1].split("<script>")[0]


def held(document):
    """Return what the script of a page reads."""
    import zlib

    data = re.search(r'class="matrix-data">(.*?)</script>', document, re.DOTALL)[1]
    content = json.loads(data)
    if "packed" in content:
        content = json.loads(zlib.decompress(base64.b64decode(content["packed"])))
    return content


def test_the_script_reads_the_result_itself(tmp_path):
    result = result_of(9, 7, undefined=(2,))
    content = held(render(Page("a", "", (Section("m", (MatrixBlock({"one": result}),)),))))
    assert content["exact"]
    path = tmp_path / "again.json"
    path.write_text(json.dumps(content["results"][0]["document"]))
    again = SimilarityMatrix.load(path)
    np.testing.assert_array_equal(again.values, result.values)
    np.testing.assert_array_equal(again.terms["xy"], result.terms["xy"])
    assert again.rows == result.rows


@pytest.mark.parametrize("layers", [9, 61, 120])
def test_pages_of_any_size_fit(layers):
    results = {"one": result_of(layers, layers, undefined=(3,)), "two": result_of(layers, layers, seed=1)}
    document = render(Page("a", "", (Section("m", (MatrixBlock(results),)),)))
    assert len(document.encode()) < {9: 250_000, 61: 600_000, 120: MAX_BYTES}[layers]
    Reader(document)
    values = np.array(held(document)["results"][1]["document"]["values"], float)
    np.testing.assert_allclose(values, results["two"].values, rtol=0.6 * 10.0 ** (1 - DIGITS))


def test_the_same_page_gives_the_same_bytes(tmp_path):
    first, second = (save_page(whole_page(), tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_images_are_made_smaller_until_the_page_fits(monkeypatch):
    noise = tuple(FigureBlock(png(300, 200, seed), "noise", f"noise{seed}") for seed in range(3))
    page = Page("a", "", (Section("p", noise),))
    whole = sum(len(images.embed(item.image, images.QUALITIES[0]).address) for item in noise)
    monkeypatch.setattr(html, "MAX_BYTES", 200_000)
    assert len(render(page).encode()) <= 200_000 < whole


def test_what_is_too_large_is_named(monkeypatch):
    monkeypatch.setattr(html, "MAX_BYTES", 60_000)
    page = Page("a", "", (Section("p", (FigureBlock(png(200, 150, 0), "noise", "loudest"),)),))
    with pytest.raises(OutputError, match=r"at most 0\.06 MB, found .* largest: figure 'loudest'"):
        render(page)


def test_an_image_keeps_its_colours_and_gets_a_white_ground():
    drawing = Image.new("RGBA", (1800, 30), (0, 0, 0, 0))
    drawing.paste((11, 85, 159, 255), (0, 0, 900, 30))
    stream = BytesIO()
    drawing.save(stream, format="PNG", dpi=(300, 300))
    shown = images.embed(stream.getvalue(), images.QUALITIES[0])
    content = base64.b64decode(shown.address.split(",")[1])
    again = np.asarray(Image.open(BytesIO(content)).convert("RGB"))
    assert again.shape[1] == 1400
    assert shown.width == 900
    np.testing.assert_allclose(again[5, 100], (11, 85, 159), atol=3)
    np.testing.assert_allclose(again[5, 1300], 255, atol=3)


def test_what_is_no_image_is_said(tmp_path):
    page = Page("a", "", (Section("p", (FigureBlock(b"words", "c", "n"),)),))
    with pytest.raises(DataError, match=r"expected an image \(PNG, JPEG, WebP or SVG\), found 5 bytes"):
        render(page)
    with pytest.raises(DataError, match="draw it again"):
        render(Page("a", "", (Section("p", (FigureBlock(tmp_path / "none.png", "c", "n"),)),)))


def test_files_beside_the_page_are_linked_and_others_embedded(tmp_path):
    inside, outside = tmp_path / "page" / "figures" / "a b.pdf", tmp_path / "c.csv"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(b"%PDF")
    outside.write_bytes(b"a,b\n")
    page = Page("a", "", (Section("p", (FigureBlock(png(), "c", "n", (inside, outside)),)),))
    document = save_page(page, tmp_path / "page" / "index.html").read_text()
    assert 'href="figures/a%20b.pdf"' in document
    assert f'href="data:text/csv;base64,{base64.b64encode(b"a,b" + bytes([10])).decode()}"' in document
    assert str(tmp_path) not in document


def test_tables_read_well_and_sort_by_what_is_exact():
    frame = pd.DataFrame({"a": [0.5, np.nan, -0.25], "n": [1, 2, 3], "t": ["x", None, "z"], "b": [True, False, True]})
    table = table_of(frame)
    assert [numeric for _, numeric in table.columns] == [True, True, False, False]
    assert [row[0].text for row in table.rows] == ["0.500", "—", "−0.250"]
    assert [row[0].key for row in table.rows] == ["0.5", "", "-0.25"]
    assert [row[1].text for row in table.rows] == ["1", "2", "3"]
    assert [row[3].text for row in table.rows] == ["yes", "no", "yes"]
    assert base64.b64decode(table.csv.split(",")[1]).decode() == frame.to_csv(index=False)


def test_long_tables_say_what_is_only_in_the_csv():
    table = table_of(pd.DataFrame({"a": range(2001)}))
    assert (len(table.rows), table.omitted) == (2000, 1)
    assert base64.b64decode(table.csv.split(",")[1]).decode().endswith("2000\n")


def test_terms_are_shown_only_where_they_give_the_values():
    result = result_of()
    assert batches_of(result) == "ratio"
    assert batches_of(replace(result, terms={})) == ""
    assert batches_of(replace(result, terms=result.terms | {"xy": 1.01 * result.terms["xy"]})) == ""
    ones = {"xx": np.ones((2, 9)), "yy": np.ones((2, 9))}
    mean = np.average(result.terms["xy"], axis=0, weights=result.terms["weights"])
    settings = result.settings | {"measure": "rsa", "estimator": None}
    assert batches_of(replace(result, values=mean, terms=result.terms | ones, settings=settings)) == "mean"


def test_results_of_other_layers_are_two_matrices():
    with pytest.raises(DataError, match="found other layers in 'b' than in 'a'; use one matrix for each"):
        MatrixBlock({"a": result_of(4, 4), "b": result_of(4, 5)})
    with pytest.raises(DataError, match="at least one result"):
        MatrixBlock({})


@pytest.mark.parametrize("images_", [(np.zeros((4, 4), np.uint8),), (np.zeros((4, 4, 3)),), ()])
def test_thumbnails_that_are_none_are_said(images_):
    with pytest.raises(DataError, match="thumbnails"):
        Thumbnails(images_, ("one",))


def test_folders_of_a_machine_are_omitted():
    assert without_folders("nyuv2:/srv/data/nyuv2:test") == "nyuv2:…/nyuv2:test"
    assert without_folders("/home/me/a.pth and C:\\mine\\b.pth") == "…/a.pth and …/b.pth"
    assert without_folders("runs/a.pth, 3/4, ../shared/x") == "runs/a.pth, 3/4, ../shared/x"
    assert without_folders({"a": ["~/b/c", 3]}) == {"a": ["…/c", 3]}


def test_the_scale_is_that_of_the_static_figure():
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    assert [f"#{color}" for color in color_scale("magma")] == [to_hex(colormaps["magma"](step)) for step in range(256)]
