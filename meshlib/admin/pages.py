"""Which page is where."""

from __future__ import annotations

import html
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from meshlib.admin.calls import calls_page, hosts_page
from meshlib.admin.certs import certs_page
from meshlib.admin.clusters import clusters_page
from meshlib.admin.config_dump import config_dump_page
from meshlib.admin.page import HTML, JSON, Page, as_json, text
from meshlib.admin.request import AdminRequest
from meshlib.admin.stats import prometheus_page, stats_page

if TYPE_CHECKING:
    from meshlib.admin.seen import Seen

LIVE = "LIVE"


def respond(seen: Seen, request: AdminRequest) -> Page:
    """The page that is asked for."""
    found = PAGES.get(request.path) or PAGES.get(request.path.removesuffix("/"))
    if found is None:
        return text(f"there is no page {request.path[:200]!r} here; / lists them\n", 404)
    page, _ = found
    return page(seen, request)


def not_ready(seen: Seen) -> str:
    """Why calls cannot be made or served as they should be; "" when they can."""
    core = seen.core
    if core.live is None:
        return "the mesh is closed"
    if core.identity is not None and not core.identity.ready:
        return "the mesh has no certificate that is valid now"
    return ""


def _wants_json(request: AdminRequest) -> bool:
    return request.query.get("format") == "json"


def _ready(seen: Seen, _request: AdminRequest) -> Page:
    why = not_ready(seen)
    return text(f"{why or LIVE}\n", 503 if why else 200)


def _server_info(seen: Seen, _request: AdminRequest) -> Page:
    workload, live = seen.workload, seen.core.live
    return as_json(
        {
            "version": f"meshlib/{version('sidecarless')}/{platform.python_implementation()} {platform.python_version()}",
            "state": "LIVE" if not not_ready(seen) else "INITIALIZING" if live is not None else "DRAINING",
            "pid": os.getpid(),
            "config_version": "" if live is None else live.snapshot.version,
            "uptime_current_epoch": f"{max(0.0, seen.core.clock.monotonic() - seen.began):.0f}s",
            "platform": sys.platform,
            "node": {
                "id": f"{workload.name}.{workload.namespace}",
                "cluster": workload.cluster,
                "metadata": {
                    "WORKLOAD_NAME": workload.name,
                    "NAMESPACE": workload.namespace,
                    "LABELS": dict(workload.labels),
                },
            },
        }
    )


def _status(seen: Seen, _request: AdminRequest) -> Page:
    return Page((json.dumps(value).encode() + b"\n" for value in (seen.status(),)), JSON)


def _clusters(seen: Seen, request: AdminRequest) -> Page:
    return clusters_page(seen, as_json=_wants_json(request))


def _config_dump(seen: Seen, _request: AdminRequest) -> Page:
    return config_dump_page(seen)


def _calls(seen: Seen, request: AdminRequest) -> Page:
    return calls_page(seen, request.query)


def _hosts(seen: Seen, _request: AdminRequest) -> Page:
    return hosts_page(seen)


def _certs(seen: Seen, _request: AdminRequest) -> Page:
    return certs_page(seen)


def _prometheus(seen: Seen, request: AdminRequest) -> Page:
    return prometheus_page(seen, request.accept)


def _stats(seen: Seen, request: AdminRequest) -> Page:
    if request.query.get("format") == "prometheus":
        return prometheus_page(seen, request.accept)
    return stats_page(seen, as_json=_wants_json(request))


def _index(seen: Seen, _request: AdminRequest) -> Page:
    return index_page(seen, {path: what for path, (_, what) in PAGES.items() if what})


def index_page(seen: Seen, pages: Mapping[str, str]) -> Page:
    """What there is, by path; one that changes something ("POST /path") is no link."""
    links = {path: f'<a href="{path}">{path}</a>' if path[0] == "/" else path for path in pages}
    rows = "".join(f"<tr><td>{links[path]}</td><td>{html.escape(what)}</td></tr>" for path, what in pages.items())
    name = html.escape(f"{seen.workload.name}.{seen.workload.namespace}")
    return text(
        f"<!doctype html><meta charset=utf-8><title>meshlib {name}</title>"
        "<style>body{font:15px/1.5 system-ui,sans-serif;margin:2rem}td{padding:.2rem 1rem .2rem 0}</style>"
        f"<h1>meshlib: {name}</h1><p>process {os.getpid()}</p><table>{rows}</table>\n",
        kind=HTML,
    )


PAGES: dict[str, tuple[Callable[[Seen, AdminRequest], Page], str]] = {
    "/": (_index, ""),
    "/clusters": (_clusters, "clusters and their endpoints; ?format=json"),
    "/config_dump": (_config_dump, "the configuration in force, in Envoy's shape, and its resources"),
    "/calls": (_calls, "the last calls, attempt by attempt; ?match=HOST or ROUTE, ?failed, ?limit=N"),
    "/hosts": (_hosts, "calls, errors and durations by host"),
    "/status": (_status, "mesh.status() as JSON"),
    "/stats": (_stats, "counts as text; ?format=json, ?format=prometheus"),
    "/stats/prometheus": (_prometheus, "metrics for Prometheus"),
    "/certs": (_certs, "certificates in use, and when they expire"),
    "/server_info": (_server_info, "version, state and workload"),
    "/healthz/ready": (_ready, "200 LIVE, or 503 and why not"),
    "/ready": (_ready, "the same, by Envoy's name"),
}
"""By path: what makes it, and its line on the index page ("": none)."""
