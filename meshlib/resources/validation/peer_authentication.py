"""What Istio refuses, or warns of, in a PeerAuthentication whose types are right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused
from meshlib.resources.validation.selection import label_refusals, selector_warnings

if TYPE_CHECKING:
    from meshlib.resources.peer_authentication import PeerAuthentication

_PORTS: Loc = ("spec", "portLevelMtls")
_NUMBER = re.compile(r"[1-9][0-9]{0,4}")


def refusals(resource: PeerAuthentication) -> Iterator[Notice]:
    """Ports are for workloads that a selector names, and are numbers."""
    spec = resource.spec
    labels = spec.selector.match_labels if spec.selector is not None else None
    yield from label_refusals(labels, ("spec", "selector", "matchLabels"))
    if spec.port_level_mtls is None:
        return
    if not spec.port_level_mtls:
        yield refused("empty-ports", _PORTS, "portLevelMtls names no port", "name a port, or leave it out")
    elif not labels:
        yield refused(
            "ports-without-selector",
            _PORTS,
            "a policy for a mesh or a namespace cannot have portLevelMtls",
            "select the workloads that have the port: selector: {matchLabels: {app: ...}}",
        )
    for port in spec.port_level_mtls:
        if not _NUMBER.fullmatch(port) or int(port) > 65535:
            yield refused("bad-port", (*_PORTS, port), f"{port!r} is not a port", "a number 1..65535")


def warnings(resource: PeerAuthentication) -> Iterator[Notice]:
    """A selector of nothing."""
    selector = resource.spec.selector
    if selector is not None:
        yield from selector_warnings(selector.match_labels, ("spec", "selector"))
