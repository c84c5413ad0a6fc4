"""The Markdown of our own reports as blocks: headings, paragraphs, lists, code, tables and images.

CommonMark with tables, read by markdown-it-py; HTML in it is text like any other. Code stays between backticks and
what is strong between stars, other emphasis is kept as its words, a link as the words that are linked, with its place
where that is on the network.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token


@dataclass(frozen=True)
class Heading:
    """A heading; `level` is 1 for the title."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """A paragraph, or a quotation."""

    text: str


@dataclass(frozen=True)
class Entries:
    """A list; entries of a list in a list follow the entry they stand under, each after a dash."""

    entries: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """Code in a fixed width."""

    text: str


@dataclass(frozen=True)
class Image:
    """An image: where it is, and the words for who cannot see it."""

    place: str
    words: str


@dataclass(frozen=True)
class Grid:
    """A table of words.

    Attributes:
        head: The headings.
        rows: As many cells in each.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = Heading | Paragraph | Entries | Listing | Image | Grid


def read_markdown(text: str) -> tuple[Block, ...]:
    """Return the blocks of a text, in order.

    >>> read_markdown("# Title\\n\\nSome `code`, *and* [more](x.md).\\n")
    (Heading(level=1, text='Title'), Paragraph(text='Some `code`, and more.'))
    """
    tokens = MarkdownIt("commonmark", {"html": False}).enable("table").parse(text)
    return tuple(_blocks(tokens))


def _blocks(tokens: Sequence[Token]) -> Iterator[Block]:
    """Yield the blocks of a sequence of tokens."""
    place = 0
    while place < len(tokens):
        token = tokens[place]
        inside = _inside(tokens, place) if token.nesting == 1 else ()
        if token.type == "heading_open":
            yield Heading(int(token.tag[1:]), _words(inside[0]))
        elif token.type == "paragraph_open":
            yield from _paragraph(inside[0])
        elif token.type in ("bullet_list_open", "ordered_list_open"):
            yield Entries(tuple(_entries(inside, numbered=token.type.startswith("ordered"))))
        elif token.type == "table_open":
            yield _grid(inside)
        elif token.type == "blockquote_open":
            yield from _blocks(inside)
        elif token.type in ("fence", "code_block"):
            yield Listing(token.content.rstrip("\n"))
        place += len(inside) + (2 if token.nesting == 1 else 1)


def _inside(tokens: Sequence[Token], place: int) -> Sequence[Token]:
    """Return the tokens between an opening one and the one that closes it."""
    depth = 0
    for end in range(place, len(tokens)):
        depth += tokens[end].nesting
        if depth == 0:
            return tokens[place + 1 : end]
    raise AssertionError(f"{tokens[place].type} is not closed")  # a parser that does this is broken


def _paragraph(inline: Token) -> Iterator[Block]:
    """Yield a paragraph's words, and each of its images after them."""
    words = _words(inline)
    if words:
        yield Paragraph(words)
    for child in inline.children or ():
        if child.type == "image":
            yield Image(str(child.attrs["src"]), child.content)


def _words(inline: Token) -> str:
    """Return the words of an inline token: emphasis dropped, code between backticks, links as their words."""
    said, links = [], []
    for child in inline.children or ():
        if child.type == "text":
            said.append(child.content)
        elif child.type == "code_inline":
            said.append(f"`{child.content.replace('`', chr(39))}`")
        elif child.type in ("strong_open", "strong_close"):
            said.append("**")
        elif child.type in ("softbreak", "hardbreak"):
            said.append(" ")
        elif child.type == "link_open":
            links.append(str(child.attrs["href"]))
        elif child.type == "link_close" and (place := links.pop()).startswith(("http://", "https://")):
            said.append(f" ({place})")
    return " ".join("".join(said).split())


def _entries(tokens: Sequence[Token], numbered: bool) -> Iterator[str]:
    """Yield the entries of a list."""
    for number, item in enumerate(_every(tokens, "list_item_open"), start=1):
        blocks = list(_blocks(item))
        texts = [block.text for block in blocks if isinstance(block, Paragraph | Listing)]
        yield f"{number}. " * numbered + " ".join(texts)
        yield from (f"\N{EN DASH} {entry}" for block in blocks if isinstance(block, Entries) for entry in block.entries)


def _grid(tokens: Sequence[Token]) -> Grid:
    """Return a table; empty columns' headings stay empty."""
    rows = [[token for token in row if token.type == "inline"] for row in _every(tokens, "tr_open")]
    head, *body = [tuple(map(_words, row)) for row in rows]
    return Grid(head, tuple(body))


def _every(tokens: Sequence[Token], kind: str) -> Iterator[Sequence[Token]]:
    """Yield what is inside each of the outermost tokens of a kind."""
    place = 0
    while place < len(tokens):
        if tokens[place].type == kind:
            inside = _inside(tokens, place)
            yield inside
            place += len(inside) + 1
        place += 1
