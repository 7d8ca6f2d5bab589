"""Alarms: they ring in time by the mesh's clock, whatever the others rang does, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import weakref

import pytest

import meshlib
from meshlib import alarms as module
from meshlib.alarms import Alarms
from tests.support.fake_clock import FakeClock, FourMethods
from tests.support.grpc_echo import eventually


@pytest.fixture
def alarms():
    made = Alarms()
    yield made
    made.close()


def test_they_ring_in_order_and_cancelled_ones_do_not():
    clock = FakeClock()
    alarms = Alarms(clock)
    rung, done = [], threading.Event()
    alarms.after(3.0, done.set)
    alarms.after(2.0, lambda: rung.append("late"))
    alarms.after(1.0, lambda: rung.append("early"))
    alarms.after(1.5, lambda: rung.append("cancelled")).cancel()
    clock.advance(3.0)
    assert done.wait(30)
    assert rung == ["early", "late"]
    alarms.close()


@pytest.mark.parametrize("raised", [ZeroDivisionError("no"), SystemExit(3), KeyboardInterrupt()])
def test_they_survive_whatever_they_ring_and_say_so_once(alarms, caplog, raised):
    caplog.set_level(logging.ERROR, "meshlib.alarms")
    done = threading.Event()

    def ring():
        raise raised

    for _ in range(3):
        alarms.after(0.001, ring)
    alarms.after(0.01, done.set)
    assert done.wait(30)
    assert (alarms.failures, len(caplog.records)) == (3, 1)
    assert type(raised).__name__ in caplog.text


def test_a_thread_that_died_is_started_again_and_rings_what_it_left(monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    clock, broken = FakeClock(), [True]

    class Breaking(FakeClock):
        monotonic = clock.monotonic

        def wait(self, condition, until):
            if broken.pop():
                raise OSError("no clock today")
            clock.wait(condition, until)

    alarms, rung = Alarms(Breaking()), []
    broken.append(True)
    alarms.after(2.0, lambda: rung.append("left"))
    assert eventually(lambda: len(broken) == 1 and not alarms._thread.is_alive())
    broken[:] = [False] * 100
    alarms.after(1.0, lambda: rung.append("new"))
    clock.advance(3.0)
    assert eventually(lambda: rung == ["new", "left"])
    alarms.close()


@pytest.mark.parametrize("kind", [FakeClock, FourMethods])
def test_they_ring_when_the_meshs_clock_says_so_and_not_before(kind):
    clock, rung, far = kind(), threading.Event(), threading.Event()
    alarms = Alarms(clock)
    alarms.after(3600.0, far.set)
    alarms.after(60.0, rung.set)
    clock.advance(59.0)
    assert not rung.wait(0.03)
    clock.advance(1.0)
    assert rung.wait(30)
    assert not far.is_set()
    alarms.close()


@pytest.mark.parametrize("kind", [FakeClock, FourMethods])
def test_they_ring_on_a_loop_by_the_meshs_clock(kind):
    async def main():
        clock, rung = kind(), asyncio.Event()
        alarms, loop = Alarms(clock), asyncio.get_running_loop()
        wrong = []
        alarms.on_loop(loop, 60.0, lambda: wrong.append(1)).cancel()
        alarms.on_loop(loop, 60.0, rung.set)
        clock.advance(60.0)
        await asyncio.wait_for(rung.wait(), 30)
        pause = loop.create_task(alarms.pause(30.0))
        await asyncio.sleep(0.01)
        assert not pause.done()
        clock.advance(30.0)
        await asyncio.wait_for(pause, 30)
        alarms.close()
        assert not wrong

    asyncio.run(main())


def test_a_loop_that_is_closed_meanwhile_is_nobodys_failure():
    clock = FakeClock()
    alarms, loop = Alarms(clock), asyncio.new_event_loop()
    alarms.on_loop(loop, 1.0, lambda: None)
    loop.close()
    done = threading.Event()
    alarms.after(2.0, done.set)
    clock.advance(2.0)
    assert done.wait(30)
    assert alarms.failures == 0


@pytest.mark.parametrize("seconds", [float("inf"), 1e18, float("nan"), -1.0])
def test_odd_durations_hold_up_nobody(alarms, seconds):
    done = threading.Event()
    alarms.after(seconds, lambda: None)
    alarms.after(0.001, done.set)
    assert done.wait(30)


def test_a_cancelled_alarm_keeps_nothing_of_what_it_would_have_rung(alarms):
    class Call:
        def late(self):
            raise AssertionError

    call = Call()
    kept = weakref.ref(call)
    alarm = alarms.after(3600.0, call.late)
    alarm.cancel()
    del call
    gc.collect()
    assert kept() is None


def test_cancelled_alarms_do_not_pile_up(alarms):
    for _ in range(20 * module.SWEEP):
        alarms.after(3600.0, lambda: None).cancel()
    assert len(alarms._due) <= module.SWEEP + 1


def test_close_rings_what_is_due_early_and_in_order_and_ends_the_thread():
    alarms, rung = Alarms(), []
    alarms.after(7200.0, lambda: rung.append(2))
    alarms.after(3600.0, lambda: rung.append(1))
    thread = alarms._thread
    alarms.close()
    thread.join(30)
    assert not thread.is_alive()
    assert rung == [1, 2]


def test_alarms_that_are_set_after_close_ring_at_their_time():
    clock = FakeClock()
    alarms, rung = Alarms(clock), threading.Event()
    alarms.close()
    alarms.after(5.0, rung.set)
    assert not rung.wait(0.03)
    clock.advance(5.0)
    assert rung.wait(30)
    assert eventually(lambda: alarms._thread is None)


def test_the_thread_goes_when_nothing_has_been_due_for_a_while(alarms, monkeypatch):
    monkeypatch.setattr(module, "LINGER", 0.01)
    for _ in range(2):
        done = threading.Event()
        alarms.after(0.001, done.set)
        assert done.wait(30)
        assert eventually(lambda: alarms._thread is None)


def test_a_forked_child_rings_its_own_alarms_and_not_its_parents():
    alarms = Alarms()
    read, write = os.pipe()
    alarms.after(0.05, lambda: os.write(write, b"p") if os.getpid() != parent else None)
    parent = os.getpid()
    # held by another thread at the moment of the fork
    held, go = threading.Event(), threading.Event()

    def hold():
        with alarms._changed:
            held.set()
            go.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        done = threading.Event()
        alarms.after(0.1, done.set)
        os.write(write, b"c" if done.wait(30) else b"-")
        os._exit(0)
    go.set()
    os.waitpid(child, 0)
    os.close(write)
    assert os.read(read, 10) == b"c"
    os.close(read)
    holder.join(60)
    alarms.close()


@pytest.mark.parametrize("clock", [None, FakeClock()], ids=["system", "fake"])
@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_a_mesh_that_is_closed_or_dropped_leaves_no_thread(how, clock):
    mesh = meshlib.Mesh.from_resources([], clock=clock)
    mesh._core.alarms.after(3600.0, lambda: None)
    thread = mesh._core.alarms._thread
    if how == "closed":
        mesh.close()
    else:
        del mesh
        gc.collect()
    thread.join(30)
    assert not thread.is_alive()
