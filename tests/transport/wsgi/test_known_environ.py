"""Environs that say what one before has said: what becomes of a request, and what is recorded and seen of it, is what becomes
of one that nobody has met, whatever the policies, the token, the peer and the time."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.engine.inbound_context import here
from meshlib.engine.stand_in import STAND_IN, StandIn
from meshlib.transport.runtimes import requests_met
from meshlib.transport.runtimes import serving as servers
from meshlib.transport.runtimes.requests_met import RequestsMet
from meshlib.transport.wsgi import known_environ, middleware
from meshlib.transport.wsgi.connection import PROXY_FIX
from meshlib.transport.wsgi.known_environ import MOST_ENVIRONS, facts_of
from meshlib.transport.wsgi.middleware import MeshWSGIMiddleware
from meshlib.transport.wsgi.response import serving
from meshlib.transport.wsgi.straight import Straight
from tests.support.fake_clock import FakeClock
from tests.support.inbound_policies import authorization_policy, on_paths
from tests.support.spiffe import Authority
from tests.support.tokens import issuer
from tests.support.wsgi import Answered, PlainSock, Sock, environ

KEYS = issuer("ES256"), issuer("ES256", "b")
NOW = FakeClock().time()
WEB, OPS = (f"spiffe://cluster.local/ns/default/sa/{name}" for name in ("web", "ops"))
AUTHORITY = Authority()
CALLER = StandIn(OPS, {"iss": "me", "sub": "ann"})
SOCKS: list[Any] = [
    PlainSock(),
    *(Sock(ssl.PEM_cert_to_DER_cert(AUTHORITY.issue(name)[1].decode())) for name in (WEB, OPS, "dns:web")),
    Sock(None),
]
TOKENS = [
    "",
    *(
        f"Bearer {KEYS[key].token({'iss': 'me', 'sub': sub, 'groups': ['staff'], 'exp': NOW + end})}"
        for key, sub, end in [(0, "ann", 50), (0, "bob", 5000), (1, "ann", 5000)]
    ),
    "Bearer x.y.z",
]
MORE: list[dict[str, Any]] = [
    {},
    {"HTTP_X_ROLE": "admin"},
    {"HTTP_X_TEAM": "admin"},
    {"CONTENT_LENGTH": "5", "CONTENT_TYPE": "text/plain"},
    {"HTTP_X_REQUEST_DEADLINE": "5"},
    {"HTTP_X_FORWARDED_FOR": "10.1.2.3"},
    {"SERVER_SOFTWARE": "other"},
    {"SERVER_PORT": "9000"},
    {"PATH_INFO": "/else"},
    {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "5"},
    {PROXY_FIX: {"HTTP_HOST": "before", "REMOTE_ADDR": "10.4.4.4", "SERVER_PORT": "80"}},
    {"REMOTE_PORT": None},
    {STAND_IN: CALLER},
    {"CONTENT_LENGTH": "77", "CONTENT_TYPE": "text/plain"},
    {"HTTP_X_TEAM": "admin", "SERVER_SOFTWARE": "other"},
]


def authentication(key: int = 0, **rule: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "users", "namespace": "default"},
        "spec": {"jwtRules": [{"issuer": "me", "jwks": KEYS[key].jwks(), **rule}]},
    }


TWO = authentication()
TWO["spec"]["jwtRules"] += [{"issuer": "x", "jwks": KEYS[1].jwks()}]
STRICT = {
    "apiVersion": "security.istio.io/v1",
    "kind": "PeerAuthentication",
    "metadata": {"name": "strict", "namespace": "default"},
    "spec": {"mtls": {"mode": "STRICT"}},
}
ANN = authorization_policy("ann", "ALLOW", {"from": [{"source": {"requestPrincipals": ["me/ann"]}}]})
WEB_ONLY = authorization_policy("web", "ALLOW", on_paths("/a*", principals=["cluster.local/ns/default/sa/web"]))
NEAR = authorization_policy("near", "ALLOW", {"from": [{"source": {"ipBlocks": ["10.1.2.0/24"]}}]})
NO_ADMINS = authorization_policy("no", "DENY", {"when": [{"key": "request.headers[x-role]", "values": ["admin"]}]})
PORT = authorization_policy("port", "DENY", {"to": [{"operation": {"ports": ["9000"]}}]})
CONFIGURATIONS: list[list[dict[str, Any]]] = [
    [],
    [STRICT],
    [authentication()],
    [authentication(1)],
    [authentication(), ANN],
    [authentication(forwardOriginalToken=True), ANN, NO_ADMINS],
    [STRICT, authentication(), WEB_ONLY],
    [NEAR, NO_ADMINS],
    [WEB_ONLY, authorization_policy("audit", "AUDIT", on_paths("/a"))],
    [NO_ADMINS, PORT],
    [authorization_policy("team", "ALLOW", {"when": [{"key": "request.headers[x-team]", "values": ["admin"]}]})],
    [authentication(fromParams=["token"]), ANN],
    [TWO, ANN],
    [authentication(fromParams=["token"])],
]


@pytest.fixture(autouse=True, scope="module")
def shortcuts() -> Iterator[None]:
    """Also where MESHLIB_PLAIN=1 is set for the tests: this is about what it turns off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests_met, "PLAIN", False)
        patch.setattr(servers, "PLAIN", False)
        yield


class Never(RequestsMet[Any]):
    """Nothing was ever met."""

    __slots__ = ()

    def wants(self) -> bool:
        return False


class Door:
    """A mesh and its door, and all that is known afterwards. ``fast``: what was met is remembered."""

    def __init__(self, fast: bool) -> None:
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.mesh = meshlib.Mesh.from_resources([], registry=self.registry, clock=self.clock)
        self.made: list[RequestsMet[Any]] = []
        self.seen: list[Any] = []
        self.straight = 0
        self.door = MeshWSGIMiddleware(self.app, self.mesh)
        begin, kind = self.door._begin, RequestsMet if fast else Never

        def keeping(live: Any) -> Any:
            ports, _ = begin(live)
            self.made.append(kind())
            self.door._met = ports, self.made[-1]
            return self.door._met

        self.door._begin = keeping  # type: ignore[method-assign]

    def app(self, told: dict[str, Any], start: Any) -> Any:
        call = serving.get()
        assert call is not None
        self.straight += type(call) is Straight
        request = call.request
        self.seen.append(
            (
                dict(told),
                (request.method, request.path, request.query, request.authority, request.protocol, request.routed),
                (request.principal, request.peer_id, request.mutual, request.secure, request.sni, request.peer),
                (request.claims, request.request_principal, request.port, request.source_ip, request.remote_ip),
                (sorted(request.header_lists().items()), request.header("authorization"), request.target),
                (request.for_application is None, request.changes_response, request.local_ip),
                [type(check) for check in call.checks],
                here() is request,
            )
        )
        told["HTTP_X_ADDED"] = "1"  # its own business
        start("200 OK", [("x-a", "b")])
        return [b"hello"]

    def ask(self, told: dict[str, Any]) -> Any:
        answered = Answered().serve(self.door, told)
        return answered.begun, answered.body

    def knows(self) -> list[Any]:
        counts = self.mesh._core.inbound.authorization
        samples = {
            (s.name, *sorted(s.labels.items())): s.value
            for family in self.registry.collect()
            for s in family.samples
            if not s.name.endswith("_created")
        }
        return [samples, [counts.of(what) for what in ("denied", "audited")], self.seen]


REQUESTS = st.tuples(
    st.sampled_from(["/a", "/a?access_token=x", "/b", "/a%2Fb", "http://h/a"]),
    st.sampled_from(["GET", "OPTIONS"]),
    st.integers(0, len(TOKENS) - 1),
    st.integers(0, len(SOCKS) - 1),
    st.integers(0, len(MORE) - 1),
    st.sampled_from(["10.1.2.3", "10.7.7.7"]),
)
STEPS = st.one_of(REQUESTS, REQUESTS, REQUESTS, st.sampled_from([10.0, 60.0]), st.integers(0, len(CONFIGURATIONS) - 1))
SAME: dict[str, Any] = {key: environ()[key] for key in ("wsgi.input", "wsgi.errors")}


def environ_of(asked: tuple[str, str, int, int, int, str]) -> dict[str, Any]:
    target, method, token, sock, more, client = asked
    headers = {"HTTP_AUTHORIZATION": TOKENS[token]} if TOKENS[token] else {}
    told = {"gunicorn.socket": SOCKS[sock], "REMOTE_ADDR": client, **SAME, **headers, **MORE[more]}
    return environ(target, method, **told)


ANN_ASKS = ("/a", "GET", 1, 1, 0, "10.1.2.3")


def plain(target: str = "/a", sock: int = 0, more: int = 0, client: str = "10.1.2.3") -> Any:
    return (target, "GET", 0, sock, more, client)


@settings(max_examples=15, deadline=None)
@given(first=st.integers(0, len(CONFIGURATIONS) - 1), steps=st.lists(STEPS, max_size=12), again=st.integers(1, 3))
@example(4, [ANN_ASKS, ANN_ASKS, 60.0, 60.0, ANN_ASKS], 2)
@example(4, [ANN_ASKS, 3, ANN_ASKS, 4, ANN_ASKS], 2)
@example(6, [ANN_ASKS, ("/a", "GET", 1, 2, 0, "10.1.2.3"), ("/a", "GET", 1, 0, 0, "10.1.2.3")], 2)
@example(7, [plain(), plain(client="10.7.7.7")], 2)
@example(0, [plain(sock=3), plain(sock=4), plain(sock=0)], 2)
@example(0, [plain(more=5), plain(more=5, client="10.7.7.7"), plain()], 2)
@example(10, [plain(more=2), plain(more=14), plain(more=2)], 2)
@example(11, [plain(f"/a?token={TOKENS[1][7:]}"), plain(f"/a?token={TOKENS[2][7:]}")], 3)
@example(13, [plain(f"/a?token={TOKENS[1][7:]}")], 3)
@example(12, [ANN_ASKS, 60.0, 60.0, ANN_ASKS], 2)
@example(9, [plain(), plain(more=3), plain(more=13), plain(more=2), plain(more=1), plain(more=7), plain(more=6)], 2)
@example(0, [plain(more=8), plain(), plain(more=3), plain(more=9), plain("/a?access_token=x")], 2)
@example(0, [plain(more=10), plain(more=12), plain(more=11), plain(more=4), plain()], 2)
@example(8, [ANN_ASKS], 3)
def test_both_ways_do_the_same(first, steps, again):
    doors = Door(True), Door(False)
    try:
        for door in doors:
            door.mesh.apply(CONFIGURATIONS[first])
        for step in steps:
            if isinstance(step, tuple):
                for _ in range(again):
                    fast, slow = (door.ask(environ_of(step)) for door in doors)
                    assert fast == slow
            for door in doors:
                if isinstance(step, float):
                    door.clock.advance(step)
                elif isinstance(step, int):
                    door.mesh.apply(CONFIGURATIONS[step])
        fast, slow = (door.knows() for door in doors)
        assert fast == slow
        assert doors[0].straight == doors[1].straight
    finally:
        for door in doors:
            door.mesh.close()


@pytest.mark.parametrize(
    ("configuration", "kept"),
    [([], 1), ([STRICT], 1), (CONFIGURATIONS[4], 1), (CONFIGURATIONS[12], 1), ([NEAR], 0), (CONFIGURATIONS[8], 0)],
)
def test_what_decides_by_more_than_the_head_is_not_remembered(configuration, kept):
    door = Door(True)
    door.mesh.apply(configuration)
    for _ in range(3):
        door.ask(environ_of(ANN_ASKS))
    (met,) = door.made
    assert (len(met), len(door.seen)) == (kept, 3)
    assert [one.met for one in met._found.values()] == [True] * kept
    assert [one.like._environ for one in met._found.values()] == [{}] * kept  # no socket is kept


@pytest.mark.parametrize("more", [4, 9, 10, 11, 12])
def test_what_is_special_is_not_remembered(more):
    door = Door(True)
    for _ in range(3):
        door.ask(environ_of(plain(more=more)))
    assert len(door.made[0]) == 0


def test_a_reload_begins_anew_and_a_closed_mesh_lets_nobody_in():
    door = Door(True)
    for resources in (CONFIGURATIONS[4], CONFIGURATIONS[4]):
        door.mesh.apply(resources)
        assert door.ask(environ_of(ANN_ASKS))[0][0][0] == "200 OK"
    assert [len(met) for met in door.made] == [1, 1]
    door.mesh.close()
    assert door.ask(environ_of(ANN_ASKS))[0][0][0].startswith("503")


def test_whose_a_certificate_is_is_asked_each_time():
    """A root is dropped: the identity is gone, and with it what was let in by it."""
    door = Door(True)
    door.mesh.apply(CONFIGURATIONS[6])
    statuses = [door.ask(environ_of(ANN_ASKS))[0][0][0] for _ in range(3)]
    assert (statuses, len(door.made[0])) == (["200 OK"] * 3, 1)
    door.door._peer_of = lambda _sock: (None, True, True)
    assert door.ask(environ_of(ANN_ASKS))[0][0][0].startswith("403")


def test_values_that_are_no_text_are_served_all_the_same():
    door = Door(True)
    for _ in range(2):
        assert door.ask(environ(HTTP_X_ODD=["a"]))[0][0][0] == "200 OK"
    assert len(door.made[0]) == 0


def test_facts_are_bounded_and_headers_of_other_names_are_other_facts():
    one, other = environ(HTTP_X_A="1"), environ(HTTP_X_B="1")
    assert facts_of(one) is facts_of(dict(one))
    assert facts_of(one)(one) == facts_of(other)(other)
    assert facts_of(one) is not facts_of(other)
    for n in range(MOST_ENVIRONS + 10):
        facts_of(environ(**{f"HTTP_X_{n}": "1"}))
    assert len(known_environ._facts) <= MOST_ENVIRONS


@pytest.mark.parametrize("sock", [0, 1])
def test_while_nobody_looks_no_key_is_made_of_a_request(sock, monkeypatch):
    door, asked = Door(True), ("/a", "GET", 0, sock, 0, "10.1.2.3")
    door.ask(environ_of(asked))
    (met,) = door.made
    met.of, met._left = None, 2

    def facts(_keys: Any) -> Any:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(middleware, "known_facts", facts)
        for _ in range(2):
            assert door.ask(environ_of(asked))[0][0][0] == "200 OK"
    assert [one.met for one in met._found.values()] == [False]
    assert door.ask(environ_of(asked))[0][0][0] == "200 OK"
    assert ([one.met for one in met._found.values()], door.straight) == ([True], 4)
    assert door.seen == [door.seen[0]] * 4
