"""The admin pages of a proxy: those of its mesh, and what can be done to the process, at Envoy's paths.

Pages are made in the thread of the admin endpoint; what changes the proxy is handed to its event loop by ``Controls``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from meshlib.admin.clusters import clusters_page
from meshlib.admin.page import JSON, TEXT, Page, as_json, text, whole
from meshlib.admin.pages import PAGES, index_page, not_ready, respond

if TYPE_CHECKING:
    from meshlib.admin.request import AdminRequest
    from meshlib.admin.seen import Seen
    from meshlib.engine.live import Live

DRAIN, QUIT = "/drain_listeners", "/quitquitquit"
CHANGING = frozenset([DRAIN, QUIT])
"""Where POST is taken, and nothing else."""
OK = "OK\n"


class Connected(Protocol):
    """A listener."""

    @property
    def connections(self) -> int: ...
    @property
    def beside(self) -> Live | None:
        """Clusters of its own."""
        ...

    def why_not_ready(self) -> str:
        """Why nobody can be served here; "" when somebody can."""
        ...


class Controls(Protocol):
    """A proxy process, from another thread."""

    @property
    def state(self) -> str:
        """LIVE, DRAINING, as ``Phase`` has them."""
        ...

    def listeners(self) -> Sequence[tuple[str, str, Connected]]:
        """Name and address of each."""
        ...

    def drain_listeners(self, inbound_only: bool) -> None:
        """Accept no more."""
        ...

    def quit(self) -> None:
        """Drain and end, as at SIGTERM."""
        ...


def proxy_pages(controls: Controls) -> Callable[[Seen, AdminRequest], Page]:
    """What responds to the requests of a proxy's admin endpoint."""

    def pages(seen: Seen, request: AdminRequest) -> Page:
        own = OWN.get(request.path)
        return respond(seen, request) if own is None else own(controls, seen, request)

    return pages


def why_not_ready(controls: Controls, seen: Seen) -> str:
    """Why no requests should be sent here; "" when they may."""
    why = not_ready(seen) or (controls.state if controls.state != "LIVE" else "")
    return why or next(filter(None, (each.why_not_ready() for _, _, each in controls.listeners())), "")


def _ready(controls: Controls, seen: Seen, _request: AdminRequest) -> Page:
    why = why_not_ready(controls, seen)
    return text(f"{why or 'LIVE'}\n", 503 if why else 200)


def _server_info(controls: Controls, seen: Seen, request: AdminRequest) -> Page:
    found = json.loads(respond(seen, request).whole or b"{}")
    if controls.state != "LIVE":
        found["state"] = "DRAINING"
    return as_json(found)


def _listeners(controls: Controls, _seen: Seen, request: AdminRequest) -> Page:
    found = controls.listeners()
    if request.query.get("format") == "json":
        rows = [{"name": name, "local_address": where, "connections": each.connections} for name, where, each in found]
        return whole(json.dumps({"listener_statuses": rows}, indent=1).encode() + b"\n", JSON)
    return whole("".join(f"{name}::{where}\n" for name, where, _ in found).encode(), TEXT)


def _clusters(controls: Controls, seen: Seen, request: AdminRequest) -> Page:
    found = dict.fromkeys(each.beside for _, _, each in controls.listeners())  # Istio's inbound ones
    return clusters_page(
        seen, as_json=request.query.get("format") == "json", beside=[live for live in found if live is not None]
    )


def _drain(controls: Controls, _seen: Seen, request: AdminRequest) -> Page:
    controls.drain_listeners("inboundonly" in request.query)
    return text(OK)


def _quit(controls: Controls, _seen: Seen, _request: AdminRequest) -> Page:
    controls.quit()
    return text(OK)


def _index(_controls: Controls, seen: Seen, _request: AdminRequest) -> Page:
    rows = {path: what for path, (_, what) in PAGES.items() if what}
    return index_page(seen, {**rows, **ROWS})


OWN: dict[str, Callable[[Controls, Seen, AdminRequest], Page]] = {
    "/": _index,
    "/ready": _ready,
    "/healthz/ready": _ready,
    "/server_info": _server_info,
    "/listeners": _listeners,
    "/clusters": _clusters,
    DRAIN: _drain,
    QUIT: _quit,
}
ROWS = {
    "/listeners": "where requests are accepted; ?format=json",
    f"POST {DRAIN}": "accept no more connections; ?inboundonly",
    f"POST {QUIT}": "drain and end, as at SIGTERM",
}
