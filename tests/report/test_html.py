"""The document of a page: valid, escaped, self-contained, small and deterministic."""

import base64
import re
from hashlib import sha256
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from helpers.matrices import CASES, result_of
from PIL import Image

from cka_probe.errors import OutputError
from cka_probe.plotting import Heatmap
from cka_probe.report import html, images
from cka_probe.report.blocks import Facts, FigureBlock, Heading, MatrixBlock, Page, TableBlock, Text, Thumbnails
from cka_probe.report.html import render, save_page

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
        Heading(words),
        Text(words),
        Facts(((words, words),)),
        TableBlock(frame, words, words),
        FigureBlock(png(), words, words),
        Thumbnails((np.zeros((8, 8, 3), np.uint8),)),
        MatrixBlock({words: result_of(name=words, **matrix)}, words),
    )
    return Page(words, 3 * blocks, words, (words,))


class Reader(HTMLParser):
    """Parser that checks that tags close in order, and collects ids, attributes, texts and data."""

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


def test_the_reader_refuses_open_tags():
    with pytest.raises(AssertionError):
        Reader("<p><b>one</p>")


def test_hostile_names_stay_text():
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
    document = render(Page("a", (Text(source),)))
    assert "<em>two</em> &lt;b&gt;raw&lt;/b&gt;" in document
    assert "<pre><code>x  y\n</code></pre>" in document
    assert '<p><a>a</a> <a href="https://d">c</a>  [g](javascript:h)</p>' in document


def test_the_page_requests_nothing():
    document = render(whole_page())
    reader = Reader(document)
    addresses = reader.values("src", "href", "srcset", "action", "data", "poster")
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"url\((?!#)", document)
    assert "@import" not in document


def test_the_policy_allows_exactly_the_style_and_script_of_the_page():
    document = render(whole_page())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', document)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", document, re.DOTALL)[1]
        digest = base64.b64encode(sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "style=" not in document.split("</style>")[1].split("<script>")[0]


def test_the_same_page_gives_the_same_bytes(tmp_path):
    first, second = (save_page(whole_page(), tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_images_are_reduced_until_the_page_fits(monkeypatch):
    noise = tuple(FigureBlock(png(300, 200, seed), "noise", f"noise{seed}") for seed in range(3))
    page = Page("a", noise)
    size = sum(len(images.embed(item.image, images.QUALITIES[0]).address) for item in noise)
    monkeypatch.setattr(html, "MAX_BYTES", 178_000)
    assert len(render(page).encode()) <= 178_000 < size


def test_the_largest_blocks_of_a_page_that_is_too_large_are_named(monkeypatch):
    monkeypatch.setattr(html, "MAX_BYTES", 50_000)
    page = Page("a", (FigureBlock(png(200, 150, 0), "noise", "large"),))
    with pytest.raises(OutputError, match=r"at most 0\.05 MB, found .* largest: 'figure large'"):
        render(page)


def test_files_next_to_the_page_are_linked_and_others_omitted(tmp_path):
    inside, outside = tmp_path / "page" / "figures" / "a b.pdf", tmp_path / "c.pdf"
    inside.parent.mkdir(parents=True)
    for path in (inside, outside):
        path.write_bytes(b"%PDF")
    page = Page("a", (FigureBlock(png(), "c", "n", (inside, outside)),))
    document = save_page(page, tmp_path / "page" / "index.html").read_text()
    assert 'href="figures/a%20b.pdf"' in document
    assert "c.pdf" not in document
    assert str(tmp_path) not in document


def test_files_too_large_for_the_page_are_named(monkeypatch):
    monkeypatch.setattr("cka_probe.report.images.MAX_FILES", 45_000)  # about a PDF
    document = render(Page("a", (FigureBlock(png(), "c", "n", figure=Heatmap(CASES["nine"])),)))
    assert re.findall('download="(n[.a-z]*)"', document) == ["n.pdf"]
    assert "SVG and PNG: too large for this page; use <code>ckaprobe draw</code>." in document
