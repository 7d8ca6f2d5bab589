"""Chaos through the httpx doors: over a mock, so that what is seen is what the mesh makes of it."""

from __future__ import annotations

import asyncio
import warnings

import httpx
import pytest

import meshlib
from meshlib.testing import Chaos, ChaosUnused, FakeClock, Outage, assert_attempts, assert_routed_to
from meshlib.testing.seam import taking_part

RETRIED = """
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: reviews}
    spec:
      hosts: [reviews]
      http:
      - route:
        - {destination: {host: reviews, subset: v1}, weight: 50}
        - {destination: {host: reviews, subset: v2}, weight: 50}
        timeout: 10s
        retries: {attempts: 2, perTryTimeout: 1s, retryOn: "5xx,reset,connect-failure"}
    ---
    apiVersion: networking.istio.io/v1
    kind: DestinationRule
    metadata: {name: reviews}
    spec:
      host: reviews
      subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
"""
ONCE = """
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: ratings}
    spec:
      hosts: [ratings]
      http: [{route: [{destination: {host: ratings}}], retries: {attempts: 0}}]
"""
PLACES = {"reviews": {"v1": "127.0.0.1:9081", "v2": "127.0.0.1:9082"}, "ratings": ["127.0.0.1:9083", "127.0.0.1:9084"]}


class Caller:
    """Calls in one runtime; ``served`` has what has arrived behind the mesh."""

    def __init__(self, runtime: str, factory) -> None:
        self.runtime = runtime
        self.factory = factory
        self.served: list[str] = []

    def _respond(self, request: httpx.Request) -> httpx.Response:
        self.served.append(f"{request.url.port}{request.url.path}")
        return httpx.Response(200, content=b"0123456789")

    def mesh(self, text: str = RETRIED, **options) -> meshlib.Mesh:
        return self.factory(text, **{"endpoints": PLACES} | options)

    def results(self, mesh: meshlib.Mesh, count: int, url: str = "http://reviews/", **options) -> list:
        """Responses, or the exceptions in their place."""
        transport = httpx.MockTransport(self._respond)
        if self.runtime == "threads":
            with mesh.client(transport=transport, **options) as client:
                return [_result(lambda: client.get(url)) for _ in range(count)]

        async def go() -> list:
            async with mesh.async_client(transport=transport, **options) as client:
                return [await asyncio.wait_for(_awaited(client, url), 60) for _ in range(count)]

        return asyncio.run(go())

    def result(self, mesh: meshlib.Mesh, url: str = "http://reviews/", **options):
        return self.results(mesh, 1, url, **options)[0]


def _result(call):
    try:
        return call()
    except httpx.HTTPError as error:
        return error


async def _awaited(client, url):
    try:
        return await client.get(url)
    except httpx.HTTPError as error:
        return error


@pytest.fixture(params=["threads", "asyncio"])
def caller(request, mesh):
    return Caller(request.param, mesh)


def failures(call) -> list[str]:
    exchange = call.extensions["mesh"] if isinstance(call, httpx.Response) else call.exchange
    return [attempt.failure or str(attempt.status) for attempt in exchange.attempts]


# -- what happens -----------------------------------------------------------------------------------------------------


def test_a_reset_comes_before_the_server_sees_the_request_and_is_retried(caller, chaos):
    chaos.on("reviews", nth=1).reset()
    response = caller.result(caller.mesh())
    assert failures(response) == ["reset", "200"]
    assert len(caller.served) == 1


def test_a_reset_that_no_retry_mends_is_the_exception_of_a_real_one(caller, chaos):
    chaos.on("ratings").reset()
    error = caller.result(caller.mesh(), "http://ratings/")
    assert isinstance(error, httpx.ReadError | httpx.RemoteProtocolError)
    assert isinstance(error, meshlib.errors.UpstreamReset)
    assert "Connection reset by peer (injected by meshlib.testing)" in str(error)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("reset", "Connection reset by peer"), ("partial_body", "the server closed the connection in the middle")],
)
def test_a_body_is_cut_where_it_is_said(caller, chaos, kind, said):
    getattr(chaos.on("reviews"), kind)(after=4)
    read = []
    mesh = caller.mesh()

    def go_sync():
        with (
            mesh.client(transport=httpx.MockTransport(caller._respond)) as client,
            client.stream("GET", "http://reviews/") as r,
        ):
            read.extend(r.iter_bytes())

    async def go():
        async with (
            mesh.async_client(transport=httpx.MockTransport(caller._respond)) as client,
            client.stream("GET", "http://reviews/") as response,
        ):
            async for part in response.aiter_bytes():
                read.append(part)

    with pytest.raises(meshlib.errors.UpstreamReset, match=said) as raised:
        go_sync() if caller.runtime == "threads" else asyncio.run(go())
    assert b"".join(read) == b"0123"
    assert_attempts(raised, 1)


def test_a_response_without_a_body_has_nothing_to_cut(caller, chaos):
    chaos.on("reviews").partial_body()
    caller._respond = lambda request: httpx.Response(204)
    assert caller.result(caller.mesh()).status_code == 204


def test_a_lost_response_is_of_a_request_that_the_server_has_served(caller, chaos):
    chaos.on("reviews", nth=1).lost_response()
    assert failures(caller.result(caller.mesh())) == ["reset", "200"]
    assert len(caller.served) == 2


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("down", "Connection refused"),
        ("dns_failure", "the name 127.0.0.1 was not found"),
        ("expired_certificate", "the server's certificate is not trusted: certificate has expired"),
    ],
)
def test_what_keeps_a_connection_from_being_made_is_a_connect_error(caller, chaos, kind, said):
    getattr(chaos.on("ratings"), kind)()
    error = caller.result(caller.mesh(), "http://ratings/")
    assert isinstance(error, httpx.ConnectError)
    assert said in str(error)
    assert caller.served == []


def test_latency_takes_the_clocks_time_and_nobodys(caller, chaos, fake_clock):
    chaos.on("reviews", nth=1).latency(0.75)
    before = fake_clock.monotonic()
    response = caller.result(caller.mesh())
    assert fake_clock.monotonic() == before + 0.75
    assert response.extensions["mesh"].upstream_ms == pytest.approx(750)


def test_latency_beyond_the_timeout_of_a_try_is_a_timeout_of_it(caller, chaos, fake_clock):
    chaos.on("reviews", nth=1).latency(5)
    before = fake_clock.monotonic()
    response = caller.result(caller.mesh())
    assert failures(response) == ["timeout", "200"]
    assert before + 1 < fake_clock.monotonic() < before + 1.5
    assert len(caller.served) == 1


def test_latency_beyond_the_callers_patience_is_its_own_timeout(caller, chaos, fake_clock):
    chaos.on("ratings").latency(30)
    before = fake_clock.monotonic()
    error = caller.result(caller.mesh(), "http://ratings/", timeout=3)
    assert isinstance(error, httpx.ReadTimeout)
    assert error.exchange.flags == "DC"
    assert fake_clock.monotonic() == before + 3


def test_jitter_stays_within_its_bounds(caller, chaos, fake_clock):
    chaos.on("ratings").latency(1, jitter=0.5)
    caller.results(caller.mesh(), 20, "http://ratings/")
    assert len(set(fake_clock.sleeps)) == 20
    assert 0.5 <= min(fake_clock.sleeps) < 0.8
    assert 1.2 < max(fake_clock.sleeps) <= 1.5


# -- to whom ----------------------------------------------------------------------------------------------------------


def test_the_third_attempt_to_one_subset(caller, chaos):
    rule = chaos.on("reviews", "v2", nth=3).reset()
    calls = caller.results(caller.mesh(), 40)
    hit = [call for call in calls if failures(call) != ["200"]]
    assert [failures(call) for call in hit] == [["reset", "200"]]
    assert_routed_to(hit[0], "reviews", "v2")
    to_v2 = [call for call in calls if call.extensions["mesh"].subset == "v2"]
    assert to_v2.index(hit[0]) == 2
    assert rule.times == 1
    assert rule.seen == len(to_v2) + 1


def test_several_by_their_numbers(caller, chaos):
    chaos.on("ratings", nth={2, 4}).reset()
    chaos.on("ratings", nth=range(6, 8)).reset()
    calls = caller.results(caller.mesh(), 9, "http://ratings/")
    assert [n for n, call in enumerate(calls, 1) if failures(call) == ["reset"]] == [2, 4, 6, 7]


def test_one_endpoint_dies_and_is_revived(caller, chaos):
    mesh = caller.mesh(f"{ONCE}    ---{RETRIED}")
    with chaos.on("ratings", endpoint="127.0.0.1:9083").down() as rule:
        calls = caller.results(mesh, 20, "http://ratings/")
        assert {call.exchange.endpoint for call in calls if isinstance(call, httpx.ConnectError)} == {"127.0.0.1:9083"}
    assert 0 < rule.times < 20
    assert all(failures(call) == ["200"] for call in caller.results(mesh, 20, "http://ratings/"))


def test_one_path_or_all_that_begin_so(caller, chaos):
    chaos.on("ratings", path="/a/b").reset()
    chaos.on("ratings", path="/c/*").reset()
    mesh = caller.mesh()
    got = {
        path: failures(caller.result(mesh, f"http://ratings{path}")) for path in ("/a", "/a/b", "/a/b/c", "/c/d", "/c")
    }
    assert got == {"/a": ["200"], "/a/b": ["reset"], "/a/b/c": ["200"], "/c/d": ["reset"], "/c": ["200"]}


@pytest.mark.parametrize("name", ["ratings", "ratings.default", "ratings.default.svc.cluster.local", "*"])
def test_a_host_has_all_its_names(caller, chaos, name):
    chaos.on(name).reset()
    assert failures(caller.result(caller.mesh(), "http://ratings/")) == ["reset"]


def test_of_another_namespace_the_short_name_is_not_its_own(caller, chaos):
    chaos.on("ratings").reset()
    chaos.on("*").latency(0)
    mesh = caller.mesh(endpoints={"ratings.shop.svc.cluster.local": "127.0.0.1:1"})
    assert failures(caller.result(mesh, "http://ratings.shop/")) == ["200"]
    with pytest.warns(ChaosUnused, match=r"chaos.on\('ratings'\).reset\(\): 0 of 0 attempts: no attempt went there"):
        chaos.warn_of_unused()
    chaos.rules.clear()


def test_for_a_while_by_the_clock(caller, chaos, fake_clock):
    chaos.on("ratings", between=(10, 20)).down()
    mesh, got = caller.mesh(), []
    for _ in range(5):
        got.append(failures(caller.result(mesh, "http://ratings/"))[0])
        fake_clock.advance(5)
    assert got == ["200", "200", "connect_failed", "connect_failed", "200"]


def test_outages_are_played_at_their_time(caller, chaos, fake_clock):
    chaos.play([Outage("ratings", start=5, seconds=5), Outage("ratings", kind="latency", latency=2, start=10)])
    mesh, got = caller.mesh(f"{ONCE}    ---{RETRIED}"), []
    for _ in range(3):
        before = fake_clock.monotonic()
        got.append((*failures(caller.result(mesh, "http://ratings/")), fake_clock.monotonic() - before))
        fake_clock.advance(5)
    assert got == [("200", 0), ("connect_failed", 0), ("200", 2)]


def test_the_first_rule_to_fail_an_attempt_is_the_one_that_counts(caller, chaos):
    first, second = chaos.on("ratings").reset(), chaos.on("ratings", nth=2).down()
    assert [failures(c) for c in caller.results(caller.mesh(), 2, "http://ratings/")] == [["reset"], ["reset"]]
    assert (first.times, second.times, second.seen) == (2, 0, 2)
    assert len(chaos.injected) == 2


# -- by chance --------------------------------------------------------------------------------------------------------


def outcomes(runtime: str, factory, seed: int) -> list[str]:
    caller, chaos = Caller(runtime, factory), Chaos(seed, factory.clock)
    chaos.on("reviews", rate=0.3).reset()
    chaos.on("reviews", "v1", rate=0.2).latency(0.4, jitter=0.2)
    with taking_part(chaos):
        calls = caller.results(caller.mesh(seed=1), 40)
    return [*map(str, chaos.injected), *(str(failures(call)) for call in calls)]


def test_the_same_seed_is_the_same_sequence_in_threads_and_on_a_loop(mesh):
    first = outcomes("threads", mesh, 7)
    assert first == outcomes("threads", mesh, 7)
    assert first == outcomes("asyncio", mesh, 7)
    assert first != outcomes("threads", mesh, 8)


def test_a_rate_is_met(mesh, chaos):
    rule = chaos.on("ratings", rate=0.1).reset()
    Caller("threads", mesh).results(mesh(ONCE, endpoints={"ratings": "127.0.0.1:9083"}), 500, "http://ratings/")
    assert 25 < rule.times < 80


def test_calling_it_with_a_seed_begins_anew(caller, chaos):
    chaos.on("ratings").down()
    chaos(7).on("ratings", nth=1).reset()
    assert failures(caller.result(caller.mesh(), "http://ratings/")) == ["reset"]
    assert (chaos.seed, len(chaos.rules)) == (7, 1)


@pytest.mark.parametrize("rate", [-0.1, 1.1, 10])
def test_a_rate_is_a_probability(chaos, rate):
    with pytest.raises(ValueError, match=r"not between 0 and 1: one in ten is 0\.1"):
        chaos.on(rate=rate)


# -- what is told -----------------------------------------------------------------------------------------------------


def test_what_was_injected_is_listed(caller, chaos):
    chaos.on("ratings", nth=2).reset()
    caller.results(caller.mesh(), 3, "http://ratings/")
    (injected,) = chaos.injected
    assert (injected.kind, injected.host, injected.nth) == ("reset", "ratings.default.svc.cluster.local", 2)
    assert str(chaos).splitlines() == [
        "chaos.on('ratings', nth=2).reset(): 1 of 3 attempts",
        f"  reset: no. 2 to ratings.default.svc.cluster.local at {injected.endpoint}",
    ]


def test_a_rule_that_was_about_nothing_is_warned_of_and_no_other(caller):
    chaos = Chaos(1, FakeClock())
    chaos.on("ratings", nth=1).down()
    chaos.on("ratings", nth=1).reset()  # fails already: its turn has come all the same
    chaos.on("ratings", rate=0).reset()
    with taking_part(chaos):
        caller.result(caller.mesh(), "http://ratings/")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chaos.warn_of_unused()
    chaos.on("raitings").down()
    with pytest.warns(ChaosUnused, match="raitings"):
        chaos.warn_of_unused()


def test_a_rule_whose_turn_never_came_is_warned_of(caller):
    chaos = Chaos(1, FakeClock())
    chaos.on("ratings", nth={5, 6}).down()
    with taking_part(chaos):
        caller.result(caller.mesh(), "http://ratings/")
    with pytest.warns(ChaosUnused, match=r"0 of 1 attempts: none was its nth; does the test make that many attempts\?"):
        chaos.warn_of_unused()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda chaos: chaos.on("ratings", endpoint="10.0.0.1"),
        lambda chaos: chaos.on("ratings", endpoint=9080),
        lambda chaos: chaos.on("ratings", path="ratings/1"),
        lambda chaos: chaos.on("ratings").latency(-1),
        lambda chaos: chaos.on("ratings").latency(1, jitter=-1),
        lambda chaos: chaos.on("ratings").reset(after=-1),
        lambda chaos: chaos.on("ratings").partial_body(after="1"),
        lambda chaos: chaos.served("ratings/1"),
        lambda chaos: chaos.served("/ratings/1").latency(-1),
        lambda chaos: chaos.served("/ratings/1").latency(1, jitter=-1),
        lambda chaos: chaos.served("/ratings/1").reset(after=-1),
        lambda chaos: chaos.served("/ratings/1").partial_body(after=-1),
        lambda chaos: chaos.served("/ratings/1").partial_request(after=-1),
    ],
)
def test_what_can_happen_to_nothing_is_refused(wrong):
    chaos = Chaos(1, FakeClock())
    with pytest.raises(ValueError, match=r"(endpoint|path|seconds|jitter|after)="):
        wrong(chaos)
    assert chaos.rules == []


def test_who_is_warned_of_a_rule_is_told_all_that_may_be_written_wrong(chaos):
    chaos.on("ratings", "v1", path="/rating/1").reset()
    with pytest.warns(ChaosUnused, match="are its host and subset and path written as they should be"):
        chaos.warn_of_unused()
    chaos.rules.clear()
