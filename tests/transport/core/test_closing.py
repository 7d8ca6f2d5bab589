"""Who waits inside a mesh is woken when it closes."""

from __future__ import annotations

import threading

import pytest

from meshlib.transport.core.closing import Closing


def test_whoever_waits_is_woken_and_whoever_has_left_is_not():
    closing, woken = Closing(), []
    with closing.waking(lambda: woken.append("left")):
        pass
    with closing.waking(lambda: woken.append("waits")):
        assert (closing.closed, woken) == (False, [])
        closing.close()
    assert (closing.closed, woken) == (True, ["waits"])


def test_who_comes_when_it_is_closed_is_woken_at_once():
    closing, woken = Closing(), []
    closing.close()
    with closing.waking(lambda: woken.append(1)):
        assert woken == [1]


def test_who_raises_inside_is_forgotten_too():
    closing, woken = Closing(), []
    with pytest.raises(KeyError), closing.waking(lambda: woken.append(1)):
        raise KeyError
    closing.close()
    assert woken == []


def test_a_thread_that_sleeps_wakes():
    closing = Closing()
    thread = threading.Thread(target=closing.sleep, args=(float("inf"),))
    thread.start()
    closing.close()
    thread.join(30)
    assert not thread.is_alive()
    closing.sleep(1000.0)  # nobody sleeps any more
