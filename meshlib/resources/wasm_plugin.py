"""WasmPlugin (extensions.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Annotated, Literal

from meshlib.resources.base import Model, Resource
from meshlib.resources.extension_match import ExtensionMatch
from meshlib.resources.selection import Selector, TargetRef
from meshlib.resources.types import names


class Env(Model):
    """``spec.vmConfig.env`` of WasmPlugin."""

    name: str
    value: str | None = None
    value_from: Annotated[Literal["INLINE", "HOST"], names("INLINE", "HOST")] | None = None


class VmConfig(Model):
    """``spec.vmConfig`` of WasmPlugin."""

    env: list[Env] | None = None


class WasmPluginSpec(Model):
    """``spec`` of WasmPlugin."""

    url: str
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
    match: list[ExtensionMatch] | None = None
    phase: (
        Annotated[
            Literal["UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"],
            names("UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"),
        ]
        | None
    ) = None
    plugin_config: dict[str, object] | None = None
    plugin_name: str | None = None
    priority: int | None = None
    selector: Selector | None = None
    sha256: str | None = None
    target_ref: TargetRef | None = None
    target_refs: list[TargetRef] | None = None
    type: (
        Annotated[
            Literal["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"], names("UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK")
        ]
        | None
    ) = None
    verification_key: str | None = None
    vm_config: VmConfig | None = None


class WasmPlugin(Resource):
    """Istio's WasmPlugin."""

    kind: Literal["WasmPlugin"]
    spec: WasmPluginSpec
    status: object = None
