"""Reading ahead: in order, in any number of threads, and no further than the consumer wants."""

import threading

import pytest
import torch

from cka_probe.errors import DataError
from cka_probe.images.prefetch import copy_stream, default_workers, prefetch


@pytest.mark.parametrize("workers", [0, 1, 3, None])
def test_items_come_in_order_and_an_error_in_place_of_its_item(workers):
    assert list(prefetch(lambda index: index**2, range(40), workers, ahead=5)) == [index**2 for index in range(40)]
    items = prefetch(lambda index: 1 / index, [1, 2, 0, 4], workers)
    assert [next(items), next(items)] == [1.0, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(items)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stop_iteration_of_a_reader_is_an_error_and_not_the_end_of_the_images(workers):
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(prefetch(lambda index: next(iter(range(index))), [1, 1, 0, 1], workers))


def test_a_negative_number_of_threads_is_refused():
    with pytest.raises(DataError, match="workers=-1"):
        next(prefetch(abs, [1], workers=-1))


def test_a_consumer_that_stops_early_leaves_no_thread_and_reads_no_more():
    read = []
    items = prefetch(lambda index: read.append(index) or index, iter(range(1000)), workers=2, ahead=8)
    assert next(items) == 0
    items.close()
    assert len(read) <= 9
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPool")]


def test_as_many_threads_as_cores_by_default():
    assert 1 <= default_workers() <= 16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_copies_arrive_before_they_are_read_and_keep_their_memory_until_then():
    device = torch.device("cuda", 0)
    stream, values = copy_stream(device), [torch.full((64, 3, 224, 224), float(index)) for index in range(6)]
    copies = prefetch(stream.copy, values, workers=1, ahead=1)
    sums = []
    for copy in copies:
        images = stream.receive(copy)
        torch.cuda._sleep(10**7)  # the next copies end while this one waits to be read
        sums.append(images.double().mean())
        del copy, images
    assert torch.stack(sums).tolist() == [0, 1, 2, 3, 4, 5]


def test_there_is_no_stream_of_copies_to_a_cpu():
    assert copy_stream(torch.device("cpu")) is None
