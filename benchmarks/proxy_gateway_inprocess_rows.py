"""One request through a gateway in this process, in plain text (what TLS adds, row ``proxy-inbound-inprocess`` has): what the
edge itself costs, without the kernel."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import meshlib
from benchmarks.measure import Row
from benchmarks.proxy_inbound_inprocess_rows import Plain, Scene, row
from benchmarks.proxy_inprocess_rows import turn_of
from benchmarks.proxy_load import FEW, MANY
from meshlib.compiler.gateway_model import GatewayChoice
from meshlib.proxy.forward import Forwarder
from meshlib.proxy.gateway_listener import GatewayListener
from meshlib.proxy.gateway_tls import Contexts

ISTIO = "networking.istio.io/v1"
LABELS = {"istio": "ingress"}


def gateway_in_process(quick: bool) -> list[Row]:
    """Of both shapes of requests."""
    return asyncio.run(_measure(quick))


async def _measure(quick: bool) -> list[Row]:
    made = []
    ingress = meshlib.Workload("ingress", labels=LABELS)
    with (
        socket.socket() as sock,
        meshlib.Mesh.from_resources(
            RESOURCES, seed=1, workload=ingress, gateways=GatewayChoice(), https_rules="istio"
        ) as mesh,
    ):
        core = mesh._core
        live = core.live
        assert live is not None
        (place,) = live.snapshot.gateway
        for shape in (FEW, MANY):
            forwarder = Forwarder(core)
            turn_of(forwarder)
            listener = GatewayListener(sock, forwarder, place, Contexts(core))
            scene = Scene(mesh, live, forwarder, Plain(listener.behind()))
            made.append(row(f"gateway, one request in process, {shape}", scene, shape, 3 if quick else 20))
    return made


def _of(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": ISTIO,
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


RESOURCES = (
    _of(
        "Gateway",
        "gw",
        {
            "selector": LABELS,
            "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
        },
    ),
    _of(
        "VirtualService",
        "all",
        {
            "hosts": ["*"],
            "gateways": ["gw"],
            "http": [{"route": [{"destination": {"host": "backend.test", "port": {"number": 8000}}}]}],
        },
    ),
    _of(
        "ServiceEntry",
        "backend",
        {
            "hosts": ["backend.test"],
            "resolution": "STATIC",
            "ports": [{"number": 8000, "name": "http", "protocol": "HTTP"}],
            "endpoints": [{"address": "127.0.0.1", "ports": {"http": 9}}],
        },
    ),
)
"""A Gateway with one server, in front of one endpoint."""
