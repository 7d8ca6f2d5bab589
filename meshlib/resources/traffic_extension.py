"""TrafficExtension (extensions.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Annotated, Literal

from meshlib.resources.base import Model, Resource
from meshlib.resources.extension_match import ExtensionMatch
from meshlib.resources.selection import Selector, TargetRef
from meshlib.resources.types import names


class Lua(Model):
    """``spec.lua`` of TrafficExtension."""

    inline_code: str


class Env(Model):
    """``spec.wasm.vmConfig.env`` of TrafficExtension."""

    name: str | None = None
    value: str | None = None
    value_from: Annotated[Literal["INLINE", "HOST"], names("INLINE", "HOST")] | None = None


class VmConfig(Model):
    """``spec.wasm.vmConfig`` of TrafficExtension."""

    env: list[Env] | None = None


class Wasm(Model):
    """``spec.wasm`` of TrafficExtension."""

    url: str | None = None
    fail_strategy: (
        Annotated[Literal["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"], names("FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD")]
        | None
    ) = None
    image_pull_policy: (
        Annotated[
            Literal["UNSPECIFIED_POLICY", "IfNotPresent", "Always"],
            names("UNSPECIFIED_POLICY", "IfNotPresent", "Always"),
        ]
        | None
    ) = None
    image_pull_secret: str | None = None
    plugin_config: dict[str, object] | None = None
    plugin_name: str | None = None
    sha256: str | None = None
    type: (
        Annotated[
            Literal["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"], names("UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK")
        ]
        | None
    ) = None
    verification_key: str | None = None
    vm_config: VmConfig | None = None


class TrafficExtensionSpec(Model):
    """``spec`` of TrafficExtension."""

    lua: Lua | None = None
    match: list[ExtensionMatch] | None = None
    phase: (
        Annotated[Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"], names("UNSPECIFIED", "AUTHN", "AUTHZ", "STATS")]
        | None
    ) = None
    priority: int | None = None
    selector: Selector | None = None
    target_refs: list[TargetRef] | None = None
    wasm: Wasm | None = None


class TrafficExtension(Resource):
    """Istio's TrafficExtension."""

    kind: Literal["TrafficExtension"]
    spec: TrafficExtensionSpec
    status: object = None
