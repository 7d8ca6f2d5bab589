"""A call that goes on by itself ends once: with a response, an error of the mesh's, a bug, or because its caller has gone."""

from __future__ import annotations

from types import SimpleNamespace

import grpc
import pytest

from meshlib.engine.effects import Acquire
from meshlib.engine.outcome import Failure, Outcome
from meshlib.policy.circuit_limits import Slots
from meshlib.transport.grpcio.client.callback_run import CallbackRun
from meshlib.transport.grpcio.client.errors import RpcFailed
from meshlib.transport.grpcio.client.outcome import GrpcOutcome
from tests.support.grpc_begun import begun
from tests.support.grpc_runtimes import mesh_of

INNER = SimpleNamespace(details=lambda: "", initial_metadata=tuple)


class Runtime:
    """Its attempts end when the test says so."""

    def __init__(self, error=None):
        self.error, self.done, self.cancelled = error, [], 0

    def send(self, _effect, done):
        if self.error is not None:
            raise self.error
        self.done.append(done)
        return self.cancel

    def cancel(self):
        self.cancelled += 1


@pytest.fixture
def mesh():
    with mesh_of(1) as made:
        yield made


@pytest.fixture
def run(mesh):
    return CallbackRun(*begun(mesh))


def active(mesh):
    return sum(cluster["active"] for cluster in mesh.status()["clusters"])


def test_a_response_is_the_end_and_who_asks_later_is_told_at_once(mesh, run):
    told, runtime = [], Runtime()
    run.start(runtime)
    assert run.on_end(lambda: told.append("early"))
    assert (run.over, run.wait(0), active(mesh)) == (False, False, 1)
    runtime.done[0](GrpcOutcome(b"x", INNER))
    assert (run.over, run.delivered, run.wait(None), active(mesh)) == (True, True, True, 0)
    assert run.shown() is INNER
    assert (run.call.record.status, run.call.record.grpc_status) == (200, 0)
    assert run.on_end(lambda: told.append("late")) is False
    assert told == ["early", "late"]
    assert run.cancel() is False


def test_what_the_mesh_ends_is_an_error(mesh, run):
    runtime = Runtime()
    run.start(runtime)
    runtime.done[0](Outcome(Failure.INVALID_REQUEST, "Invalid metadata"))
    assert isinstance(run.error, RpcFailed)
    assert (run.error.code(), run.inner, active(mesh)) == (grpc.StatusCode.INTERNAL, None, 0)


def test_a_bug_is_told_as_what_it_is(mesh, run):
    bug = LookupError("odd")
    run.start(Runtime(bug))
    assert (run.error, run.over, active(mesh)) == (bug, True, 0)


def test_who_goes_cancels_what_is_under_way_and_hears_of_nothing_more(mesh, run):
    told, runtime = [], Runtime()
    run.start(runtime)
    run.on_end(lambda: told.append("over"))
    late = run.unless_over(told.append)
    assert run.cancel("gone") is True
    assert run.cancel() is False
    late("a response")
    assert (told, runtime.cancelled, active(mesh)) == (["over"], 1, 0)
    assert (run.error.code(), run.error.details()) == (grpc.StatusCode.CANCELLED, "gone")
    assert (run.call.record.grpc_status, run.call.record.flags) == (1, "DC")


def test_a_slot_that_comes_too_late_goes_back(run):
    slots, told = Slots(1), []
    effect = Acquire(slots, None)
    tell = run.slot_unless_over(effect, told.append)
    assert slots.try_acquire(effect.place)
    tell(True)
    assert (told, slots.in_use) == ([True], 1)
    run.start(Runtime())
    run.cancel()
    tell(True)
    assert (told, slots.in_use) == ([True], 0)


def test_a_callback_that_raises_is_logged_and_the_others_are_called(run, caplog):
    told, runtime = [], Runtime()
    run.start(runtime)
    run.on_end(lambda: 1 / 0)
    run.on_end(lambda: told.append("over"))
    runtime.done[0](GrpcOutcome(b"x", INNER))
    assert told == ["over"]
    assert "a callback of a finished call raised" in caplog.text
