"""Read LMDB databases with every number checked: LMDB itself follows them wherever they lead, and dies.

The file consists of pages of one size. Pages 0 and 1 describe the database, and that of the later transaction counts.
The others are a B+ tree: branches with the numbers of the pages below them, leaves with keys and values in the order of
the keys, and runs of pages for large values. The layout is that of LMDB 0.9 on 64-bit little-endian machines.
"""

import mmap
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAGIC = 0xBEEFC0DE
BRANCH, LEAF, RUN = 1, 2, 4
"""Kinds of pages."""
HEADER = struct.Struct("<QHHHH")  # number, unused, kind, end of the offsets of nodes, start of the nodes
LENGTH = struct.Struct("<12xI")  # of a run, in pages
DESCRIPTION = struct.Struct("<16xII16xI44xIHHQQQQQQQ")
NODE = struct.Struct("<HHHH")  # size of the value, or number of the page below, with the third; length of the key
MOST_LEVELS = 32


class Page(NamedTuple):
    """A branch or a leaf.

    Attributes:
        is_leaf: Which of both.
        nodes: Where its nodes begin in the file.
        end: Where it ends.
    """

    is_leaf: bool
    nodes: list[int]
    end: int


class Database:
    """A database of one tree of keys.

    Args:
        path: The file `data.mdb`.

    Raises:
        OSError: It cannot be read.
        ValueError: It is another file, or a damaged one. All methods raise it, too.
    """

    def __init__(self, path: Path):
        with path.open("rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # an empty file is a ValueError
        if len(self.data) < DESCRIPTION.size:
            raise ValueError("not an LMDB file, or its first bytes")
        self.page_size = DESCRIPTION.unpack_from(self.data)[2]
        if not 256 <= self.page_size <= 1 << 16:
            raise ValueError(f"not an LMDB file, or one with pages of {self.page_size} bytes")
        places = [place for place in (0, self.page_size) if place + DESCRIPTION.size <= len(self.data)]
        descriptions = [DESCRIPTION.unpack_from(self.data, place) for place in places]
        latest = max(descriptions, key=lambda fields: fields[-1])
        magic, version, page_size, _, order, _, _, _, _, self.count, self.root, self.last, _ = latest
        if (magic, version, page_size) != (MAGIC, 1, self.page_size):
            raise ValueError("not an LMDB file, or of another version")
        if order:
            raise ValueError("keys in another order than that of their bytes")

    @property
    def size(self) -> int:
        """The bytes that the file should have."""
        return (self.last + 1) * self.page_size

    def all_keys(self) -> Iterator[bytes]:
        """Yield the keys in their order."""
        pages = [self.root] if self.count else []
        read = 0
        while pages:
            page = self._page(pages.pop())
            read += 1
            if read > len(self.data) // self.page_size:
                raise ValueError("a page that is part of itself")
            if page.is_leaf:
                for node in page.nodes:
                    yield self._key(node, page.end)
            else:
                pages += [self._below(node) for node in reversed(page.nodes)]

    def value(self, key: bytes) -> bytes | None:
        """Return the value of a key; `None` if there is no such key."""
        number = self.root
        for _ in range(MOST_LEVELS if self.count else 0):
            page = self._page(number)

            def key_of(node: int, end: int = page.end) -> bytes:
                return self._key(node, end)

            if page.is_leaf:
                index = bisect_left(page.nodes, key, key=key_of)
                is_there = index < len(page.nodes) and key_of(page.nodes[index]) == key
                return self._value(page.nodes[index], page.end) if is_there else None
            number = self._below(page.nodes[bisect_right(page.nodes, key, lo=1, key=key_of) - 1])
        if self.count:
            raise ValueError("a page that is part of itself")
        return None

    def _start(self, number: int, kind: int, pages: int = 1) -> int:
        """Return where a page begins, or a run of pages."""
        start = number * self.page_size
        if not 2 <= number <= self.last or start + pages * self.page_size > len(self.data):
            raise ValueError(f"page {number} of {self.last}")
        own, _, kinds, _, _ = HEADER.unpack_from(self.data, start)
        if own != number or not kinds & kind:
            raise ValueError(f"something else on page {number}")
        return start

    def _page(self, number: int) -> Page:
        """Return a branch or a leaf."""
        start = self._start(number, BRANCH | LEAF)
        _, _, kinds, lower, _ = HEADER.unpack_from(self.data, start)
        if not HEADER.size < lower <= self.page_size:
            raise ValueError(f"no nodes on page {number}")
        offsets = struct.unpack_from(f"<{(lower - HEADER.size) // 2}H", self.data, start + HEADER.size)
        if not offsets or not lower <= min(offsets) <= max(offsets) <= self.page_size - NODE.size:
            raise ValueError(f"nodes outside of page {number}")
        return Page(bool(kinds & LEAF), [start + offset for offset in offsets], start + self.page_size)

    def _key(self, node: int, end: int) -> bytes:
        """Return the key of a node."""
        length = NODE.unpack_from(self.data, node)[3]
        if node + NODE.size + length > end:
            raise ValueError("a key beyond its page")
        return self.data[node + NODE.size : node + NODE.size + length]

    def _below(self, node: int) -> int:
        """Return the number of the page below a node of a branch."""
        low, middle, high, _ = NODE.unpack_from(self.data, node)
        return int(low | middle << 16 | high << 32)

    def _value(self, node: int, end: int) -> bytes:
        """Return the value of a node of a leaf."""
        low, high, is_run, key_length = NODE.unpack_from(self.data, node)
        length, start = low | high << 16, node + NODE.size + key_length
        if is_run not in (0, 1):
            raise ValueError("another database within it")
        if is_run:
            if start + 8 > end:
                raise ValueError("a value beyond its page")
            number = int.from_bytes(self.data[start : start + 8], "little")
            pages = LENGTH.unpack_from(self.data, self._start(number, RUN))[0]
            start = self._start(number, RUN, pages)
            start, end = start + HEADER.size, start + pages * self.page_size
        if start + length > end:
            raise ValueError("a value beyond its pages")
        return self.data[start : start + length]
