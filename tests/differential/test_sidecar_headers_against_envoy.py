"""What an application sees behind the inbound side of ``meshlib proxy``, and behind a real Envoy with the listeners that istiod
makes for a sidecar: the same headers, in plain text and over mTLS, for each forwardClientCertDetails."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

import meshlib
from meshlib.policy.forwarded_client_cert import ForwardClientCert
from meshlib.policy.sidecar_headers import NOT_BELIEVED
from tests.differential.envoy_process import require_envoy
from tests.differential.inbound_envoy import HeadEcho, ask, free_port, inbound_envoy, listener, mutual
from tests.support.credential_files import Files
from tests.support.h2_client import Answer, H2Client
from tests.support.identities import ByHand, World
from tests.support.inbound_proxy import InboundProxy
from tests.support.mesh_config import mesh_config
from tests.support.proxy import Proxy
from tests.support.resources import pod, service

CASES = 120
MODES = [mode.value for mode in ForwardClientCert]
ADDRESSES = [b"10.0.0.1", b"1.2.3.4", b"127.0.0.1, 1.2.3.4", b"unknown", b"", b"::1", b"1.2.3.4:80"]
VALUES: dict[bytes, list[bytes]] = {
    b"X-Forwarded-For": ADDRESSES,
    b"x-forwarded-proto": [b"http", b"https", b"ftp"],  # an empty one: docs/parity.md
    b"X-Forwarded-Host": [b"a"],
    b"X-Forwarded-Port": [b"1"],
    b"Forwarded": [b"for=1.2.3.4"],
    b"X-Forwarded-Client-Cert": [b"By=a;Hash=b", b'URI=spiffe://cluster.local/ns/a/sa/admin;Subject="x,y"', b""],
    **{name: [b"1", b"true", b"5xx"] for name in sorted(NOT_BELIEVED)},
    b"X-Envoy-External-Address": [b"1.2.3.4"],
    b"x-envoy-original-path": [b"/a"],
    b"x-envoy-attempt-count": [b"3"],
    b"X-Envoy-Downstream-Service-Cluster": [b"a"],
    b"x-request-id": [b"0af76519-16cd-43dd-8448-eb211c80319c", b"mine"],
    b"Connection": [b"keep-alive", b"keep-alive, x-named", b"close"],
    b"X-Named": [b"1"],
    b"Keep-Alive": [b"timeout=5"],
    b"Proxy-Connection": [b"keep-alive"],
    b"Authorization": [b"Bearer x"],
    b"Cookie": [b"a=b"],
    b"X-Mine": [b"", b"1", b"a,b", b"\xe9"],
}


def cases() -> Iterator[tuple[str, bool, bytes]]:
    rng = random.Random(20261126)
    for _ in range(CASES):
        lines = [b"Host: reviews:9080"]
        for name in rng.sample(list(VALUES), rng.randrange(7)):
            times = (
                2 if name in (b"X-Forwarded-For", b"X-Forwarded-Client-Cert", b"X-Mine") and rng.random() < 0.3 else 1
            )
            lines += [name + b": " + rng.choice(VALUES[name]) for _ in range(times)]
        rng.shuffle(lines)
        yield rng.choice(MODES), rng.random() < 0.4, b"GET /a/b?c=d HTTP/1.1\r\n%b\r\n\r\n" % b"\r\n".join(lines)


def seen(answer: tuple[bytes, bytes]) -> tuple[bytes, dict[bytes, bytes]]:
    """The request line and the headers that the application saw: repeated ones joined, as Envoy does with most."""
    head, body = answer
    assert head.startswith(b"HTTP/1.1 200"), head
    first, *lines = body.split(b"\r\n")
    found: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        found.setdefault(name.lower(), []).append(value.strip())
    joined = {name: b",".join(value for value in values if value) for name, values in found.items()}
    if joined.get(b"x-request-id", b"").count(b"-") == 4 and b"0af76519" not in joined[b"x-request-id"]:
        joined[b"x-request-id"] = b"made"
    return first, joined


def identity_of(world: World) -> meshlib.Identity:
    """A mesh has one of its own; the certificate is Envoy's."""
    source = ByHand()
    source.publish(world.svid, world.bundles())  # type: ignore[attr-defined]
    return meshlib.Identity(source)


@pytest.fixture(scope="module")
def world() -> World:
    made = World(of_a_mesh=True)
    made.svid = made.rotate()  # type: ignore[attr-defined]
    return made


@pytest.fixture(scope="module")
def sides(world: World, tmp_path_factory: Any) -> Iterator[dict[tuple[str, bool], tuple[int, int]]]:
    """By mode and whether over mTLS: Envoy's port and ours."""
    require_envoy()
    files = Files(tmp_path_factory.mktemp("envoy"))
    files.write(world.svid, world.root)  # type: ignore[attr-defined]
    tls = mutual(str(files.certificate), str(files.key), str(files.bundle))
    ports = {(mode, secure): free_port() for mode in MODES for secure in (False, True)}
    listeners = [
        listener(f"{mode}{secure}", port, {"forward_client_cert_details": mode}, tls if secure else None)
        for (mode, secure), port in ports.items()
    ]
    proxies = []
    with HeadEcho() as app, inbound_envoy(listeners, app.port):
        try:
            for mode in MODES:
                mesh = mesh_config(defaultConfig={"proxyHeaders": {"forwardedClientCert": mode}})
                proxies.append(InboundProxy(app.port, mesh, identity=identity_of(world), policy_port=9080).__enter__())
            ours = dict(zip(MODES, proxies, strict=True))
            yield {(mode, secure): (port, ours[mode].port) for (mode, secure), port in ports.items()}
        finally:
            for proxy in proxies:
                proxy.__exit__(None, None, None)


def test_the_application_sees_the_same_headers(world: World, sides: dict[tuple[str, bool], tuple[int, int]]):
    context = world.client()
    context.check_hostname = False
    differ = []
    for mode, secure, request in cases():
        envoy, ours = (seen(ask(port, request, context if secure else None)) for port in sides[mode, secure])
        if envoy != ours:
            differ.append((mode, secure, request, envoy, ours))
    assert not differ, f"{len(differ)} of {CASES}, the first: {differ[0]}"


def over_http2(port: int, request: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """``seen``, of the same request over HTTP/2 by prior knowledge."""
    first, *lines = request.split(b"\r\n")[:-2]
    headers = [(":method", "GET"), (":scheme", "http"), (":authority", "reviews:9080"), (":path", "/a/b?c=d")]
    for line in lines:
        name, _, value = line.partition(b": ")
        if name.lower() not in NOT_IN_HTTP2:
            headers.append((name.lower().decode(), value.decode("latin-1")))
    with H2Client(port) as client:
        stream = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream, headers, end_stream=True)
        client.answers[stream] = Answer()
        client.flush()
        answer = client.answer(stream)
    return seen((b"HTTP/1.1 %d" % answer.status, bytes(answer.body)))


NOT_IN_HTTP2 = (b"host", b"connection", b"keep-alive", b"proxy-connection")


def test_the_application_sees_the_same_headers_of_what_came_over_http2(sides: dict[tuple[str, bool], tuple[int, int]]):
    differ = []
    for mode, _, request in cases():
        if b"\xe9" in request:
            continue  # the client of these tests speaks ASCII
        envoy, ours = (over_http2(port, request) for port in sides[mode, False])
        if envoy != ours:
            differ.append((mode, request, envoy, ours))
    assert not differ, f"{len(differ)} of {CASES}, the first: {differ[0]}"


def test_an_upstream_sees_the_same_headers_of_what_an_application_sends():
    """On the way out: by the listener of Istio's outbound side."""
    require_envoy()
    port, differ = free_port(), []
    out = listener("outbound", port, {"forward_client_cert_details": "SANITIZE", "server_name": "envoy"})
    with HeadEcho() as app, inbound_envoy([out], app.port):
        mesh = [service("reviews"), pod("reviews", "v1", app.port)]
        with Proxy(mesh) as proxy:
            for _, _, request in cases():
                envoy, ours = (seen(ask(each, request)) for each in (port, proxy.port))
                for _, headers in (envoy, ours):
                    headers.pop(b"x-envoy-attempt-count", None)  # counted by the virtual host
                if envoy != ours:
                    differ.append((request, envoy, ours))
    assert not differ, f"{len(differ)} of {CASES}, the first: {differ[0]}"


def test_the_response_says_the_same_of_who_has_sent_it(sides: dict[tuple[str, bool], tuple[int, int]]):
    heads = []
    for port in sides["APPEND_FORWARD", False]:
        head, _ = ask(port, b"GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
        lines = [line.split(b": ") for line in head.split(b"\r\n")[1:]]
        assert {len(line) for line in lines} == {2}
        heads.append({name: value if name == b"server" else b"" for name, value in lines})
    assert heads[0] == heads[1]


@pytest.mark.parametrize(("upgrade", "status"), [(b"websocket", b"200"), (b"foo", b"403"), (b"WebSocket", b"200")])
def test_the_same_protocols_may_be_asked_for(sides: dict[tuple[str, bool], tuple[int, int]], upgrade, status):
    request = b"GET / HTTP/1.1\r\nHost: reviews\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % upgrade
    answers = [ask(port, request)[0].split(b" ")[1] for port in sides["APPEND_FORWARD", False]]
    assert answers == [status, status]
