"""RequestAuthentication (security.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PrivateAttr

from meshlib.resources.base import Model, NothingIsEmpty
from meshlib.resources.guarding import Guarding
from meshlib.resources.selection import Selector, TargetRef
from meshlib.resources.types import Duration, names


class FromHeader(Model):
    """``spec.jwtRules.fromHeaders`` of RequestAuthentication."""

    name: str
    prefix: str | None = None


class OutputClaimToHeader(Model):
    """``spec.jwtRules.outputClaimToHeaders`` of RequestAuthentication."""

    claim: str
    header: str


class JwtRule(Model):
    """``spec.jwtRules`` of RequestAuthentication."""

    audiences: list[str] | None = None
    forward_original_token: bool | None = None
    from_cookies: list[str] | None = None
    from_headers: list[FromHeader] | None = None
    from_params: list[str] | None = None
    issuer: str | None = None
    jwks: str | None = Field(default=None, repr=False)  # a private key may be among them, by mistake
    jwks_uri: str | None = Field(default=None, repr=False)  # there may be a password, or a token, in it
    output_claim_to_headers: list[OutputClaimToHeader] | None = None
    output_payload_to_header: str | None = None
    presence: Annotated[Literal["OPTIONAL", "REQUIRED"], names("OPTIONAL", "REQUIRED")] | None = None
    space_delimited_claims: list[str] | None = None
    timeout: Duration | None = None


class RequestAuthenticationSpec(Model):
    """``spec`` of RequestAuthentication."""

    jwt_rules: list[JwtRule] | None = None
    selector: Selector | None = None
    target_ref: TargetRef | None = None
    target_refs: list[TargetRef] | None = None


class RequestAuthentication(Guarding):
    """Istio's RequestAuthentication."""

    kind: Literal["RequestAuthentication"]
    spec: Annotated[RequestAuthenticationSpec, NothingIsEmpty] = Field(default_factory=RequestAuthenticationSpec)
    status: object = None
    _looks_anywhere: bool = PrivateAttr(default=False)

    @property
    def looks_anywhere(self) -> bool:
        """Of what stands for one that could not be read: its rules do not tell all the places where it may have looked for
        tokens, or not all that it may have set or required."""
        return self._looks_anywhere

    @property
    def refuses(self) -> str:
        return super().refuses if self._looks_anywhere else "every token where it may have looked for one is refused"
