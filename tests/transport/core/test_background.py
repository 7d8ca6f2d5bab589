"""The few threads for what blocking calls leave behind: none is lost, whatever a job does."""

from __future__ import annotations

import threading
import time

import pytest

from meshlib.transport.core.background import MAX_THREADS, Background

# a worker that dies tells the interpreter so, perhaps only when the next test runs
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def gone() -> None:
    raise AssertionError("a job was refused")


@pytest.mark.parametrize("raised", [ValueError, SystemExit, KeyboardInterrupt])
def test_jobs_that_raise_are_counted_and_take_no_worker_with_them(raised):
    background = Background()

    def job() -> None:
        raise raised

    for _ in range(MAX_THREADS + 2):
        background.submit(job, gone)
    done = threading.Event()
    background.submit(done.set, gone)
    assert done.wait(30)
    end = time.monotonic() + 30
    while background.failures < MAX_THREADS + 2:
        assert time.monotonic() < end
        time.sleep(0.002)
    background.close()


def test_its_threads_end_when_it_is_closed():
    background = Background()
    before = set(threading.enumerate())
    ran = threading.Event()
    background.submit(ran.set, gone)
    assert ran.wait(30)
    (worker,) = set(threading.enumerate()) - before
    background.close()
    worker.join(30)
    assert not worker.is_alive()
    refused = threading.Event()
    background.submit(gone, refused.set)
    assert refused.is_set()
    assert background.dropped == 1
