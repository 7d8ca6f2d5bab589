"""How long requests stand in line for a thread of their WSGI server: of waitress and of pools; of others nothing is known."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from meshlib.transport.runtimes.thread_line import BEAT
from meshlib.transport.wsgi.server_threads import WAITRESS, ServerThreads, pool_here
from tests.support.fake_clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def threads(clock: FakeClock) -> ServerThreads:
    return ServerThreads(clock.monotonic, clock.time)


class Channel:
    """As much of waitress's."""

    def __init__(self, last_activity: float) -> None:
        self.last_activity = last_activity

    def check_client_disconnected(self) -> bool:
        return False


def test_waitress_keeps_when_it_read_a_request(threads, clock):
    channel = Channel(clock.time())
    clock.advance(1.5)
    assert threads.seconds({WAITRESS: channel.check_client_disconnected}) == pytest.approx(1.5)
    clock.advance(0.3)
    at_once = Channel(clock.time())
    assert threads.seconds({WAITRESS: at_once.check_client_disconnected}) == 0.0


def test_a_pool_is_looked_at_from_its_own_thread(threads, clock):
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(threads.seconds, {}).result() == 0.0
        began, go_on = threading.Event(), threading.Event()

        def serves() -> float | None:
            clock.advance(2 * BEAT)
            found = threads.seconds({})
            began.set()
            go_on.wait(30)
            return found

        first = pool.submit(serves)
        assert began.wait(30)
        clock.advance(2.0)
        go_on.set()
        assert first.result() == 0.0
        assert pool.submit(threads.seconds, {}).result() == pytest.approx(2.0), (
            "who looked stood there behind the first"
        )
        clock.advance(0.3)
        assert pool.submit(threads.seconds, {}).result() == 0.0


def test_those_who_look_do_not_keep_a_pool_from_growing(threads, clock):
    with ThreadPoolExecutor(3) as pool:
        for _ in range(20):
            clock.advance(2 * BEAT)
            pool.submit(threads.seconds, {}).result()
        meet = threading.Barrier(3)
        assert sorted(each.result() for each in [pool.submit(meet.wait, 30) for _ in range(3)]) == [0, 1, 2]


def test_a_pool_that_takes_no_more_is_let_alone(threads, clock):
    pool = ThreadPoolExecutor(1)
    go_on = threading.Event()

    def serves() -> float | None:
        go_on.wait(30)
        return threads.seconds({})

    last = pool.submit(serves)
    pool.shutdown(wait=False)
    go_on.set()
    assert last.result() == 0.0


def test_of_other_servers_nothing_is_known(threads):
    found: list[object] = []
    thread = threading.Thread(target=lambda *_: found.append(threads.seconds({})), args=("anything",))
    thread.start()
    thread.join(60)
    assert found == [None]
    assert threads.seconds({WAITRESS: lambda: False}) is None
    assert pool_here() is None


def test_a_pool_that_is_gone_is_not_kept(threads):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(threads.seconds, {}).result()
    del pool
    assert len(threads._pools) == 0
