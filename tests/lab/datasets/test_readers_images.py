"""Readers of images without labels per pixel: folders and lists, folders of classes, databases of scenes."""

import hashlib
import multiprocessing
import shutil

import lmdb
import numpy as np
import pytest
import torch
from helpers.image_files import COUNTS, encoded, exported_root, imagenet_root, key_of, lsun_root, write
from helpers.paths import REAL

from cka_probe.errors import DataError, UnknownNameError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.datasets.imagenet import smallest_by_seed
from cka_probe.lab.datasets.lsun import keys_of

real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the real images (../shared/data) are not here")


def names(dataset):
    return [dataset.describe(index) for index in range(len(dataset))]


# a folder and a list


def test_a_list_says_which_images_and_in_which_order(tmp_path):
    for name in ("a.png", "deep/er/b c.png", "d.png"):
        write(tmp_path / "images" / name)
    (tmp_path / "images" / "some.txt").write_text("deep/er/b c.png\n\na.png")  # the last line has no end
    assert names(open_dataset(f"folder:{tmp_path}/images?list=some.txt")) == ["deep/er/b c.png", "a.png"]
    (tmp_path / "elsewhere.txt").write_text("d.png\r\n")
    assert names(open_dataset(f"folder:{tmp_path}/images?list={tmp_path}/elsewhere.txt")) == ["d.png"]
    assert len(open_dataset(tmp_path / "images")) == 3
    write(tmp_path / "images" / "val" / "e.png")
    (tmp_path / "images" / "val.txt").write_text("e.png")  # below the folder that the split means
    assert names(open_dataset(f"folder:{tmp_path}/images:val?list=val.txt")) == ["val/e.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png\n\nb.png", r"list.txt, line 3: names .*b.png, which is not there; complete the data or the list"),
        ("a.png\na.png", r"list.txt, line 2: names a.png again, as line 1 does; remove one"),
        ("../list.txt", r"list.txt, line 1: expected a path below .*, found ../list.txt; correct the list"),
        ("/a.png", r"list.txt, line 1: expected a path below .*, found /a.png"),
        ("\n", r"list.txt: expected paths, one a line, found none; complete the list"),
        (b"\xff\xfe\x00", r"list.txt: expected a text file of paths, found one that cannot be read"),
        (None, r"list.txt: expected a text file of paths, found one that cannot be read .*No such file"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_with_its_line(tmp_path, text, message):
    write(tmp_path / "a.png")
    if text is not None:
        (tmp_path / "list.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        open_dataset(f"folder:{tmp_path}?list=list.txt")


# folders of classes


def test_an_image_has_the_class_of_its_folder(tmp_path):
    root = imagenet_root(tmp_path / "data")
    everything, train, val = (open_dataset(f"imagenet:{root}{split}") for split in ("", ":train", ":val"))
    assert (len(everything), len(train), len(val)) == (9, 6, 3)
    assert val.gives == {"image", "category"}
    assert val.classes.names == train.classes.names == ("n01", "n02", "n03")
    assert [int(val[index]["category"]) for index in range(3)] == [0, 2, 2]  # n02 has no image here
    assert names(val)[0] == "val/n01/val_0.JPEG"
    assert val[0]["category"].dtype == torch.int64
    assert val[0]["category"].shape == ()


def test_classes_without_splits_and_a_class_called_train(tmp_path):
    for name in ("car/1.png", "car/old/2.png", "train/1.png"):
        write(tmp_path / name)
    dataset = open_dataset(f"imagenet:{tmp_path}")
    assert dataset.classes.names == ("car", "train")
    assert names(dataset) == ["car/1.png", "car/old/2.png", "train/1.png"]


def test_some_of_the_images_are_chosen_by_seed_and_keep_their_classes(tmp_path):
    root = imagenet_root(tmp_path / "data")
    four, three = (open_dataset(f"imagenet:{root}:train?num={num}&seed=5") for num in (4, 3))
    assert (len(four), len(three)) == (4, 3)
    assert set(names(three)) < set(names(four))
    assert all(f"n0{int(four[index]['category']) + 1}" in name for index, name in enumerate(names(four)))
    assert {tuple(names(open_dataset(f"imagenet:{root}:train?num=3&seed={seed}"))) for seed in range(9)} != {
        tuple(names(three))
    }
    with pytest.raises(DataError, match=r"expected 7 images below .*, found 6; ask for fewer with num="):
        open_dataset(f"imagenet:{root}:train?num=7")


@pytest.mark.parametrize(
    ("spoil", "split", "message"),
    [
        (lambda r: write(r / "val" / "n09" / "1.png"), "val", r"val/n09: expected one of the 3 classes of .*train"),
        (lambda r: write(r / "val" / "1.png"), "val", r"found 1 next to them, first: 1.png; sort them in"),
        (lambda r: write(r / "test" / "1.png"), "test", r"expected folders of classes in .*test, found none; sort its"),
        (lambda r: None, "test", r"no split 'test' in the classes at .*; there are: train, val, all"),
        (lambda r: [p.unlink() for p in r.rglob("*.JPEG")], "all", r"no images below .*: expected folders of"),
        (lambda r: r.rename(r.with_name("moved")), "all", r"expected folders of classes at .*data, found nothing"),
        (lambda r: (r / "val/n01/val_0.JPEG").write_bytes(encoded(0, "JPEG")[:300]), "val", "unreadable image"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_folders_of_classes_is_said(tmp_path, spoil, split, message):
    root = imagenet_root(tmp_path / "data")
    spoil(root)
    with pytest.raises(DataError, match=message):
        open_dataset(f"imagenet:{root}:{split}")[0]


# databases of scenes


def test_a_database_gives_images_whatever_their_encoding(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = open_dataset(f"lsun:{lsun_root(tmp_path / 'data')}")
    assert len(dataset) == sum(COUNTS.values())
    assert dataset.gives == {"image", "category"}
    assert dataset.classes.names == ("bedroom", "dining_room", "kitchen")
    first = f"bedroom_train_lmdb/{min(key_of('bedroom', number) for number in range(12))}"
    assert names(dataset)[0] == first
    for index in range(len(dataset)):
        sample, (folder, key) = dataset[index], dataset.describe(index).split("/")
        category = folder.removesuffix("_train_lmdb")
        number = [key_of(category, number) for number in range(12)].index(key)
        assert dataset.classes.names[sample["category"]] == category
        if number % 3:  # WebP and PNG were kept without loss
            pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
            np.testing.assert_array_equal((sample["image"] * 255).round().permute(1, 2, 0).numpy(), pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]  # no file of keys is left behind
    assert dataset.names.dtype.kind == "S"


def test_two_datasets_may_read_one_database_and_a_new_file_is_seen(tmp_path):
    root = lsun_root(tmp_path / "data")
    one, two = (open_dataset(f"lsun:{root}?categories={names}") for names in ("kitchen", "kitchen,bedroom"))
    before = one[0]["image"]
    torch.testing.assert_close(before, two[12]["image"])
    shutil.rmtree(root)
    lsun_root(root, kinds=("WEBP",))
    anew = open_dataset(f"lsun:{root}?categories=kitchen")[0]["image"]
    assert not torch.equal(anew, before)


def _first(dataset, sent):
    sent.put(dataset[0]["image"].numpy())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_database_may_be_read_in_another_process(tmp_path, method):
    dataset = open_dataset(f"lsun:{lsun_root(tmp_path)}")
    here = dataset[0]["image"].numpy()  # it is open when the process begins
    context = multiprocessing.get_context(method)
    sent = context.Queue()
    process = context.Process(target=_first, args=(dataset, sent))
    process.start()
    np.testing.assert_array_equal(sent.get(timeout=60), here)
    process.join()


def test_so_many_of_each_category_by_a_seeded_rule(tmp_path):
    root = lsun_root(tmp_path / "data")
    chosen = open_dataset(f"lsun:{root}?each=5")
    categories = [int(chosen[index]["category"]) for index in range(len(chosen))]
    assert np.bincount(categories).tolist() == [5, 5, 5]
    assert names(open_dataset(f"lsun:{root}?each=5")) == names(chosen)
    assert set(names(open_dataset(f"lsun:{root}?each=4"))) < set(names(chosen))
    assert set(names(open_dataset(f"lsun:{root}?each=5&seed=1"))) != set(names(chosen))
    only = open_dataset(f"lsun:{root}?each=5&categories=kitchen")
    assert names(only) == [name for name in names(chosen) if name.startswith("kitchen")]
    exported = open_dataset(f"lsun:{exported_root(tmp_path / 'exported')}?each=5")
    assert [name.split("/")[-1].removesuffix(".webp") for name in names(exported)] == [
        name.split("/")[-1] for name in names(chosen)
    ]
    for index in range(15):
        torch.testing.assert_close(exported[index], chosen[index], rtol=0, atol=0)


def test_the_choice_depends_on_the_keys_alone_and_takes_all_alike():
    keys = np.array([hashlib.sha1(bytes([a, b])).hexdigest() for a in range(80) for b in range(250)], "S40")
    chosen = set(keys[smallest_by_seed(keys, 2000, 3)])
    turned = keys[::-1].astype("S64")  # another order, more room for each
    assert set(turned[smallest_by_seed(turned, 2000, 3)]) == chosen
    first = np.array([int(key[:2], 16) for key in chosen])
    assert abs(first.mean() - 127.5) < 5 * 74 / 2000**0.5
    assert 100 < len(chosen & set(keys[smallest_by_seed(keys, 2000, 4)])) < 300  # 200 by chance


@pytest.mark.parametrize(("split", "there"), [("_val", "val, all"), ("", "all")])
def test_exported_folders_have_the_splits_they_are_named_after(tmp_path, split, there):
    root = exported_root(tmp_path, split)
    assert len(open_dataset(f"lsun:{root}")) == 31
    with pytest.raises(DataError, match=f"no split 'train' in LSUN at .*; there are: {there}"):
        open_dataset(f"lsun:{root}:train")


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def put(folder, key, value):
    with lmdb.open(str(folder), map_size=1 << 22) as database, database.begin(write=True) as writing:
        writing.put(key, value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: cut(f / "data.mdb", 9000), r"data.mdb is truncated: 9000 of \d+ bytes; fetch it again"),
        (lambda f: cut(f / "data.mdb", 100), r"expected an LMDB database, found one that does not open"),
        (lambda f: (f / "data.mdb").write_bytes(b"x" * 9000), r"found one that does not open .*not an LMDB file"),
        (lambda f: (f / "data.mdb").unlink(), r"bedroom_train_lmdb: expected an LMDB database, found no data.mdb"),
        (lambda f: put(f, b"short", b""), r"expected keys of 40 bytes, as the first is, found b'short'; fetch"),
        (lambda f: put(f, b"0" * 40, b"no image"), r"unreadable image .*bedroom_train_lmdb/0{40}: cannot identify"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_database_is_said(tmp_path, spoil, message):
    root = lsun_root(tmp_path)
    spoil(root / "bedroom_train_lmdb")
    with pytest.raises(DataError, match=message):
        open_dataset(f"lsun:{root}")[0]


def test_a_key_that_is_no_text_is_that_of_an_image(tmp_path):
    root = lsun_root(tmp_path)
    put(root / "kitchen_train_lmdb", b"\xe4" * 40, encoded(3))
    dataset = open_dataset(f"lsun:{root}")
    assert dataset[len(dataset) - 1]["image"].shape == (3, 6, 8)


def test_an_empty_database_and_too_few_images_and_neither_kind_say_so(tmp_path):
    root = lsun_root(tmp_path / "data")
    with pytest.raises(DataError, match=r"expected 10 images of dining_room in .*, found 9; ask for fewer"):
        open_dataset(f"lsun:{root}?each=10")
    with pytest.raises(UnknownNameError, match=r"no category in LSUN at .* 'kichen'; did you mean 'kitchen'"):
        open_dataset(f"lsun:{root}?categories=kichen")
    write(root / "attic" / "1.png")
    with pytest.raises(DataError, match=r"found both .*_lmdb and attic.; choose with categories="):
        open_dataset(f"lsun:{root}")
    assert len(open_dataset(f"lsun:{root}?categories=attic")) == 1
    with pytest.raises(DataError, match=r"expected a folder for each category at .*, found the folders of one export"):
        open_dataset(f"lsun:{exported_root(tmp_path / 'exported') / 'kitchen_train'}")
    with lmdb.open(str(tmp_path / "empty"), map_size=1 << 20):
        pass
    with pytest.raises(DataError, match="expected a database of some images, found 0"):
        keys_of(tmp_path / "empty")
    with pytest.raises(DataError, match=r"expected LSUN at .*: <category>_train_lmdb/data.mdb, or exported files"):
        open_dataset(f"lsun:{tmp_path / 'empty'}")


# real images


@real_data
def test_real_objects_have_their_folders_as_classes():
    dataset = open_dataset(f"imagenet:{REAL / 'caltech101'}")
    assert (len(dataset), len(dataset.classes)) == (600, 100)
    assert np.bincount(dataset.numbers).tolist() == [6] * 100
    sample = dataset[599]
    assert dataset.classes.names[sample["category"]] == dataset.describe(599).split("/")[0] == "yin_yang"
    assert min(sample["image"].shape[1:]) <= 224
