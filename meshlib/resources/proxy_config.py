"""ProxyConfig (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from meshlib.resources.base import Model, NothingIsEmpty, Resource
from meshlib.resources.notices import Notice
from meshlib.resources.selection import Selector
from meshlib.resources.validation import proxy_config as rules


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

    def refusals(self) -> Iterator[Notice]:
        """See ``validation/proxy_config.py``."""
        return rules.refusals(self)

    def notices(self) -> list[Notice]:
        """What Istio warns of, beside old spellings."""
        return [*super().notices(), *rules.warnings(self)]
