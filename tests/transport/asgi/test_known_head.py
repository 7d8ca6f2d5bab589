"""Heads that were met before: what becomes of a request, and what is recorded and seen of it, is what becomes of one that
nobody has met, whatever the policies, the token, the peer and the time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshlib.engine.inbound_context import here
from meshlib.engine.stand_in import STAND_IN, StandIn
from meshlib.transport.asgi import middleware
from meshlib.transport.asgi.middleware import CALL, MeshASGIMiddleware
from meshlib.transport.asgi.peer import Peer
from meshlib.transport.asgi.request import requests_of
from meshlib.transport.asgi.straight import Straight
from meshlib.transport.runtimes import requests_met, serving
from meshlib.transport.runtimes.requests_met import RequestsMet
from tests.support.asgi import Served, ask, http_scope, responds
from tests.support.fake_clock import FakeClock
from tests.support.inbound_policies import authorization_policy, on_paths
from tests.support.spiffe import Authority
from tests.support.tokens import issuer

KEYS = issuer("ES256"), issuer("ES256", "b")
NOW = FakeClock().time()
WEB, OPS = (f"spiffe://cluster.local/ns/default/sa/{name}" for name in ("web", "ops"))
CALLER = StandIn(OPS, {"iss": "me", "sub": "ann"})
AUTHORITY = Authority()
PEERS: list[dict[str, Any] | None] = [
    None,
    *({"client_cert_chain": [AUTHORITY.issue(name)[1].decode()]} for name in (WEB, OPS)),
    {"client_cert_chain": [AUTHORITY.issue("dns:web")[1].decode()]},
    {"client_cert_chain": []},
]
TOKENS = [
    b"",
    *(
        f"Bearer {KEYS[key].token({'iss': 'me', 'sub': sub, 'groups': ['staff'], 'exp': NOW + end})}".encode()
        for key, sub, end in [(0, "ann", 50), (0, "bob", 5000), (1, "ann", 5000)]
    ),
    b"Bearer x.y.z",
    b"Basic eDp5",
]
MORE: list[list[tuple[bytes, bytes]]] = [
    [],
    [(b"x-role", b"admin")],
    [(b"x-role", b"admin"), (b"x-role", b"b")],
    [(b"content-type", b"application/json")],
    [(b"x-forwarded-for", b"10.1.2.3:4711")],
    [(b"x-request-deadline", b"5")],
    [(b"content-type", b"application/grpc")],
    [(b"host", b"a"), (b"host", b"b")],
]


def authentication(key: int = 0, **rule: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "users", "namespace": "default"},
        "spec": {"jwtRules": [{"issuer": "me", "jwks": KEYS[key].jwks(), **rule}]},
    }


def dry_run(policy: dict[str, Any]) -> dict[str, Any]:
    policy["metadata"]["annotations"] = {"istio.io/dry-run": "true"}
    return policy


TWO = authentication()
TWO["spec"]["jwtRules"] += [{"issuer": "x", "jwks": KEYS[1].jwks()}]
OTHER_FIRST = authentication()
OTHER_FIRST["spec"]["jwtRules"].insert(0, {"issuer": "x", "jwks": KEYS[1].jwks()})
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
CONFIGURATIONS: list[list[dict[str, Any]]] = [
    [],
    [STRICT],
    [authentication()],
    [authentication(1)],
    [authentication(), ANN],
    [authentication(forwardOriginalToken=True), ANN, NO_ADMINS],
    [authentication(fromParams=["token"], outputClaimToHeaders=[{"header": "x-sub", "claim": "sub"}]), ANN],
    [STRICT, authentication(), WEB_ONLY],
    [NEAR, NO_ADMINS],
    [WEB_ONLY, authorization_policy("audit", "AUDIT", on_paths("/a"))],
    [NO_ADMINS, dry_run(authorization_policy("tried", "DENY", on_paths("/a")))],
    [authentication(fromParams=["token"]), ANN],
    [TWO, ANN],
    [OTHER_FIRST, ANN],
]
BY_QUERY = (f"/a?token={TOKENS[1][7:].decode()}", "GET", 0, 0, 0, "10.1.2.3", "")


@pytest.fixture(autouse=True, scope="module")
def shortcuts() -> Iterator[None]:
    """Also where MESHLIB_PLAIN=1 is set for the tests: this is about what it turns off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests_met, "PLAIN", False)
        patch.setattr(serving, "PLAIN", False)
        yield


class Never(RequestsMet[Any]):
    """Nothing was ever met."""

    __slots__ = ()

    def wants(self) -> bool:
        return False


class Door:
    """A mesh and its door, and all that is known afterwards. ``fast``: heads are remembered."""

    def __init__(self, fast: bool, **options: Any) -> None:
        self.clock = FakeClock()
        self.served = Served(clock=self.clock, **options)
        self.made: list[RequestsMet[Any]] = []
        self.seen: list[Any] = []
        self.straight = 0
        self.door = MeshASGIMiddleware(self.app, self.served.mesh)
        begin, kind = self.door._begin, RequestsMet if fast else Never

        def keeping(live: Any) -> Any:
            ports, _ = begin(live)
            self.made.append(kind())
            self.door._met = ports, self.made[-1]
            return self.door._met

        self.door._begin = keeping  # type: ignore[method-assign]

    async def app(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        call = scope[CALL]
        self.straight += type(call) is Straight
        request = call.request
        self.seen.append(
            (
                {name: value for name, value in scope.items() if name != CALL},
                (request.method, request.path, request.query, request.authority, request.protocol, request.routed),
                (request.principal, request.peer_id, request.mutual, request.secure, request.sni, request.peer),
                (request.claims, request.request_principal, request.port, request.source_ip, request.remote_ip),
                (sorted(request.header_lists().items()), request.header("authorization"), request.target),
                (request.for_application is None, request.changes_response, request.deadline),
                [type(check) for check in call.checks],
                here() is request,
            )
        )
        if type(scope["headers"]) is list:
            scope["headers"].append((b"x-added", b"1"))  # its own business
        await responds(200, b"hello", [(b"x-a", b"b")])(scope, receive, send)

    def ask(self, scope: dict[str, Any]) -> list[Any]:
        client = asyncio.run(ask(self.door, scope))
        return client.got

    def knows(self) -> list[Any]:
        counts = self.served.mesh._core.inbound.authorization
        samples = {
            (s.name, *sorted(s.labels.items())): s.value
            for family in self.served.registry.collect()
            for s in family.samples
            if not s.name.endswith("_created")
        }
        kinds = [counts.of(what) for what in ("denied", "audited", "dry_run_denied", "dry_run_allowed")]
        return [samples, kinds, self.seen]


REQUESTS = st.tuples(
    st.sampled_from(["/a", "/a?token=x", "/b", "/a%2Fb"]),
    st.sampled_from(["GET", "OPTIONS"]),
    st.integers(0, len(TOKENS) - 1),
    st.integers(0, len(PEERS) - 1),
    st.integers(0, len(MORE) - 1),
    st.sampled_from(["10.1.2.3", "10.7.7.7"]),
    st.sampled_from(["", "", "", "caller", "root", "server"]),
)
STEPS = st.one_of(REQUESTS, REQUESTS, REQUESTS, st.sampled_from([10.0, 60.0]), st.integers(0, len(CONFIGURATIONS) - 1))


def scope_of(asked: tuple[str, str, int, int, int, str, str]) -> dict[str, Any]:
    target, method, token, peer, more, client, other = asked
    headers = [*([(b"authorization", TOKENS[token])] if TOKENS[token] else []), *MORE[more]]
    made = http_scope(target, *headers, method=method, client=(client, 4711))
    if PEERS[peer] is not None:
        made["extensions"] = {"tls": PEERS[peer]}
    if other == "caller":
        made[STAND_IN] = CALLER
    elif other == "root":
        made["root_path"] = "/root"
    elif other == "server":
        made["server"] = None
    return made


ANN_ASKS = ("/a", "GET", 1, 1, 0, "10.1.2.3", "")


@settings(max_examples=25, deadline=None)
@given(first=st.integers(0, len(CONFIGURATIONS) - 1), steps=st.lists(STEPS, max_size=12), again=st.integers(1, 3))
@example(4, [ANN_ASKS, ANN_ASKS, 60.0, 60.0, ANN_ASKS], 2)
@example(4, [ANN_ASKS, 3, ANN_ASKS, 4, ANN_ASKS], 2)
@example(7, [ANN_ASKS, ("/a", "GET", 1, 2, 0, "10.1.2.3", ""), ("/a", "GET", 1, 0, 0, "10.1.2.3", "")], 2)
@example(8, [ANN_ASKS, ("/a", "GET", 1, 1, 0, "10.7.7.7", "")], 2)
@example(7, [("/a", "GET", 0, 0, 0, "10.1.2.3", "caller"), ("/a", "GET", 0, 0, 0, "10.1.2.3", "")], 2)
@example(0, [("/a", "GET", 0, 3, 0, "10.1.2.3", ""), ("/a", "GET", 0, 4, 0, "10.1.2.3", "")], 2)
@example(0, [("/a", "GET", 0, 0, 0, "10.1.2.3", ""), ("/a", "GET", 0, 0, 0, "10.1.2.3", "caller")], 2)
@example(0, [("/a", "GET", 0, 0, 0, "10.1.2.3", "caller"), ("/a", "GET", 0, 0, 0, "10.1.2.3", "")], 2)
@example(0, [("/a", "GET", 0, 0, 0, "10.1.2.3", ""), ("/a?token=x", "GET", 0, 0, 0, "10.1.2.3", "")], 2)
@example(0, [("/a", "GET", 0, 0, 4, "10.7.7.7", ""), ("/a", "GET", 0, 0, 4, "10.1.2.3", "")], 2)
@example(11, [BY_QUERY, 60.0, 60.0, BY_QUERY], 3)
@example(12, [ANN_ASKS, 60.0, 60.0, ANN_ASKS], 2)
@example(13, [ANN_ASKS, 60.0, 60.0, ANN_ASKS], 2)
@example(9, [ANN_ASKS], 3)
@example(10, [ANN_ASKS], 3)
def test_both_ways_do_the_same(first, steps, again):
    doors = Door(True), Door(False)
    try:
        for door in doors:
            door.served.mesh.apply(CONFIGURATIONS[first])
        for step in steps:
            if isinstance(step, tuple):
                for _ in range(again):
                    fast, slow = (door.ask(scope_of(step)) for door in doors)
                    assert fast == slow
            for door in doors:
                if isinstance(step, float):
                    door.clock.advance(step)
                elif isinstance(step, int):
                    door.served.mesh.apply(CONFIGURATIONS[step])
        fast, slow = (door.knows() for door in doors)
        assert fast == slow
        assert doors[0].straight == doors[1].straight
    finally:
        for door in doors:
            door.served.mesh.close()


@pytest.mark.parametrize(
    ("configuration", "kept"),
    [
        *((CONFIGURATIONS[n], 1) for n in (0, 1, 4, 5, 12, 13)),
        *((configuration, 0) for configuration in ([NEAR], CONFIGURATIONS[9], CONFIGURATIONS[10])),
    ],
)
def test_what_decides_by_more_than_the_head_is_not_remembered(configuration, kept):
    door = Door(True)
    door.served.mesh.apply(configuration)
    for _ in range(3):
        door.ask(scope_of(ANN_ASKS))
    (met,) = door.made
    assert (len(met), len(door.seen)) == (kept, 3)
    assert [one.met for one in met._found.values()] == [True] * kept


@pytest.mark.parametrize("other", ["caller", "root"])
def test_what_stands_in_for_a_connection_or_lies_below_a_root_is_not_remembered(other):
    door = Door(True)
    for _ in range(3):
        door.ask(scope_of(("/a", "GET", 0, 0, 0, "10.1.2.3", other)))
    assert (len(door.made[0]), door.straight) == (0, 3)


def test_a_reload_begins_anew_and_a_closed_mesh_lets_nobody_in():
    door = Door(True)
    for resources in (CONFIGURATIONS[4], CONFIGURATIONS[4]):
        door.served.mesh.apply(resources)
        assert door.ask(scope_of(ANN_ASKS))[0]["status"] == 200
    assert [len(met) for met in door.made] == [1, 1]
    door.served.mesh.close()
    assert door.ask(scope_of(ANN_ASKS))[0]["status"] == 503


def test_the_peer_of_each_request_is_asked_for_anew():
    """A root is dropped: the identity is gone, and with it what was let in by it."""
    door = Door(True)
    door.served.mesh.apply(CONFIGURATIONS[7])
    statuses = [door.ask(scope_of(ANN_ASKS))[0]["status"] for _ in range(3)]
    assert (statuses, len(door.made[0])) == ([200] * 3, 1)
    door.door._peer_of = lambda _tls: Peer(None, True)  # type: ignore[attr-defined, assignment]
    door.door._request_of = requests_of(door.door._peer_of, None)  # type: ignore[attr-defined]
    assert door.ask(scope_of(ANN_ASKS))[0]["status"] == 403


def test_headers_that_a_server_gives_otherwise_are_not_remembered():
    door = Door(True)
    for headers in (((b"host", b"a"),), [[b"host", b"a"]], iter([(b"host", b"a")])):
        assert door.ask({**http_scope("/a"), "headers": headers, "raw_path": None})[0]["status"] == 200


def test_while_nobody_looks_no_key_is_made_of_a_request(monkeypatch):
    door = Door(True)
    door.ask(http_scope("/a"))
    (met,) = door.made
    met.of, met._left = None, 2

    def line(_scope: Any) -> Any:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(middleware, "LINE", line)
        assert [door.ask(http_scope("/a"))[0]["status"] for _ in range(2)] == [200, 200]
        assert [one.met for one in met._found.values()] == [False]
    assert door.ask(http_scope("/a"))[0]["status"] == 200
    assert ([one.met for one in met._found.values()], door.straight) == ([True], 4)


@pytest.mark.parametrize("configuration", [[], [authentication()]])
def test_where_all_is_checked_a_request_is_read_once(configuration, monkeypatch):
    """What is read of one that nobody checks would be read in vain."""
    door, asked = Door(False), []
    door.served.mesh.apply(configuration)
    door.ask(http_scope("/a"))
    monkeypatch.setattr(middleware, "told_of", asked.append)
    assert door.ask(http_scope("/a"))[0]["status"] == 200
    assert (len(asked), door.straight) == (1 - len(configuration), 2)
