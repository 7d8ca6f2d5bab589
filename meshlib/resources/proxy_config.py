"""ProxyConfig (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Any, Literal

from meshlib.resources.base import Model, Resource


class Image(Model):
    """``spec.image`` of ProxyConfig."""

    image_type: str | None = None


class Selector(Model):
    """``spec.selector`` of ProxyConfig."""

    match_labels: dict[str, str] | None = None


class ProxyConfigSpec(Model):
    """``spec`` of ProxyConfig."""

    concurrency: int | None = None
    environment_variables: dict[str, str] | None = None
    image: Image | None = None
    selector: Selector | None = None


class ProxyConfig(Resource):
    """Istio's ProxyConfig."""

    kind: Literal["ProxyConfig"]
    spec: ProxyConfigSpec
    status: Any = None
