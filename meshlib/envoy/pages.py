"""The admin pages of a proxy whose engine is Envoy: Envoy's own, passed through, and what concerns the process as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlencode

from meshlib.admin.page import Page, as_json, text, whole
from meshlib.proxy.pages import DRAIN, QUIT

if TYPE_CHECKING:
    from meshlib.admin.request import AdminRequest
    from meshlib.envoy.child import EnvoyAdmin

STATUS = "/status"
READY = ("/ready", "/healthz/ready")
OK = "OK\n"
INDEX = """Envoy is the engine of this proxy. Its own pages, such as /clusters /config_dump /listeners /server_info /stats
/stats/prometheus /certs, are Envoy's (/help lists them); those that change something take POST with Envoy, and are not
passed on.

/status              the version of the configuration that Envoy has taken
/ready               whether requests are served; /healthz/ready
POST /drain_listeners  accept no more connections
POST /quitquitquit     drain and end, as at SIGTERM
"""


class Controls(Protocol):
    """The process, from another thread."""

    def version(self) -> str:
        """Of the configuration that Envoy has taken last, as ``meshlib status`` calls it; "" before the first."""
        ...

    def why_not_ready(self) -> str:
        """Why no requests should be sent here; "" when they may."""
        ...

    def drain_listeners(self) -> None:
        """Accept no more."""
        ...

    def quit(self) -> None:
        """Drain and end, as at SIGTERM."""
        ...


def envoy_pages(controls: Controls, envoy: EnvoyAdmin) -> Callable[[AdminRequest], Page]:
    """What responds."""

    def pages(request: AdminRequest) -> Page:
        if request.path in READY:
            why = controls.why_not_ready()
            return text(f"{why or 'LIVE'}\n", 503 if why else 200)
        if request.path == STATUS:
            return as_json({"engine": "envoy", "version": controls.version()})
        if request.path == DRAIN:
            controls.drain_listeners()
            return text(OK)
        if request.path == QUIT:
            controls.quit()
            return text(OK)
        if request.path == "/":
            return text(INDEX)
        try:
            found = envoy.ask(_target(request))
        except OSError as error:
            return text(f"Envoy does not respond: {error}\n", 503)
        return whole(found.body, found.kind, found.status)

    return pages


def _target(request: AdminRequest) -> str:
    target = quote(request.path)
    return f"{target}?{urlencode(request.query)}" if request.query else target
