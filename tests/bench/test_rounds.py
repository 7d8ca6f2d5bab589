"""Ways take turns in a real scene, with rounds that are short."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshlib.bench import plan, rounds, scene
from meshlib.bench.plan import Pace, Part, Point
from meshlib.bench.result import CPU, MEMORY, P50, RATE
from meshlib.bench.rounds import GENERATOR_CPU, LATE, SERVER_CPU, Runner
from meshlib.bench.scene import Scene, Settings

SHORT = Pace(2, 0.05)
ONE = Part("library", "asyncio", (plan.BARE, plan.MESH), (Point(2),))


class Seen:
    """What a runner says and is past; ``scenes`` that were made."""

    def __init__(self, pace: Pace = SHORT) -> None:
        self.said: list[str] = []
        self.seconds = 0.0
        self.scenes: list[Scene] = []
        self.runner = Runner(pace, self.say, self.past)

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def past(self, seconds: float) -> None:
        self.seconds += seconds

    @property
    def processes(self) -> list[int]:
        return [each.pid for made in self.scenes for each in made.processes]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    made = Seen()
    opened = scene.opened

    @contextlib.contextmanager
    def watched(settings: Settings) -> Iterator[Scene]:
        with opened(settings) as found:
            made.scenes.append(found)
            yield found

    monkeypatch.setattr(rounds.scene, "opened", watched)
    yield made
    assert [pid for pid in made.processes if Path(f"/proc/{pid}").exists()] == []


def test_a_row_has_every_measure_of_every_round_of_its_way(seen: Seen) -> None:
    seen.runner.measure(ONE)
    bare, mesh = seen.runner.rows
    assert (bare.name, bare.baseline, mesh.baseline) == (plan.BARE.name, None, plan.BARE.name)
    for row in (bare, mesh):
        assert {name: len(each.values) for name, each in row.measures.items()} == dict.fromkeys(
            (CPU, SERVER_CPU, RATE, P50, "p90", "p99", "p99.9", MEMORY), 2
        )
        assert row.measures[CPU].median > 0
        assert row.measures[MEMORY].median > 1
        assert sum(count for _, count in row.latencies) > 0
        assert row.processes == (f"client of {row.name}",)
    assert seen.seconds == pytest.approx(seen.runner.seconds(ONE))


def test_in_an_open_loop_it_is_told_how_late_calls_began(seen: Seen) -> None:
    seen.runner.measure(Part("library", "asyncio", (plan.MESH,), (Point(4, 0, rate=100),)))
    (row,) = seen.runner.rows
    assert row.load == "open 100/s"
    assert row.measures[LATE].median >= 0


@pytest.mark.parametrize("world", ["asyncio", "sync"])
def test_in_an_open_loop_what_makes_calls_due_is_measured_by_itself(world: str, seen: Seen) -> None:
    """It is in the client's process, and no part of a call."""
    seen.runner.measure(Part("library", world, (plan.MESH,), (Point(2, 0, rate=400),)))
    (row,) = seen.runner.rows
    assert row.measures[GENERATOR_CPU].median > 0
    assert len(row.measures[GENERATOR_CPU].values) == len(row.measures[CPU].values) == SHORT.rounds


def test_a_hop_costs_cpu_of_its_own(seen: Seen) -> None:
    seen.runner.measure(Part("library", "sync", (plan.BARE, plan.ONE_PROXY), (Point(1),)))
    assert [row.name for row in seen.runner.rows] == [plan.BARE.name, plan.ONE_PROXY.name]
    assert seen.runner.rows[1].processes == (f"client of {plan.ONE_PROXY.name}", "meshlib proxy")


def test_of_proxies_by_themselves_the_load_generator_is_no_part(seen: Seen) -> None:
    alone, proxy = plan.NO_PROXY, plan.BEHIND[2]
    seen.runner.measure(Part("proxy", plan.GENERATOR, (alone, proxy), (Point(2),)))
    nothing, ours = seen.runner.rows
    assert (nothing.processes, ours.processes) == ((), ("meshlib proxy",))
    assert {CPU, MEMORY} & nothing.measures.keys() == set()
    assert all(row.measures[GENERATOR_CPU].median > 0 for row in (nothing, ours))
    assert ours.measures[CPU].median > 0


def test_of_servers_the_row_has_the_server_and_what_stands_before_it(seen: Seen) -> None:
    settings = Settings(protocol=scene.APPLICATION)
    seen.runner.measure(Part("servers", plan.ASGI, (plan.ASGI_WAYS[0], plan.ASGI_WAYS[3]), (Point(2),), settings))
    bare, behind = seen.runner.rows
    assert (bare.processes, behind.processes) == (("fastapi",), ("meshlib proxy", "fastapi"))
    assert behind.measures[MEMORY].median > bare.measures[MEMORY].median


def test_without_envoy_the_rest_is_measured_and_it_is_said_once(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "envoy_binary", lambda: None)
    seen.runner.measure(Part("library", "asyncio", (plan.BARE, plan.ONE_ENVOY, plan.TWO_ENVOYS), (Point(1, 0),)))
    assert [row.name for row in seen.runner.rows] == [plan.BARE.name]
    assert seen.runner.notes.count(scene.NO_ENVOY) == 1
    assert not seen.runner.died


def test_without_grpcio_its_rows_are_left_out_and_nothing_has_failed(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after ``pip install sidecarless``: it was told as a server that had died, with the last line of its traceback."""
    monkeypatch.setattr(scene.importlib.util, "find_spec", lambda name: None)
    seen.runner.measure(Part("grpc", "asyncio", plan.GRPC_SHORT, (Point(1),), Settings(protocol="grpc")))
    assert seen.runner.notes == [
        "grpc (asyncio) is left out: grpcio is not installed (pip install 'sidecarless[grpc]')"
    ]
    assert not seen.runner.died


def test_where_all_ports_are_taken_it_is_said(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_free() -> int:
        raise OSError("200 ports are in use at once")

    monkeypatch.setattr(scene, "free_port", none_free)
    monkeypatch.setattr(scene, "nginx_binary", lambda: "nginx")
    seen.runner.measure(ONE)
    assert seen.runner.notes == ["library (asyncio) is left out: 200 ports are in use at once"]


def test_a_backend_that_dies_is_said_and_what_was_measured_is_kept(seen: Seen) -> None:
    def say(sentence: str) -> None:
        if "8 in flight" in sentence:
            (made,) = seen.scenes
            assert made.backend is not None
            made.backend._process.kill()

    seen.runner._said = say
    part = Part("library", "asyncio", (plan.BARE, plan.MESH), (Point(1), Point(8), Point(32)))
    seen.runner.measure(part)
    assert seen.seconds == pytest.approx(seen.runner.seconds(part))
    assert {row.in_flight for row in seen.runner.rows} == {1}
    assert seen.runner.died
    (note,) = [note for note in seen.runner.notes if "nginx is not installed" not in note]
    assert "library (asyncio) was broken off: " in note
    assert "was ended by SIGKILL" in note


def test_a_way_whose_process_dies_is_left_out_and_the_others_go_on(seen: Seen) -> None:
    def say(sentence: str) -> None:
        if "8 in flight" in sentence:
            (made,) = seen.scenes
            made.processes[-1]._process.kill()

    seen.runner._said = say
    seen.runner.measure(Part("library", "asyncio", (plan.BARE, plan.MESH), (Point(1), Point(8))))
    assert [(row.name, row.in_flight) for row in seen.runner.rows] == [
        (plan.BARE.name, 1), (plan.MESH.name, 1), (plan.BARE.name, 8),
    ]  # fmt: skip
    assert any("httpx through meshlib is left out" in note and "SIGKILL" in note for note in seen.runner.notes)


def test_rounds_of_grpc_come_in_halves(seen: Seen) -> None:
    seen.runner.measure(Part("grpc", "asyncio", (plan.BARE_GRPC,), (Point(2),), Settings(protocol="grpc")))
    (row,) = seen.runner.rows
    assert [len(measure.values) for measure in row.measures.values()] == [2 * SHORT.rounds] * len(row.measures)
    assert seen.seconds == pytest.approx(1.0 + (2 * SHORT.rounds + 1) * (SHORT.seconds / 2 + 0.01))


def test_an_interruption_keeps_the_rounds_there_are(seen: Seen) -> None:
    runner = Runner(Pace(50, 0.02), seen.say, seen.past)
    turns = iter(range(100))

    def past(seconds: float) -> None:
        if next(turns) == 9:
            raise KeyboardInterrupt

    runner._advanced = past
    with pytest.raises(KeyboardInterrupt):
        runner.measure(ONE)
    counts = [len(row.measures[RATE].values) for row in runner.rows]
    assert len(counts) == 2
    assert 1 <= min(counts) <= max(counts) < 10
