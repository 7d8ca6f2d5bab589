"""PeerAuthentication (security.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from meshlib.resources.base import Model, Resource
from meshlib.resources.types import names


class Mtls(Model):
    """``spec.mtls`` of PeerAuthentication."""

    mode: (
        Annotated[
            Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"], names("UNSET", "DISABLE", "PERMISSIVE", "STRICT")
        ]
        | None
    ) = None


class Selector(Model):
    """``spec.selector`` of PeerAuthentication."""

    match_labels: dict[str, str] | None = None


class PeerAuthenticationSpec(Model):
    """``spec`` of PeerAuthentication."""

    mtls: Mtls | None = None
    port_level_mtls: dict[str, Mtls] | None = None
    selector: Selector | None = None


class PeerAuthentication(Resource):
    """Istio's PeerAuthentication."""

    kind: Literal["PeerAuthentication"]
    spec: PeerAuthenticationSpec
    status: Any = None
