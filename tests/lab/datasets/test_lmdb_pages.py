"""Databases are read as LMDB reads them, and damaged ones never end the process."""

import hashlib
import random

import lmdb
import pytest

from cka_probe.lab.datasets.lmdb_pages import Database


def write(folder, items, remove=()):
    folder.mkdir(exist_ok=True)
    with lmdb.open(str(folder), map_size=1 << 26) as database:
        with database.begin(write=True) as writing:
            for key, value in items.items():
                writing.put(key, value)
        with database.begin(write=True) as writing:  # another description, and pages that are free again
            for key in remove:
                writing.delete(key)
    return folder / "data.mdb"


def items_of(count, length, seed=0):
    generator = random.Random(seed)
    keys = [hashlib.sha1(b"%d %d" % (seed, number)).hexdigest().encode() for number in range(count)]
    return {key: generator.randbytes(length(generator)) for key in keys}


@pytest.mark.parametrize(
    ("count", "length"),
    [
        (1, lambda _: 0),
        (5, lambda _: 100_000),
        (300, lambda generator: generator.choice((0, 10, 1900, 2100, 4096, 9000))),
        (20_000, lambda _: 3),
    ],
)
def test_keys_and_values_are_those_of_lmdb(tmp_path, count, length):
    items = items_of(count, length)
    removed = list(items)[1::3]
    database = Database(write(tmp_path, items, removed))
    for key in removed:
        assert database.value(key) is None
        del items[key]
    assert list(database.all_keys()) == sorted(items)
    assert database.count == len(items)
    for key in list(items)[:500]:
        assert database.value(key) == items[key]
    for absent in (b"", b"0", b"z" * 40):
        assert database.value(absent) is None
    assert database.size <= len(database.data)


def test_an_empty_database_has_no_keys(tmp_path):
    database = Database(write(tmp_path, {}))
    assert list(database.all_keys()) == []
    assert database.value(b"a") is None


def test_a_branch_that_is_its_own_child_ends(tmp_path):
    path = write(tmp_path, items_of(2000, lambda _: 3))
    data = bytearray(path.read_bytes())
    database = Database(path)
    page = database._page(database.root)
    assert not page.is_leaf
    for node in page.nodes:
        data[node : node + 6] = database.root.to_bytes(6, "little")
    path.write_bytes(data)
    for read in (lambda looped: list(looped.all_keys()), lambda looped: looped.value(b"a" * 40)):
        with pytest.raises(ValueError, match="a page that is part of itself"):
            read(Database(path))


def test_a_wrong_byte_anywhere_in_the_heads_of_pages_is_said(tmp_path):
    items = items_of(200, lambda generator: generator.choice((10, 5000)))
    path = write(tmp_path / "set", items)
    data, database, key = path.read_bytes(), Database(path), min(items)
    heads = dict.fromkeys((*range(2, 8), database.root), 24) | {0: 152, 1: 152}
    refused = 0
    for place in (page * database.page_size + offset for page, length in heads.items() for offset in range(length)):
        for byte in (0, 5, 255):
            path.write_bytes(data[:place] + bytes([byte]) + data[place + 1 :])
            try:
                damaged = Database(path)
                list(damaged.all_keys())
                damaged.value(key)
            except ValueError:
                refused += 1
    assert refused > 100
