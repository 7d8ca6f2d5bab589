"""The rules of a WorkloadGroup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused
from meshlib.resources.validation.labels import labels
from meshlib.resources.validation.protocols import port_number

if TYPE_CHECKING:
    from meshlib.resources.workload_group import HttpGet, Probe, WorkloadGroup

_header_name = re.compile(r"[-A-Za-z0-9]+").fullmatch


def refusals(resource: WorkloadGroup) -> Iterator[Notice]:
    """Labels, and how the health of its workloads is asked for. (Istio looks at the template when workloads come.)"""
    spec = resource.spec
    if spec.metadata is not None:
        yield from labels(spec.metadata.labels, ("spec", "metadata", "labels"))
    if spec.probe is not None:
        yield from _probe(spec.probe, ("spec", "probe"))


def _probe(probe: Probe, loc: Loc) -> Iterator[Notice]:
    if probe.http_get is None and probe.tcp_socket is None and probe.exec is None and probe.grpc is None:
        yield refused("missing-field", loc, "the probe has nothing to ask", "give httpGet, tcpSocket or exec")
    # of several, which the API server refuses, the last one counts
    elif probe.grpc is not None:
        yield refused(
            "not-supported",
            (*loc, "grpc"),
            "Istio's validation does not accept a grpc probe",
            "use httpGet, tcpSocket or exec",
        )
    elif probe.exec is not None:
        if not probe.exec.command:
            yield refused("missing-field", (*loc, "exec"), "exec has no command", "command: [/bin/healthy]")
    elif probe.tcp_socket is not None:
        yield from port_number(probe.tcp_socket.port, (*loc, "tcpSocket", "port"))
    elif probe.http_get is not None:
        yield from _http(probe.http_get, (*loc, "httpGet"))


def _http(probe: HttpGet, loc: Loc) -> Iterator[Notice]:
    yield from port_number(probe.port, (*loc, "port"))
    if probe.scheme not in (None, "", "HTTP", "HTTPS"):
        yield refused("bad-enum", (*loc, "scheme"), f"{probe.scheme!r} is neither HTTP nor HTTPS", "in capital letters")
    for index, header in enumerate(probe.http_headers or ()):
        name = header.name or ""
        if not _header_name(name):
            yield refused(
                "bad-header-name",
                (*loc, "httpHeaders", index, "name"),
                f"{name!r} is not the name of a header",
                "letters, digits and dashes",
            )
