"""An endpoint that cannot be connected to is avoided until its channel says that it is back, or nobody can say so."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import grpc
import pytest

from meshlib.transport.grpcio.client.reachability import ASKED_EVERY, STALLED, lost_connection

State = grpc.ChannelConnectivity


class Channel:
    """Of both runtimes: its state is what the test sets."""

    def __init__(self, error=None):
        self.error, self.told, self.state = error, [], State.TRANSIENT_FAILURE
        self.asked = 0
        self.changed = asyncio.Event()

    def subscribe(self, callback, try_to_connect=False):
        assert try_to_connect
        if self.error is not None:
            raise self.error
        self.asked += 1
        self.told.append(callback)

    def unsubscribe(self, callback):
        self.told.remove(callback)

    def get_state(self, try_to_connect=False):
        return self.state

    async def wait_for_state_change(self, _state):
        await self.changed.wait()


class Upstream:
    def __init__(self, loop=None, error=None):
        self.channel, self.loop, self.watching, self.subscribed = Channel(error), loop, None, False


class Health:
    """The cluster's state: what it was told."""

    def __init__(self):
        self.told = []

    def observe_health(self, endpoint, reachable):
        endpoint.reachable = reachable
        self.told.append(reachable)


class Alarms:
    """Those of the core: they ring when the test says so."""

    def __init__(self):
        self.due = []

    def after(self, seconds, ring):
        self.due.append((seconds, ring))


@pytest.fixture
def endpoint():
    return SimpleNamespace(reachable=True, key="10.0.0.1:80")


@pytest.fixture
def effect(endpoint):
    return SimpleNamespace(cluster=SimpleNamespace(endpoints=[endpoint, object()], state=Health()), endpoint=endpoint)


@pytest.fixture
def core():
    return SimpleNamespace(real_alarms=Alarms())


def test_in_threads_it_is_back_when_its_channel_is_ready(core, effect, endpoint):
    upstream = Upstream()
    lost_connection(core, upstream, effect)
    [changed] = upstream.channel.told
    assert upstream.subscribed
    changed(State.CONNECTING)
    assert not endpoint.reachable
    changed(State.READY)
    assert endpoint.reachable
    assert (upstream.channel.told, upstream.watching) == ([], None)


def test_in_threads_a_channel_that_was_ready_unseen_and_is_idle_is_asked_to_connect_again(core, effect, endpoint):
    upstream = Upstream()
    lost_connection(core, upstream, effect)
    [changed] = upstream.channel.told
    changed(State.IDLE)  # it was ready, and lost at once: nobody was told
    for asked in (2, 3):
        [(seconds, ask)] = core.real_alarms.due
        assert seconds == ASKED_EVERY
        core.real_alarms.due.clear()
        ask()
        assert (upstream.channel.asked, upstream.channel.told) == (asked, [changed])
    changed(State.READY)
    assert endpoint.reachable
    core.real_alarms.due.pop()[1]()
    assert (upstream.channel.asked, core.real_alarms.due) == (3, [])


def test_the_end_of_its_channel_ends_the_watch(core, effect, endpoint):
    upstream = Upstream()
    lost_connection(core, upstream, effect)
    upstream.watching()
    assert endpoint.reachable
    assert (upstream.channel.told, upstream.watching) == ([], None)


@pytest.mark.parametrize("why", ["the only one", "lost already", "watched already"])
def test_nothing_is_watched_where_it_would_not_help(core, effect, endpoint, why):
    upstream = Upstream()
    if why == "the only one":
        del effect.cluster.endpoints[1]
    elif why == "lost already":
        endpoint.reachable = False
    else:
        upstream.watching = lambda: None
    lost_connection(core, upstream, effect)
    assert (effect.cluster.state.told, upstream.channel.told) == ([], [])


def test_what_cannot_be_watched_is_tried_again(core, effect, endpoint, caplog):
    upstream = Upstream(error=ValueError("closed channel"))
    lost_connection(core, upstream, effect)
    assert effect.cluster.state.told == [False, True]
    assert upstream.watching is None
    assert "10.0.0.1:80 cannot be watched" in caplog.text


async def test_on_a_loop_it_is_back_when_its_channel_is_ready(core, effect, endpoint):
    upstream = Upstream(asyncio.get_running_loop())
    lost_connection(core, upstream, effect)
    await asyncio.sleep(0)
    assert not endpoint.reachable
    upstream.channel.state = State.READY
    upstream.channel.changed.set()
    while upstream.watching is not None:
        await asyncio.sleep(0)
    assert endpoint.reachable
    [(seconds, check)] = core.real_alarms.due
    assert seconds == STALLED
    check()  # the watch is over: the loop is looked at no more
    assert len(core.real_alarms.due) == 1


async def test_a_loop_that_runs_is_looked_at_again_and_its_end_is_the_end_of_the_watch(core, effect, endpoint):
    upstream = Upstream(asyncio.get_running_loop())
    lost_connection(core, upstream, effect)
    core.real_alarms.due[0][1]()
    assert len(core.real_alarms.due) == 2
    assert not endpoint.reachable
    await asyncio.sleep(0)
    upstream.watching()
    assert endpoint.reachable


def test_a_loop_that_nobody_runs_keeps_no_endpoint_away(core, effect, endpoint):
    loop = asyncio.new_event_loop()
    upstream = Upstream(loop)

    async def lose():
        lost_connection(core, upstream, effect)
        await asyncio.sleep(0)

    loop.run_until_complete(lose())
    assert not endpoint.reachable
    core.real_alarms.due[0][1]()
    assert endpoint.reachable
    loop.run_until_complete(asyncio.sleep(0))  # its task ends as cancelled
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
