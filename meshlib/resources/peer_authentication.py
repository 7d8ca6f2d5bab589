"""PeerAuthentication (security.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from meshlib.resources.base import Model, NothingIsEmpty
from meshlib.resources.guarding import Guarding
from meshlib.resources.selection import Selector
from meshlib.resources.types import names


class Mtls(Model):
    """``spec.mtls`` of PeerAuthentication."""

    mode: (
        Annotated[
            Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"], names("UNSET", "DISABLE", "PERMISSIVE", "STRICT")
        ]
        | None
    ) = None


def _ports_as_text(ports: object) -> object:
    """YAML readers of others' give numbers as keys."""
    if not isinstance(ports, dict):
        return ports
    return {str(port) if type(port) is int else port: mtls for port, mtls in ports.items()}


class PeerAuthenticationSpec(Model):
    """``spec`` of PeerAuthentication."""

    mtls: Mtls | None = None
    port_level_mtls: Annotated[dict[str, Mtls] | None, BeforeValidator(_ports_as_text)] = None
    selector: Selector | None = None


class PeerAuthentication(Guarding):
    """Istio's PeerAuthentication, or what stands for one that cannot be read: STRICT."""

    kind: Literal["PeerAuthentication"]
    spec: Annotated[PeerAuthenticationSpec, NothingIsEmpty] = Field(default_factory=PeerAuthenticationSpec)
    status: object = None

    @property
    def refuses(self) -> str:
        """What is refused while this stands for another, for people."""
        return "plain text is refused (STRICT) at every port that it may be for"
