"""PeerAuthentication (security.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from meshlib.resources.base import Model, NothingIsEmpty, Resource
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


class PeerAuthenticationSpec(Model):
    """``spec`` of PeerAuthentication."""

    mtls: Mtls | None = None
    port_level_mtls: dict[str, Mtls] | None = None
    selector: Selector | None = None


class PeerAuthentication(Resource):
    """Istio's PeerAuthentication."""

    kind: Literal["PeerAuthentication"]
    spec: Annotated[PeerAuthenticationSpec, NothingIsEmpty] = Field(default_factory=PeerAuthenticationSpec)
    status: object = None
