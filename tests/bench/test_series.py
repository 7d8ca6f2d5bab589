"""Rows put together: looks, what grows along a size, and where meshlib is worse."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshlib.bench.result import CLOSED, CPU, RATE, Measure, Row
from meshlib.bench.series import against, growths, looks, losses, scenes

ROW = Row(
    "library",
    "bare httpx",
    None,
    "asyncio",
    32,
    1024,
    False,
    1,
    CLOSED,
    {CPU: Measure("s", (1.0, 1.01, 0.99, 1.0, 1.0))},
)
MESH = replace(ROW, name="httpx through meshlib", baseline="bare httpx")


def cpu(row: Row, *values: float, **fields: object) -> Row:
    return replace(row, measures={CPU: Measure("s", values)}, **fields)  # type: ignore[arg-type]


def test_looks_tell_apart_whatever_is_shown_together() -> None:
    names = ["bare httpx", "httpx through meshlib", "httpx through 1 Envoy", "httpx through 2 Envoys", "bare aiohttp"]
    names += ["bare httpx2", "by hand", "httpx through 1 meshlib proxy", "httpx through 2 meshlib proxies"]
    names += ["httpx through meshlib, traced", "httpx through 1 Envoy, traced"]
    found = looks([replace(ROW, name=name, baseline="bare httpx" if n else None) for n, name in enumerate(names)])
    assert len(set(found.values())) == len(names)
    assert found["httpx through meshlib"].tone == "t0"


def test_rows_of_one_set_of_conditions_are_a_scene() -> None:
    found = scenes([ROW, MESH, replace(ROW, in_flight=1)])
    assert [len(rows) for rows in found.values()] == [2, 1]


def test_what_differs_in_a_size_alone_grows_along_it() -> None:
    rows = [replace(ROW, in_flight=n) for n in (1, 8, 32)] + [replace(ROW, in_flight=1, tls=True), replace(ROW, body=0)]
    (growth,) = growths(rows, "in_flight")
    assert [size for size, _ in growth.rows["bare httpx"]] == [1, 8, 32]
    assert growth.fixed == "asyncio, 1 kB, plain, 1 rule"
    (by_body,) = growths(rows, "body")
    assert by_body.fixed == "asyncio, 32 in flight, plain, 1 rule"
    assert growths(rows, "rules") == []


def test_each_world_grows_by_itself() -> None:
    rows = [replace(ROW, in_flight=n, world=world) for n in (1, 8) for world in ("asyncio", "sync")]
    assert [growth.fixed.split(",")[0] for growth in growths(rows, "in_flight")] == ["asyncio", "sync"]


def test_a_loss_is_named_at_its_worst_with_how_often_it_is() -> None:
    rows = [ROW, cpu(MESH, 1.2, 1.21, 1.19, 1.2, 1.2)]
    rows += [replace(ROW, in_flight=1), cpu(MESH, 2, 2.01, 1.99, 2, 2, in_flight=1)]
    rows += [replace(ROW, in_flight=8), cpu(MESH, 0.5, 0.51, 0.49, 0.5, 0.5, in_flight=8)]
    (loss,) = losses(rows)
    assert (loss.ours, loss.other, loss.measure) == ("httpx through meshlib", "bare httpx", CPU)
    assert loss.found.median == pytest.approx(2)
    assert "1 in flight" in loss.conditions
    assert (loss.worse, loss.all) == (2, 3)


def test_of_a_rate_less_is_a_loss() -> None:
    def rate(row: Row, value: float) -> Row:
        return replace(row, measures={RATE: Measure("1/s", tuple(value + n for n in range(5)), True)})

    assert [loss.measure for loss in losses([rate(ROW, 200), rate(MESH, 100)])] == [RATE]
    assert losses([rate(ROW, 100), rate(MESH, 200)]) == []


def test_what_noise_does_not_tell_apart_is_no_loss() -> None:
    assert losses([ROW, cpu(MESH, 0.9, 1.2, 0.8, 1.3, 1.0)]) == []
    assert losses([cpu(ROW, 1.0), cpu(MESH, 9.0)]) == []


def test_there_is_no_ratio_of_what_is_missing_or_nothing() -> None:
    assert against(ROW, replace(ROW, measures={}), CPU) is None
    assert against(ROW, cpu(ROW, 0.0), CPU) is None
    found = against(cpu(MESH, 2, 2, 2, 2), ROW, CPU)
    assert found is not None
    assert found.rounds == 4
    assert found.median == pytest.approx(2, rel=0.02)
