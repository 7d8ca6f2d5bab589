"""One size of one axis, measured in a process of its own: ``python -m meshlib.bench.scale_probe NAME SIZE ROUNDS`` prints JSON.

What is measured is what a mesh in process does: read resources, compile them, decide a call (rule, cluster, endpoint, and the
bookkeeping of its response), and apply a change while calls go on in another thread.
"""

from __future__ import annotations

import copy
import gc
import json
import random
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from meshlib.bench import resources as made_resources
from meshlib.bench.resources import Resource

SERVICES, ENDPOINTS, HASHED = "services", "endpoints, LEAST_REQUEST", "endpoints, consistent hash"
KINDS = {
    "exact paths": "exact",
    "prefixes": "prefix",
    "regular expressions": "regex",
    "regular expressions within a segment": "within",
    "headers": "header",
    "headers below one prefix": "below",
}
LOOKED_AT = 50
"""Different calls of a round; with few rules or services some are alike."""
SETTLED = 0.02
"""Seconds of calls before a change, and after it."""


@dataclass(frozen=True)
class Asked:
    """A call: where, and with which headers."""

    authority: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """Resources, calls that each find something else in them, and which of the resources changes, how."""

    objects: list[Resource]
    asked: list[Asked]
    changes: int
    change: Callable[[Resource, int], None]


def scene(name: str, size: int) -> Scene:
    """What grows along ``name``, so large. KeyError: no such name."""
    rng = random.Random(size)
    picked = [rng.randrange(size) for _ in range(LOOKED_AT)]
    if name == SERVICES:
        objects = services(size)
        asked = [Asked(f"service-{n}:8080", "/api/0/x") for n in picked]
        return Scene(objects, asked, 1, _other_address)
    if name in (ENDPOINTS, HASHED):
        objects = endpoints(size, hashed=name == HASHED)
        return Scene(objects, [Asked("service-0:8080", "/", {"x-user": f"u{n}"}) for n in picked], 1, _other_address)
    objects = made_resources.reviews(9080)
    objects[-1]["spec"]["http"] = made_resources.rules(size, KINDS[name])
    asked = [Asked("reviews:9080", f"/service-{n}/x", {"tenant": f"t{n}"}) for n in picked]
    return Scene(objects, asked, len(objects) - 1, _other_timeout)


def services(count: int) -> list[Resource]:
    """So many services of a rule and two endpoints, with outlier detection."""
    made: list[Resource] = []
    for n in range(count):
        made += _service(n, [f"10.{n // 250 % 250}.{n % 250}.{n // 62_500 * 2 + i + 1}" for i in range(2)], {})
    return made


def endpoints(count: int, hashed: bool) -> list[Resource]:
    """A service of so many endpoints, in slices of 100 as Kubernetes makes them."""
    addresses = [f"10.{n // 62_500}.{n // 250 % 250}.{n % 250 + 1}" for n in range(count)]
    policy = {"loadBalancer": {"consistentHash": {"httpHeaderName": "x-user"}}} if hashed else {}
    made = _service(0, addresses[:100], policy)
    for n in range(100, count, 100):
        another = _slice("service-0", addresses[n : n + 100])
        another["metadata"]["name"] = f"service-0-{n}"
        made.append(another)
    return made


def _service(number: int, addresses: Sequence[str], policy: Resource) -> list[Resource]:
    name = f"service-{number}"
    route = {"match": [{"uri": {"prefix": "/api/0"}}], "route": [{"destination": {"host": name}}], "timeout": "3s"}
    rest = {"route": [{"destination": {"host": name}}]}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"ports": [{"name": "http", "port": 8080}]},
        },
        _slice(name, addresses),
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {"name": name},
            "spec": {"host": name, "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 5}, **policy}},
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": name},
            "spec": {"hosts": [name], "http": [route, rest]},
        },
    ]


def _slice(service: str, addresses: Sequence[str]) -> Resource:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-x", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [address]} for address in addresses],
    }


def _other_address(resource: Resource, turn: int) -> None:
    resource["endpoints"][0]["addresses"] = [f"10.255.0.{turn % 250 + 1}"]


def _other_timeout(resource: Resource, turn: int) -> None:
    resource["spec"]["http"][0]["timeout"] = f"{turn + 10}s"


# -- measuring --------------------------------------------------------------------------------------------------------


def measure(name: str, size: int, rounds: int) -> dict[str, list[float]]:
    """``load`` and ``compile`` (ms of CPU time), ``memory`` (MB, once), ``look-up`` (us of CPU time),
    ``stall`` (ms of CPU time)."""
    import meshlib
    from meshlib.compiler.compile import compile_snapshot
    from meshlib.resources.loader import load_objects
    from meshlib.workload import Workload

    warm = scene(name, 2)
    compile_snapshot(load_objects(warm.objects).resources, Workload())
    grown = scene(name, size)
    found: dict[str, list[float]] = {"load": [], "compile": []}
    for _ in range(rounds):
        gc.collect()
        began = time.process_time()
        loaded = load_objects(grown.objects)
        found["load"].append((time.process_time() - began) * 1e3)
        if loaded.errors:
            raise RuntimeError(f"{name}, {size}: {loaded.errors[0]}")
        gc.collect()
        began = time.process_time()
        compile_snapshot(loaded.resources, Workload())
        found["compile"].append((time.process_time() - began) * 1e3)
    gc.collect()
    tracemalloc.start()
    snapshot = compile_snapshot(loaded.resources, Workload())
    gc.collect()
    found["memory"] = [tracemalloc.get_traced_memory()[0] / 1e6]
    tracemalloc.stop()
    del snapshot
    with meshlib.Mesh(loaded.resources, seed=1) as mesh:
        decide = decisions(mesh, grown.asked)
        decide()
        found["look-up"] = list(_look_ups(decide, rounds, len(grown.asked)))
        found["stall"] = list(_stalls(mesh, loaded.resources, grown, decide, rounds))
    return found


def decisions(mesh: Any, asked: Sequence[Asked]) -> Callable[[], None]:
    """One call of each: the whole exchange, over a driver that responds at once."""
    from meshlib.engine.call import Call
    from meshlib.engine.drivers import run_brief
    from meshlib.engine.exchange import exchange_of
    from meshlib.engine.outcome import Outcome
    from meshlib.engine.plain_request import PlainRequest
    from meshlib.engine.route import route

    core = mesh._core
    views = [PlainRequest("GET", "http", each.authority, each.path, dict(each.headers)) for each in asked]
    response = Outcome(status=200, whole=b"")

    class Responding:
        def send(self, effect: Any) -> Outcome:
            return response

    runtime: Any = Responding()

    def once() -> None:
        live = core.live
        for view in views:
            made = Call(view, live, core.clock, core.rng)
            made.record = route(live.snapshot, view)
            if made.record.rule_object is None:
                raise RuntimeError(f"no rule is for {view.authority} {view.path}")
            run_brief(exchange_of(made, brief=True), runtime)

    return once


def _look_ups(decide: Callable[[], None], rounds: int, each: int, least: float = 0.03) -> Iterator[float]:
    for _ in range(rounds):
        turns, began = 0, time.process_time()
        while (took := time.process_time() - began) < least or turns == 0:
            decide()
            turns += 1
        yield took / turns / each * 1e6


def _stalls(mesh: Any, loaded: Any, grown: Scene, decide: Callable[[], None], rounds: int) -> Iterator[float]:
    """The longest that calls of another thread stood still while a change was applied, in ms of CPU time; once a change."""
    from meshlib.resources.loader import load_objects

    now = list(loaded)
    for turn in range(rounds + 1):
        changed = copy.deepcopy(grown.objects[grown.changes])
        grown.change(changed, turn)
        now = list(now)
        now[grown.changes] = load_objects([changed]).resources[0]
        longest = _longest_gap(decide, lambda: mesh.apply(now))  # noqa: B023  # called within the turn
        if turn:  # the first makes what later ones build on
            yield longest * 1e3


def _longest_gap(decide: Callable[[], None], apply: Callable[[], object]) -> float:
    """In CPU time of the process: what the change did while a call waited. Others on a busy machine are not in it."""
    over, begun = threading.Event(), threading.Event()
    gaps: list[float] = []
    failed: list[BaseException] = []

    def calls() -> None:
        last = time.process_time()
        try:
            while not over.is_set():
                decide()
                now = time.process_time()
                gaps.append(now - last)
                last = now
                begun.set()
        except BaseException as error:  # noqa: BLE001  # is raised below, in the thread that asks
            failed.append(error)
            begun.set()

    thread = threading.Thread(target=calls)
    thread.start()
    try:
        begun.wait()
        time.sleep(SETTLED)
        apply()
        time.sleep(SETTLED)
    finally:
        over.set()
        thread.join()
    if failed:
        raise RuntimeError("a call failed while a change was applied") from failed[0]
    return max(gaps)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))) + "\n")
