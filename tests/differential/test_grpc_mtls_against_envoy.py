"""A real Envoy with its SPIFFE validator calls our gRPC server and is called by our gRPC client, by resources of Istio's."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import meshlib
from benchmarks.free_ports import free_port
from meshlib.ca.store import Store
from meshlib.clock import SystemClock
from meshlib.demo.secure.play.envoy_config import PEER, Outbound, Sidecar, write
from meshlib.identity.identity import Identity
from tests.differential.envoy_process import running
from tests.support.grpc_mtls import CLIENT, SERVER, WHO, ByHand, ask, peer_authentication, served
from tests.support.grpc_runtimes import HOST, TARGET, entry
from tests.support.resources import destination_rule

ENVOY = "spiffe://cluster.local/ns/default/sa/envoy"
HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}
OFFER = ("istio-h2", "istio", "h2")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "ca", "cluster.local", SystemClock())


def identity() -> tuple[Identity, ByHand]:
    source = ByHand()
    return Identity(source), source


def publish(store: Store, source: ByHand, name: str) -> None:
    source.publish(store.issue(name).svid, store.current().bundles)


class Beside:
    """The Envoy: ``inbound`` wants mTLS and leads to ``application``, ``outbound`` leads over mTLS to ``upstream``."""

    def __init__(self, store: Store, folder: Path, upstream: int, application: int, server: str = SERVER) -> None:
        self.inbound, self.outbound, self.admin = free_port(), free_port(), free_port()
        folder.mkdir()
        leads = [Outbound(self.outbound, upstream, server, alpn=OFFER)]
        sidecar = Sidecar(store.issue(ENVOY).folder, "cluster.local", self.admin, self.inbound, application, leads)
        made: dict[str, Any] = json.loads(write(folder, sidecar, store.current().bundle_pem.decode()).read_text())
        for cluster in made["static_resources"]["clusters"]:
            cluster["typed_extension_protocol_options"] = HTTP2
        self.config = made


@pytest.fixture
def ours(store: Store) -> Iterator[tuple[int, int]]:
    """The ports of a gRPC server of ours with STRICT mTLS, and of one in plain text."""
    who, source = identity()
    with (
        meshlib.Mesh.from_resources([peer_authentication("STRICT")], identity=who) as strict,
        meshlib.Mesh.from_resources([peer_authentication("DISABLE")]) as plain,
    ):
        publish(store, source, SERVER)
        with served(strict) as (one, _), served(plain) as (two, _):
            yield one, two


@pytest.mark.differential
def test_envoy_calls_our_grpc_server_and_is_called_by_our_grpc_client(
    store: Store, tmp_path: Path, ours: tuple[int, int]
) -> None:
    beside = Beside(store, tmp_path / "envoy", *ours)
    who, source = identity()
    resources = [
        entry(("127.0.0.1", beside.inbound, "v1"), subjectAltNames=[ENVOY]),
        destination_rule(HOST, tls={"mode": "ISTIO_MUTUAL"}),
    ]
    with running(beside.config, beside.admin), meshlib.Mesh.from_resources(resources, identity=who) as mesh:
        assert until(ENVOY, beside.outbound) == ENVOY
        publish(store, source, CLIENT)
        with mesh.grpc_channel(TARGET) as channel:
            for _ in range(3):  # certificates are renewed, and calls go on
                response, call = channel.unary_unary(WHO).with_call(b"", timeout=30)
                assert response == b"nobody"  # behind Envoy it is plain text
                assert dict(call.initial_metadata())[PEER] == CLIENT
                publish(store, source, CLIENT)


@pytest.mark.differential
def test_neither_takes_somebody_else_for_the_server(store: Store, tmp_path: Path, ours: tuple[int, int]) -> None:
    beside = Beside(store, tmp_path / "envoy", *ours, server="spiffe://cluster.local/ns/default/sa/other")
    who, source = identity()
    resources = [
        entry(("127.0.0.1", beside.inbound, "v1"), subjectAltNames=[SERVER]),
        destination_rule(HOST, tls={"mode": "ISTIO_MUTUAL"}),
    ]
    with running(beside.config, beside.admin), meshlib.Mesh.from_resources(resources, identity=who) as mesh:
        assert ask(beside.outbound) == "UNAVAILABLE"
        publish(store, source, CLIENT)
        with mesh.grpc_channel(TARGET) as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(WHO)(b"", timeout=30)
        assert f"the server is {ENVOY}; only {SERVER} may serve this host" in caught.value.details()


def until(wanted: str, port: int) -> str:
    """What a call gives once Envoy has read its files."""
    by = time.monotonic() + 60
    while (found := ask(port)) != wanted and time.monotonic() < by:
        time.sleep(0.05)
    return found
