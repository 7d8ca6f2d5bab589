"""ASGI applications driven without sockets: what a server would hand in, and what it would be given to send."""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry

import meshlib
from meshlib.engine.inbound_state import BoundInbound, BoundPorts
from meshlib.identity.peers import Peers
from meshlib.policy.refusal import Refusal
from meshlib.transport.asgi.peer import peers_of
from meshlib.transport.asgi.request import AsgiRequest, requests_of

DENIED = Refusal(403, "RBAC: access denied", detail="rbac_access_denied_matched_policy[none]")
HOST = (b"host", b"shop.test")


def http_scope(target: str = "/", *headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    """A scope as uvicorn makes it."""
    raw, _, query = target.partition("?")
    made: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": raw,
        "raw_path": raw.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [*([] if any(name == b"host" for name, _ in headers) else [HOST]), *headers],
        "client": ("10.1.2.3", 4711),
        "server": ("10.9.9.9", 8000),
        "state": {},
    }
    return {**made, **more}


def ws_scope(target: str = "/", *headers: tuple[bytes, bytes], **more: Any) -> dict[str, Any]:
    made = http_scope(target, *headers, scheme="ws", subprotocols=[], **more)
    del made["method"]
    return {**made, "type": "websocket"}


def request_of(scope: Any, receive: Any, port: int | None = None) -> AsgiRequest:
    """The request of a scope, as a door of a mesh without an identity makes it."""
    return requests_of(peers_of(Peers(None)), port)(scope, receive)


class Client:
    """The server's side: ``says`` are the messages that ``receive`` gives, then it waits for ever; ``got`` is what was sent."""

    def __init__(self, *says: dict[str, Any]) -> None:
        self.says = list(says)
        self.got: list[dict[str, Any]] = []
        self.reads = 0

    async def receive(self) -> dict[str, Any]:
        self.reads += 1
        if self.says:
            return self.says.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: dict[str, Any]) -> None:
        self.got.append(message)

    @property
    def status(self) -> int:
        return next(m["status"] for m in self.got if m["type"].endswith("response.start"))

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(next(m["headers"] for m in self.got if m["type"].endswith("response.start")))

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.got if m["type"].endswith("response.body"))


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


DISCONNECT = {"type": "http.disconnect"}


async def ask(app: Any, scope: dict[str, Any] | None = None, *says: dict[str, Any]) -> Client:
    """One request to its end."""
    client = Client(*(says or (body(),)))
    await app(scope or http_scope(), client.receive, client.send)
    return client


def responds(status: int = 200, data: bytes = b"hello", headers: Any = ()) -> Any:
    """An application."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": data})

    return app


class Served:
    """A mesh with a registry of its own."""

    def __init__(self, *resources: dict[str, Any], **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.mesh = meshlib.Mesh.from_resources(list(resources), registry=self.registry, **options)

    def checks(self, *checks: Any) -> None:
        """Plug in checks, before the faults of the mesh's resources."""
        live = self.mesh._core.live
        assert live is not None
        live.inbound = BoundPorts(BoundInbound(live.snapshot.inbound.default, checks))

    def denies(self) -> None:
        self.checks(lambda _request: DENIED)

    def counted(self) -> list[tuple[str, str]]:
        """(status, flags) of the requests that were served."""
        return [
            (s.labels["response_code"], s.labels["response_flags"])
            for family in self.registry.collect()
            for s in family.samples
            if s.name == "istio_requests_total"
            for _ in range(int(s.value))
        ]

    def sample(self, name: str, **labels: str) -> float | None:
        """The sum of the samples of this name that have these labels."""
        found = [
            s.value
            for family in self.registry.collect()
            for s in family.samples
            if s.name == name and labels.items() <= s.labels.items()
        ]
        return sum(found) if found else None
