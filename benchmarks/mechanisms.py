"""What the mechanisms of policy cost, one by one: in steps of bytecode, which are the same on an idle and on a busy machine,
and in CPU time. ``benchmarks.regressions`` runs this file against two trees.

Run as a file, it measures the meshlib that PYTHONPATH leads to, and prints JSON: ``python -P benchmarks/mechanisms.py [--steps]
[--time]``. So it imports nothing of benchmarks, and what it uses of meshlib it uses as callers do: by resources and ``Mesh``
where that can be. What a tree has not (a module or a function that is younger, or gone) is told with the error.
"""

from __future__ import annotations

import gc
import itertools
import json
import random
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

Step = Callable[[], object]
CALLS = 200
"""Calls that steps are the mean of: some do more at every so-manieth."""
LOOKED_AT = 0.06
"""Seconds of CPU time that one timing of a mechanism takes."""

Resource = dict[str, Any]


def _reviews(rules: list[Resource] | None = None) -> list[Resource]:
    """A service with everything armed, as of four endpoints in two subsets."""
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"reviews-{n}", "labels": {"app": "reviews", "version": f"v{n % 2 + 1}"}},
            "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 9080}]}]},
            "status": {"podIP": f"127.0.0.{n + 1}"},
        }
        for n in range(4)
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "reviews"},
        "spec": {"selector": {"app": "reviews"}, "ports": [{"name": "http", "port": 9080, "targetPort": "http"}]},
    }
    destination = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "reviews"},
        "spec": {
            "host": "reviews",
            "trafficPolicy": {"outlierDetection": {"consecutive5xxErrors": 5}},
            "subsets": [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")],
        },
    }
    routes = rules or [
        {
            "match": [{"headers": {"end-user": {"exact": "jason"}}}],
            "route": [{"destination": {"host": "reviews", "subset": "v2"}}],
        },
        {
            "route": [
                {"destination": {"host": "reviews", "subset": "v1"}, "weight": 90},
                {"destination": {"host": "reviews", "subset": "v2"}, "weight": 10},
            ],
            "timeout": "5s",
            "retries": {"attempts": 2, "retryOn": "5xx"},
        },
    ]
    virtual = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "reviews"},
        "spec": {"hosts": ["reviews"], "http": routes},
    }
    return [service, *pods, destination, virtual]


def _live(resources: list[Resource]) -> Any:
    import meshlib

    mesh = meshlib.Mesh.from_resources(resources, seed=1)
    assert mesh._core.live is not None
    return mesh


def _view(path: str, **headers: str) -> Any:
    from meshlib.engine.plain_request import PlainRequest

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return PlainRequest("GET", "http", "reviews:9080", path, {"accept": "*/*", "user-agent": "bench", **named})


# -- mechanisms -------------------------------------------------------------------------------------------------------


def _balancer(name: str) -> Callable[[], Step]:
    def made() -> Step:
        from meshlib.policy.balancer import new_balancer
        from meshlib.policy.endpoint import EndpointState

        balancer, rng = new_balancer(name), random.Random(1)
        usable = [EndpointState(f"e{n}") for n in range(16)]
        return lambda: balancer.pick(usable, rng, True)

    return made


def _hash() -> Step:
    from meshlib.policy.consistent_hash import HashPolicy
    from meshlib.policy.endpoint import EndpointState

    policy = HashPolicy(header="x-user", size=1024)
    table = policy.table([(EndpointState(f"10.0.0.{n}:80"), 1.0) for n in range(100)])
    view = _view("/", x_user="jason")
    return lambda: table.find(policy.request_hash(view, ""))


def _route(kind: str, count: int) -> Callable[[], Step]:
    def made() -> Step:
        from meshlib.engine.route import route

        if kind == "header":
            matches: list[Resource] = [{"headers": {"tenant": {"exact": f"t{n}"}}} for n in range(count)]
        else:
            ending = "/[a-z]+" if kind == "regex" else "/x"
            matches = [{"uri": {kind: f"/service-{n}{ending}"}} for n in range(count)]
        rules = [{"match": [match], "route": [{"destination": {"host": "reviews"}}]} for match in matches]
        snapshot = _live(_reviews(rules))._core.live.snapshot
        last = count - 1
        view = _view(f"/service-{last}/x", tenant=f"t{last}")
        assert route(snapshot, view).rule == last
        return lambda: route(snapshot, view)

    return made


def _retry() -> Step:
    from meshlib.policy.retry import RetryPolicy, parse_retry_on, should_retry

    policy = RetryPolicy(2, parse_retry_on("5xx,reset,connect-failure"))
    return lambda: should_retry(policy, failure=None, status=503, headers=[])


def _outlier() -> Step:
    from meshlib.policy.endpoint import EndpointState
    from meshlib.policy.outlier import OutlierDetector, OutlierSettings

    members = [EndpointState(f"e{n}") for n in range(4)]
    detector, good, bad = OutlierDetector(OutlierSettings(), members, 0.0), members[0], members[1]

    def once() -> None:
        detector.record_status(bad, 503, 1.0)
        detector.record_status(bad, 200, 1.0)
        detector.record_status(good, 200, 1.0)

    return once


def _authorization(seen: bool) -> Callable[[], Step]:
    """Of a path that was asked for before, or of one that never was."""

    def made() -> Step:
        return _decision(seen)

    return made


def _decision(seen: bool) -> Step:
    from meshlib.engine.inbound_request import InboundRequest

    def policy(name: str, action: str, numbers: range) -> Resource:
        rules = [
            {
                "from": [{"source": {"principals": [f"cluster.local/ns/default/sa/svc{n}"]}}],
                "to": [{"operation": {"methods": ["GET"], "paths": [f"/api/v1/res{n}/*"], "ports": ["8080"]}}],
            }
            for n in numbers
        ]
        return {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"action": action, "rules": rules},
        }

    mesh = _live([policy("no", "DENY", range(50, 100)), policy("yes", "ALLOW", range(50))])
    decide = mesh._core.live.snapshot.inbound.default.authorization.decide

    def asked(number: int) -> Any:
        return InboundRequest(
            "GET", f"/api/v1/res7/{number:08}", [], authority="app.test", peer="10.0.0.1:80",
            principal="spiffe://cluster.local/ns/default/sa/svc7", secure=True, port=8080,
        )  # fmt: skip

    if seen:
        request = asked(0)
        assert request.source_ip
        return lambda: decide(request)
    numbers = itertools.count()
    return lambda: decide(asked(next(numbers)))


def _bucket() -> Step:
    from meshlib.policy.token_bucket import Limiter, Rate

    limiter = Limiter(Rate(10**9, 1.0, 10**9))
    for number in range(1_000):
        limiter.take(f"user-{number}", 0.0)
    return lambda: limiter.take("user-500", 1.0)


def _budget() -> Step:
    from meshlib.policy.windowed_budget import WindowedBudget, WindowedBudgetSettings

    budget = WindowedBudget(WindowedBudgetSettings())

    def once() -> None:
        budget.call(100.0)
        budget.allows(100.0)

    return once


def _header_ops() -> Step:
    from meshlib.policy.header_ops import compile_ops

    ops = compile_ops(["x-internal"], {"x-version": "v2", "x-user": "%REQ(end-user)%"}, {"x-hop": "mesh"})
    headers = [(b"accept", b"*/*"), (b"x-internal", b"1"), (b"user-agent", b"bench"), (b"end-user", b"jason")]
    found = {"end-user": "jason"}.get
    return lambda: ops.apply(headers, found)


def _exchange(status: int) -> Callable[[], Step]:
    def made() -> Step:
        from meshlib.engine.call import Call
        from meshlib.engine.drivers import run_brief
        from meshlib.engine.exchange import exchange_of
        from meshlib.engine.outcome import Outcome
        from meshlib.engine.route import route

        mesh = _live(_reviews())
        core, view = mesh._core, _view("/reviews/0")
        live = core.live
        good, bad, turn = Outcome(status=200, whole=b""), Outcome(status=status, whole=b""), [0]

        class Answering:
            """The first attempt of each call gets ``status``, the others 200."""

            def send(self, effect: Any) -> Outcome:
                turn[0] += 1
                return bad if turn[0] == 1 else good

            def sleep(self, seconds: float) -> None:
                pass

        runtime: Any = Answering()

        def once() -> None:
            turn[0] = 0
            made = Call(view, live, core.clock, core.rng)
            made.record = route(live.snapshot, view)
            run_brief(exchange_of(made, brief=True), runtime)

        return once

    return made


MECHANISMS: dict[str, Callable[[], Step]] = {
    "pick ROUND_ROBIN": _balancer("ROUND_ROBIN"),
    "pick LEAST_REQUEST": _balancer("LEAST_REQUEST"),
    "pick RANDOM": _balancer("RANDOM"),
    "pick by consistent hash": _hash,
    "route, 100 exact paths": _route("exact", 100),
    "route, 100 prefixes": _route("prefix", 100),
    "route, 100 regular expressions": _route("regex", 100),
    "route, 100 headers": _route("header", 100),
    "retry decision": _retry,
    "outlier counts of three responses": _outlier,
    "authorization, 100 rules": _authorization(seen=True),
    "authorization, 100 rules, a new path": _authorization(seen=False),
    "rate limit bucket": _bucket,
    "retry budget": _budget,
    "header operations": _header_ops,
    "exchange of a call": _exchange(200),
    "exchange of a call with a retry": _exchange(503),
}


WITHOUT_A_MESH = [
    name
    for name in MECHANISMS
    if name.startswith(("pick", "retry", "outlier", "rate", "header")) and "consistent" not in name
]
"""What callgrind counts: below it, to compile a mesh takes minutes."""


# -- measuring --------------------------------------------------------------------------------------------------------


def steps_of(call: Step, calls: int = CALLS) -> float:
    """Steps of bytecode of one call in this thread, the mean of so many. C code (RE2, hashes, sorting) has none."""
    steps = 0

    def each(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            steps += 1
        return each

    for _ in range(50):
        call()  # what is done once is done, and the interpreter has specialised
    before = sys.gettrace()
    enabled = gc.isenabled()
    gc.disable()  # finalizers of others are not of this call
    sys.settrace(each)
    try:
        for _ in range(calls):
            call()
    finally:
        sys.settrace(before)
        if enabled:
            gc.enable()
    return steps / calls


def time_of(call: Step, seconds: float = LOOKED_AT) -> float:
    """CPU time of one call, in us: the best of five loops."""
    clock = time.process_time
    calls = 50
    while True:
        began = clock()
        for _ in range(calls):
            call()
        took = clock() - began
        if took >= seconds / 10:
            break
        calls *= 2
    calls = max(1, round(calls * seconds / 5 / took))
    best = float("inf")
    for _ in range(5):
        began = clock()
        for _ in range(calls):
            call()
        best = min(best, (clock() - began) / calls)
    return best * 1e6


def measure(steps: bool, timed: bool) -> dict[str, dict[str, Any]]:
    """By mechanism: ``steps``, ``us``, or the ``error`` for which this tree's cannot be measured."""
    found: dict[str, dict[str, Any]] = {}
    for name, made in MECHANISMS.items():
        try:
            call = made()
            found[name] = {"steps": steps_of(call)} if steps else {}
            if timed:
                found[name]["us"] = time_of(call)
        except Exception as error:  # noqa: BLE001  # whatever another tree has otherwise
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--loop"]:  # for callgrind: so many calls, and nothing else
        looped = MECHANISMS[sys.argv[2]]()
        for _ in range(int(sys.argv[3])):
            looped()
        sys.exit()
    print(json.dumps(measure("--steps" in sys.argv, "--time" in sys.argv)))
