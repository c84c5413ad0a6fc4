"""Pieces of work that jobs with one folder share: each is done once, in an order that lets none wait without need."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock

from cka_probe.lab.training import turns
from cka_probe.lab.training.turns import take_turns


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(turns, "PAUSE", 0.01)


def job(folder, items, needs=None, together=True):
    """Return a function that does pieces of work, and what it did."""
    done = []

    def work(item):
        with (folder / f"{item}.begun").open("x"):  # fails if another has begun it
            done.append(item)
        (folder / item).touch()

    def run():
        take_turns(
            items,
            work,
            lambda item: folder / ".locks" / item,
            lambda item: (folder / item).exists(),
            is_ready=lambda item: not (needs or {}).get(item) or (folder / needs[item]).exists(),
            together=together,
        )
        return done

    return run


@pytest.mark.parametrize("together", [True, False])
def test_jobs_do_every_piece_once(tmp_path, together):
    items = [f"piece{number}" for number in range(20)]
    with ThreadPoolExecutor(3) as pool:
        shares = list(pool.map(lambda _: job(tmp_path, items, together=together)(), range(3)))
    assert sorted(item for share in shares for item in share) == sorted(items)
    assert not any((tmp_path / ".locks").iterdir())


def test_a_piece_that_another_does_is_passed_over_and_waited_for(tmp_path):
    (tmp_path / ".locks").mkdir()
    other = FileLock(tmp_path / ".locks" / "a", thread_local=False)
    other.acquire()
    with ThreadPoolExecutor(1) as pool:
        share = pool.submit(job(tmp_path, ["a", "b", "c"], needs={"c": "a"}))
        while not (tmp_path / "b").exists():
            pass
        assert not share.done()
        assert not (tmp_path / "c").exists()  # it starts from what the other does
        (tmp_path / "a").touch()
        other.release()
        assert share.result(10) == ["b", "c"]


def test_the_piece_of_a_process_that_died_is_done_by_another(tmp_path):
    (tmp_path / ".locks").mkdir()
    (tmp_path / ".locks" / "a").touch()  # left by the process
    assert job(tmp_path, ["a"])() == ["a"]
    assert job(tmp_path, ["a"])() == []


def test_a_piece_that_failed_can_be_done_again_while_its_error_is_kept(tmp_path):
    with pytest.raises(ZeroDivisionError) as error:
        take_turns(["a"], lambda item: 1 / 0, lambda item: tmp_path / "lock", lambda item: False)
    done = []
    take_turns(["a"], done.append, lambda item: tmp_path / "lock", lambda item: bool(done))
    assert done == ["a"]
    assert error.traceback
