"""What an upstream sees behind a gateway of ``meshlib proxy``, and behind a real Envoy with the listeners that istiod makes for
a gateway: the same headers, in plain text and over TLS with a client's certificate, for each gatewayTopology."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from meshlib.policy.forwarded_client_cert import ForwardClientCert
from tests.differential.envoy_process import require_envoy
from tests.differential.inbound_envoy import HeadEcho, ask, free_port, inbound_envoy, listener, mutual
from tests.differential.test_sidecar_headers_against_envoy import VALUES, seen
from tests.support.gateway_certificates import certificate_pem, client, key_pem, leaf, root, tls_secret
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.mesh_config import mesh_config
from tests.support.resources import service_entry, to, virtual_service

CASES = 150
HOPS = (0, 1, 2)
MODES = [mode.value for mode in ForwardClientCert]
DETAILS = {"subject": True, "cert": True, "uri": True, "dns": True}
SHOP, SOMEBODY = leaf("reviews"), leaf("spiffe://x/somebody", "somebody.test")
ADDRESSES = [
    b"10.0.0.1",
    b"1.2.3.4",
    b"5.6.7.8, 1.2.3.4",
    b"a, b,1.2.3.4 ,9.9.9.9",
    b"::1",
    b"2001:db8::1,1.1.1.1",
    b"unknown",
]
OFFERED = {
    **VALUES,
    b"X-Forwarded-For": ADDRESSES,
    b"x-forwarded-proto": [b"http", b"https"],  # others: docs/parity.md
    b"x-envoy-decorator-operation": [b"op"],
    b"X-Envoy-Internal": [b"true"],
    b"x-envoy-original-host": [b"other"],
    b"x-envoy-upstream-stream-duration-ms": [b"30000"],
    b"x-envoy-external-address": [b"1.2.3.4"],
}
OURS_ALONE = (b"x-envoy-attempt-count",)
"""istiod has the virtual hosts of gateways count attempts; the Envoy here does not."""


def cases() -> Iterator[tuple[int, str, bool, bytes]]:
    rng = random.Random(20261127)
    for _ in range(CASES):
        lines = [b"Host: reviews"]
        for name in rng.sample(list(OFFERED), rng.randrange(7)):
            times = 2 if name in (b"X-Forwarded-For", b"X-Forwarded-Client-Cert") and rng.random() < 0.3 else 1
            lines += [name + b": " + rng.choice(OFFERED[name]) for _ in range(times)]
        rng.shuffle(lines)
        request = b"GET /a/b?c=d HTTP/1.1\r\n%b\r\n\r\n" % b"\r\n".join(lines)
        yield rng.choice(HOPS), rng.choice(MODES), rng.random() < 0.4, request


def at_the_edge(answer: tuple[bytes, bytes]) -> tuple[bytes, dict[bytes, bytes]]:
    """``seen``, without what must differ: Envoy appends its machine's address in place of a loopback one (docs/parity.md)."""
    first, headers = seen(answer)
    before, comma, _ = headers.get(b"x-forwarded-for", b"").rpartition(b",")
    headers[b"x-forwarded-for"] = before + comma + b"peer"
    for name in OURS_ALONE:
        headers.pop(name, None)
    return first, headers


@pytest.fixture(scope="module")
def sides(tmp_path_factory: Any) -> Iterator[dict[tuple[int, str, bool], tuple[int, int]]]:
    """By trusted proxies, mode and whether over TLS: Envoy's port and ours."""
    require_envoy()
    folder = tmp_path_factory.mktemp("envoy")
    files = {"cert": certificate_pem(SHOP), "key": key_pem(SHOP), "ca": certificate_pem(root("root"))}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    tls = mutual(*(str(folder / name) for name in files))
    ports = {(hops, mode, secure): free_port() for hops in HOPS for mode in MODES for secure in (False, True)}
    listeners = [
        listener(
            f"{hops}{mode}{secure}",
            port,
            {
                "use_remote_address": True,
                "xff_num_trusted_hops": hops,
                "forward_client_cert_details": mode,
                "set_current_client_cert_details": DETAILS,
            },
            tls if secure else None,
        )
        for (hops, mode, secure), port in ports.items()
    ]
    ours: dict[tuple[int, str], Gateway] = {}
    with HeadEcho() as app, inbound_envoy(listeners, app.port):
        try:
            for hops in HOPS:
                for mode in MODES:
                    ours[hops, mode] = _gateway(app.port, hops, mode).__enter__()
            yield {
                (hops, mode, secure): (port, ours[hops, mode].port(443 if secure else 80))
                for (hops, mode, secure), port in ports.items()
            }
        finally:
            for each in ours.values():
                each.__exit__(None, None, None)


def _gateway(app: int, hops: int, mode: str) -> Gateway:
    topology = {"numTrustedProxies": hops, "forwardClientCertDetails": mode}
    return Gateway(
        mesh_config(defaultConfig={"gatewayTopology": topology}),
        tls_secret("reviews", SHOP, root("root")),
        gateway(
            server("*"),
            server("*", port=443, protocol="HTTPS", tls={"mode": "MUTUAL", "credentialName": "reviews"}),
        ),
        service_entry(
            "app",
            "app.internal.test",
            ports=[{"number": 8000, "name": "http", "protocol": "HTTP"}],
            resolution="STATIC",
            endpoints=[{"address": "127.0.0.1", "ports": {"http": app}}],
        ),
        virtual_service("reviews", {"route": [to("app.internal.test", port=8000)]}, hosts=["*"], gateways=["gw"]),
    )


def test_the_upstream_sees_the_same_headers(sides: dict[tuple[int, str, bool], tuple[int, int]]):
    context = client(SOMEBODY)
    context.check_hostname = False
    differ = []
    for hops, mode, secure, request in cases():
        envoy, ours = (
            at_the_edge(ask(port, request, context if secure else None)) for port in sides[hops, mode, secure]
        )
        if envoy != ours:
            differ.append((hops, mode, secure, request, envoy, ours))
    assert not differ, f"{len(differ)} of {CASES}, the first: {differ[0]}"
