"""ProxyConfig (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from meshlib.resources.base import Model, NothingIsEmpty, Resource
from meshlib.resources.selection import Selector


class Image(Model):
    """``spec.image`` of ProxyConfig."""

    image_type: str | None = None


class ProxyConfigSpec(Model):
    """``spec`` of ProxyConfig."""

    concurrency: int | None = None
    environment_variables: dict[str, str] | None = None
    image: Image | None = None
    selector: Selector | None = None


class ProxyConfig(Resource):
    """Istio's ProxyConfig."""

    kind: Literal["ProxyConfig"]
    spec: Annotated[ProxyConfigSpec, NothingIsEmpty] = Field(default_factory=ProxyConfigSpec)
    status: object = None
