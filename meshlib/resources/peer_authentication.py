"""PeerAuthentication (security.istio.io), every field of Istio's schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from meshlib.resources.base import Model, NothingIsEmpty, Resource
from meshlib.resources.notices import Notice
from meshlib.resources.selection import Selector
from meshlib.resources.types import names
from meshlib.resources.validation import peer_authentication as rules


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

    def refusals(self) -> Iterator[Notice]:
        """See ``validation/peer_authentication.py``."""
        return rules.refusals(self)

    def notices(self) -> list[Notice]:
        """What Istio warns of, beside old spellings."""
        return [*super().notices(), *rules.warnings(self)]
