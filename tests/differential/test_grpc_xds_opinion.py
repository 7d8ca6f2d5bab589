"""A second opinion besides Envoy's: the same situations through grpcio's own xDS client (``xds:///``, fed by our ADS server)
and through the mesh's channel give the same status and reach the same servers, with as many attempts.

Where gRPC's client and Envoy differ the mesh does what Envoy does; ``BY_DESIGN`` lists these, and each is seen to differ.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

import meshlib
from benchmarks.free_ports import free_port
from tests.support.ads_server import AdsServer, cluster, listener, percent, route
from tests.support.grpc_echo import EchoServer, echo_servers, eventually
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.xds_client import Answers, Plan, answers_through_xds, ask_all

pytestmark = pytest.mark.differential

BY_DESIGN = {
    # what it is: (xds:///, the mesh, why)
    "no route": ("UNAVAILABLE", "UNIMPLEMENTED", "Envoy answers 404, which gRPC reads as UNIMPLEMENTED"),
    "route timeout": ("DEADLINE_EXCEEDED", "UNAVAILABLE", "Envoy answers 504, which gRPC reads as UNAVAILABLE"),
    "repeated metadata": (
        "joined",
        "each",
        "Envoy holds each value of a repeated header against a match, gRPC all joined",
    ),
}

UNARY = "/meshlib.test.Echo/Unary"


@dataclass(frozen=True)
class Rule:
    """A route in neither language. ``to``: weights of clusters; ``path`` and ``headers`` as in ``ads_server.route``;
    ``retry``: (condition, retries); ``timeout`` in seconds; ``abort``: (status of HTTP or name of gRPC's, percent);
    ``delay``: (seconds, percent)."""

    to: dict[str, int] = field(default_factory=lambda: {"a": 1})
    path: tuple[str, str] = ("prefix", "/")
    headers: tuple[tuple[str, str, str], ...] = ()
    retry: tuple[str, int] | None = None
    timeout: float | None = None
    abort: tuple[int | str, float] | None = None
    delay: tuple[float, float] | None = None

    def for_xds(self) -> dict[str, Any]:
        abort: dict[str, Any] | None = None
        if self.abort is not None:
            status, share = self.abort
            named = {"http_status": status} if isinstance(status, int) else {"grpc_status": NUMBERS[status]}
            abort = {**named, "percentage": percent(share)}
        return route(
            self.to,
            path=self.path,
            headers=self.headers,
            retry=None if self.retry is None else {"retry_on": self.retry[0], "num_retries": self.retry[1], **QUICK},
            max_stream_duration=self.timeout,
            abort=abort,
            delay=self.delay and {"fixed_delay": f"{self.delay[0]:g}s", "percentage": percent(self.delay[1])},
        )

    def for_istio(self) -> dict[str, Any]:
        kind, text = self.path
        match: dict[str, Any] = {"uri": {kind: text}}
        if self.headers:
            match["headers"] = {name: {} if how == "present" else {how: value} for name, how, value in self.headers}
        made: dict[str, Any] = {"match": [match], "retries": {"attempts": 0}}
        single = len(self.to) == 1
        made["route"] = [to("echo", name, None if single else weight) for name, weight in self.to.items()]
        if self.retry is not None:
            made["retries"] = {"attempts": self.retry[1], "retryOn": self.retry[0], "backoff": "1ms"}
        if self.timeout is not None:
            made["timeout"] = f"{round(self.timeout * 1000)}ms"
        fault: dict[str, Any] = {}
        if self.abort is not None:
            status, share = self.abort
            named = {"httpStatus": status} if isinstance(status, int) else {"grpcStatus": status}
            fault["abort"] = {**named, "percentage": {"value": share}}
        if self.delay is not None:
            fault["delay"] = {"fixedDelay": f"{self.delay[0]:g}s", "percentage": {"value": self.delay[1]}}
        if fault:
            made["fault"] = fault
        return made


# below some milliseconds grpcio 1.85 loses retries now and then: the call waits for ever
QUICK = {"retry_back_off": {"base_interval": "0.01s", "max_interval": "0.02s"}}
STATUSES = tuple(code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK)
NUMBERS = {code.name: code.value[0] for code in grpc.StatusCode}

Clusters = dict[str, list[int]]
Situations = dict[str, tuple[list[Rule], Plan]]


def through_xds(situations: Situations, clusters: Clusters, **settings: Any) -> dict[str, Answers]:
    """All situations in one client process, each with a listener of its own."""
    resources = [r for name, ports in clusters.items() for r in cluster(name, ports, **settings)]
    plan: Plan = []
    for name, (rules, calls) in situations.items():
        resources += listener(name, [rule.for_xds() for rule in rules])
        plan += [{**call, "target": f"xds:///{name}"} for call in calls]
    with AdsServer(resources) as ads:
        answers = iter(answers_through_xds(ads.port, plan))
        assert ads.rejected == []
    return {name: [next(answers) for _ in calls] for name, (_, calls) in situations.items()}


@contextmanager
def meshed(rules: list[Rule], clusters: Clusters, **policy: Any) -> Iterator[Any]:
    """The mesh's channel with these rules."""
    resources = [
        service("echo", ports=[{"name": "grpc", "port": 9080, "targetPort": "http"}]),
        *(pod("echo", name, port, name=f"{name}-{port}") for name, ports in clusters.items() for port in ports),
        destination_rule("echo", *clusters, **policy),
        virtual_service("echo", *(rule.for_istio() for rule in rules)),
    ]
    with meshlib.Mesh.from_resources(resources, seed=1) as mesh:
        channel = mesh.grpc_channel("echo:9080")
        yield channel
        channel.close()


def through_mesh(situations: Situations, clusters: Clusters, **policy: Any) -> dict[str, Answers]:
    answers = {}
    for name, (rules, calls) in situations.items():
        with meshed(rules, clusters, **policy) as channel:
            answers[name] = ask_all(lambda _: channel, calls)
    return answers


def facts(answers: dict[str, Answers]) -> dict[str, list[list[tuple[str, str]]]]:
    """Of each call the status and the servers that answered."""
    return {
        name: [[(code, "".join(servers)) for code, _, servers, _ in times] for times in calls]
        for name, calls in answers.items()
    }


def with_headers(*pairs: tuple[str, str]) -> list[list[str]]:
    return [list(pair) for pair in pairs]


# -- routing -----------------------------------------------------------------------------------------------------------
def random_routing(rng: random.Random) -> tuple[list[Rule], Plan]:
    """Rules whose paths and headers often overlap, and calls that often match some."""

    def header() -> tuple[str, str, str]:
        how = rng.choice(["exact", "prefix", "regex", "present"])
        text = {"exact": rng.choice(VALUES), "prefix": rng.choice(["a", "ab", "b"]), "present": ""}.get(how)
        return rng.choice(NAMES), how, rng.choice(["a.*", "[ab]+", "b|ab", ".*c"]) if text is None else text

    rules = []
    for _ in range(rng.choice([2, 3, 4, 5, 6, 25])):
        path = rng.choice(PATHS)
        headers = {
            name: (name, how, text) for name, how, text in (header() for _ in range(rng.choice([0, 0, 1, 1, 2])))
        }
        rules.append(Rule({rng.choice("abcd"): 1}, path, tuple(headers.values())))
    calls: Plan = []
    for _ in range(6):
        pairs = [(name, rng.choice(VALUES)) for name in rng.sample(NAMES, rng.randint(0, 2))]
        calls.append({"method": rng.choice(["Unary", "Expand"]), "metadata": with_headers(*pairs)})
    return rules, calls


NAMES = ("x-one", "x-two")
VALUES = ("a", "ab", "abc", "b", "A", "a,b", "")
PATHS = [
    ("prefix", "/"),
    ("prefix", "/"),
    ("prefix", "/meshlib.test.Echo/"),
    ("prefix", "/meshlib.test.Echo/U"),
    ("prefix", "/meshlib.test.echo/"),
    ("exact", UNARY),
    ("exact", "/meshlib.test.Echo/Expand"),
    ("exact", "/meshlib.test.Echo/Una"),
    ("regex", "/meshlib[.]test[.]Echo/.*"),
    ("regex", "/.*/Expand"),
    ("regex", "/meshlib.test.Echo/Un"),
]


def test_random_rules_lead_to_the_same_servers():
    """60 sets of rules, 6 calls each."""
    rng = random.Random(20)
    situations: Situations = {f"s{n}": random_routing(rng) for n in range(60)}
    with echo_servers(None, None, None, None) as servers:
        clusters = {server.name: [server.port] for server in servers}
        theirs, ours = through_xds(situations, clusters), through_mesh(situations, clusters)
    there, here, _ = BY_DESIGN["no route"]
    seen = Counter()
    for name, (rules, calls) in situations.items():
        for call, ((their_facts,), (our_facts,)) in zip(
            calls, zip(facts(theirs)[name], facts(ours)[name], strict=True), strict=True
        ):
            seen[their_facts] += 1
            wanted = (here, "") if their_facts == (there, "") else their_facts
            assert our_facts == wanted, (rules, call)
    assert {servers[:1] for _, servers in seen} == {"", "a", "b", "c", "d"}, "the calls must lead everywhere"


def test_repeated_metadata_is_joined_there_and_matched_one_by_one_here():
    """That Envoy does what the mesh does is tested with Envoy, in test_route_decisions.py."""
    rules = [
        Rule({"a": 1}, headers=(("x", "exact", "one,two"),)),
        Rule({"b": 1}, headers=(("x", "exact", "two"),)),
    ]
    calls: Plan = [{"metadata": with_headers(("x", "one"), ("x", "two"))}, {"metadata": with_headers(("x", "two"))}]
    with echo_servers(None, None) as servers:
        clusters = {server.name: [server.port] for server in servers}
        situations: Situations = {"s": (rules, calls)}
        theirs, ours = facts(through_xds(situations, clusters)), facts(through_mesh(situations, clusters))
    assert theirs == {"s": [[("OK", "a")], [("OK", "b")]]}
    assert ours == {"s": [[("OK", "b")], [("OK", "b")]]}


def test_weights_share_calls_alike():
    situations: Situations = {"s": ([Rule({"a": 80, "b": 15, "c": 5})], [{"times": 600}])}
    with echo_servers(None, None, None) as servers:
        clusters = {server.name: [server.port] for server in servers}
        both = facts(through_xds(situations, clusters)), facts(through_mesh(situations, clusters))
    for answers in both:
        count = Counter(answers["s"][0])
        assert set(count) == {("OK", "a"), ("OK", "b"), ("OK", "c")}
        for name, share in (("a", 0.80), ("b", 0.15), ("c", 0.05)):
            tolerance = 5 * (600 * share * (1 - share)) ** 0.5
            assert count["OK", name] == pytest.approx(600 * share, abs=tolerance)


def test_a_cluster_gives_its_endpoints_calls_in_turn():
    situations: Situations = {"s": ([connecting("ab"), Rule({"ab": 1})], [CONNECT, {"times": 20}])}
    with echo_servers(None, None) as servers:
        clusters = {"ab": [server.port for server in servers]}
        theirs = facts(through_xds(situations, clusters))
        ours = facts(through_mesh(situations, clusters, loadBalancer={"simple": "ROUND_ROBIN"}))
    for answers in (theirs, ours):
        assert Counter(answers["s"][1]) == {("OK", "a"): 10, ("OK", "b"): 10}


def connecting(name: str) -> Rule:
    """The rule of ``CONNECT``. In gRPC an endpoint has its turn once it is connected: the call's delay is time for that."""
    return Rule({name: 1}, headers=(("connect", "present", ""),), delay=(0.5, 100), retry=("unavailable", 1))


CONNECT = {"metadata": [["connect", "1"]]}


# -- faults ------------------------------------------------------------------------------------------------------------
HTTP_STATUSES = (400, 401, 403, 404, 418, 429, 500, 501, 502, 503, 504)


def test_injected_aborts_have_the_same_status():
    rules = [
        Rule(headers=(("want", "exact", str(status)),), abort=(status, 100)) for status in (*HTTP_STATUSES, *STATUSES)
    ]
    calls: Plan = [{"metadata": with_headers(("want", str(status)))} for status in (*HTTP_STATUSES, *STATUSES)]
    situations: Situations = {"s": ([*rules, Rule()], [*calls, {}])}
    with EchoServer("a") as server:
        clusters = {"a": [server.port]}
        theirs, ours = facts(through_xds(situations, clusters)), facts(through_mesh(situations, clusters))
    assert ours == theirs
    assert [times[0][0] for times in ours["s"][len(HTTP_STATUSES) :]] == [*STATUSES, "OK"]


def test_a_share_of_aborts_is_the_same():
    situations: Situations = {"s": ([Rule(abort=("ABORTED", 30))], [{"times": 400}])}
    with EchoServer("a") as server:
        clusters = {"a": [server.port]}
        both = facts(through_xds(situations, clusters)), facts(through_mesh(situations, clusters))
    for answers in both:
        count = Counter(answers["s"][0])
        assert set(count) == {("OK", "a"), ("ABORTED", "")}
        assert count["ABORTED", ""] == pytest.approx(120, abs=5 * (400 * 0.3 * 0.7) ** 0.5)


def test_delays_are_waited_for_and_the_callers_deadline_counts_in_them():
    rules = [
        Rule(headers=(("both", "present", ""),), delay=(0.3, 100), abort=("ABORTED", 100)),
        Rule(delay=(0.3, 100)),
    ]
    calls: Plan = [{}, {"metadata": with_headers(("both", "1"))}, {"timeout": 0.15}, {"method": "Expand"}]
    situations: Situations = {"s": (rules, calls)}
    with EchoServer("a") as server:
        clusters = {"a": [server.port]}
        theirs, ours = through_xds(situations, clusters), through_mesh(situations, clusters)
    assert facts(ours) == facts(theirs)
    assert [times[0][0] for times in facts(ours)["s"]] == ["OK", "ABORTED", "DEADLINE_EXCEEDED", "OK"]
    for answers in (theirs, ours):
        seconds = [times[0][3] for times in answers["s"]]
        assert min(seconds[0], seconds[1], seconds[3]) >= 0.3
        assert seconds[2] < 0.3


# -- retries -----------------------------------------------------------------------------------------------------------
CONDITIONS = ("cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable", "unavailable,internal")
BEHAVIOURS: dict[str, Any] = {
    **{name: [name] for name in STATUSES},
    "ok": ["ok"],
    "head, then UNAVAILABLE": [("head", "UNAVAILABLE")],
    "no message, then UNAVAILABLE": [("after", 0, "UNAVAILABLE")],
    "a message, then UNAVAILABLE": [("after", 1, "UNAVAILABLE")],
}


def test_every_retry_condition_meets_every_status_with_as_many_attempts():
    """120 combinations of condition and behaviour: the status, and the attempts that the server saw."""
    rules, calls = [], []
    keys = {what: f"b{n}" for n, what in enumerate(BEHAVIOURS)}
    for condition in CONDITIONS:
        for what, key in keys.items():
            wanted = ("on", "exact", condition), ("what", "exact", key)
            rules.append(Rule({key: 1}, headers=wanted, retry=(condition, 2)))
            method = "Expand" if "message" in what else "Unary"
            calls.append({"method": method, "metadata": with_headers(("on", condition), ("what", key))})
    situations: Situations = {"s": (rules, calls)}
    servers = {key: EchoServer(key, BEHAVIOURS[what], workers=2) for what, key in keys.items()}
    clusters = {key: [server.port] for key, server in servers.items()}
    try:
        theirs = facts(through_xds(situations, clusters))
        attempts_there = attempts(servers)
        ours = facts(through_mesh(situations, clusters))
        attempts_here = attempts(servers)
    finally:
        for server in servers.values():
            server.kill()
    assert ours == theirs
    assert attempts_here == attempts_there
    assert set(attempts_here.values()) == {1, 3}
    assert attempts_here["unavailable", keys["no message, then UNAVAILABLE"]] == 3
    assert attempts_here["unavailable", keys["a message, then UNAVAILABLE"]] == 1


def attempts(servers: dict[str, EchoServer]) -> Counter[tuple[str, str]]:
    """How often each combination was seen; forgotten after that."""
    count: Counter[tuple[str, str]] = Counter()
    for server in servers.values():
        count.update((seen.metadata["on"], seen.metadata["what"]) for seen in server.seen)
        server.seen.clear()
    return count


def test_a_retry_finds_the_other_endpoint():
    rules = [connecting("au"), Rule({"au": 1}, retry=("unavailable", 1))]
    situations: Situations = {"s": (rules, [CONNECT, {"times": 30}])}
    with echo_servers(None, ["UNAVAILABLE"]) as (good, bad):
        clusters = {"au": [good.port, bad.port]}
        theirs = facts(through_xds(situations, clusters))
        there = len(bad.seen)
        ours = facts(through_mesh(situations, clusters))
        here = len(bad.seen) - there
    assert ours == theirs == {"s": [[("OK", "a")], [("OK", "a")] * 30]}
    assert min(there, here) > 5


# -- what keeps a call from being answered -----------------------------------------------------------------------------
def test_nobody_there():
    """No endpoint; and one where nobody listens."""
    situations: Situations = {
        "empty": ([Rule({"empty": 1})], [{}, {"method": "Expand"}]),
        "refused": ([Rule({"refused": 1})], [{}, {"method": "Expand"}]),
    }
    clusters: Clusters = {"empty": [], "refused": [free_port()]}
    theirs, ours = facts(through_xds(situations, clusters)), facts(through_mesh(situations, clusters))
    assert ours == theirs
    assert {times[0] for calls in ours.values() for times in calls} == {("UNAVAILABLE", "")}


def test_the_callers_deadline_ends_a_call_and_the_routes_timeout_too_by_another_name():
    rules = [Rule(headers=(("short", "present", ""),), timeout=0.2), Rule()]
    calls: Plan = [{"timeout": 0.2}, {"metadata": with_headers(("short", "1"))}]
    situations: Situations = {"s": (rules, calls)}
    with EchoServer("a", [3.0]) as server:
        clusters = {"a": [server.port]}
        theirs, ours = through_xds(situations, clusters), through_mesh(situations, clusters)
    there, here, _ = BY_DESIGN["route timeout"]
    assert facts(theirs)["s"] == [[("DEADLINE_EXCEEDED", "")], [(there, "")]]
    assert facts(ours)["s"] == [[("DEADLINE_EXCEEDED", "")], [(here, "")]]
    assert all(0.19 <= times[0][3] < 2.5 for times in ours["s"])
    # grpcio 1.85 takes max_stream_duration from the processor's counter of cycles since boot, which on a machine that has
    # been up for long leads the clock by seconds: its timeout comes when it likes, so its moment is not looked at


def test_a_maximum_of_requests_refuses_the_next():
    situations: Situations = {"s": ([Rule()], [{"method": "Hold"}, {}, {"method": "Expand"}])}
    with EchoServer("a") as server:
        clusters = {"a": [server.port]}
        theirs = facts(
            through_xds(situations, clusters, circuit_breakers={"thresholds": [{"max_requests": 1}]}),
        )
        assert eventually(lambda: len(server.seen) == 1)
        ours = facts(through_mesh(situations, clusters, connectionPool={"http": {"http2MaxRequests": 1}}))
        assert len(server.seen) == 2
    assert ours == theirs == {"s": [[("OK", "a")], [("UNAVAILABLE", "")], [("UNAVAILABLE", "")]]}


# -- xds:/// through the mesh ------------------------------------------------------------------------------------------
def test_an_xds_target_of_the_meshs_channel_is_grpcios_own():
    """Without a word of the mesh's: the abort's text is gRPC's."""
    resources = [
        *listener("s", [Rule(headers=(("fail", "present", ""),), abort=("ABORTED", 100)).for_xds(), Rule().for_xds()])
    ]
    calls: Plan = [{}, {"metadata": with_headers(("fail", "1"))}]
    plan: Plan = [{**call, "target": "xds:///s", "mesh": mesh} for mesh in (False, True) for call in calls]
    with EchoServer("a") as server, AdsServer([*resources, *cluster("a", [server.port])]) as ads:
        bare, bare_abort, through, through_abort = (times[0][:3] for times in answers_through_xds(ads.port, plan))
        assert all("x-envoy-attempt-count" not in seen.metadata for seen in server.seen)
    assert through == bare == ["OK", "", ["a"]]
    assert through_abort == bare_abort == ["ABORTED", "Fault injected", []]
