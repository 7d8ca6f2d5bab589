"""What every resource has: apiVersion, kind, metadata, and where it was read.

Rules of ``resources/``: pydantic lives here and nowhere else, is imported only when resources are loaded, and never
runs on the data path. Attribute names are the snake_case of Istio's fields; YAML spelling is camelCase.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr
from pydantic.alias_generators import to_camel

from meshlib.resources.notices import Notice, deprecated

_OLD_VERSIONS = frozenset(
    f"{group}.istio.io/{version}"
    for group, version in (
        ("networking", "v1alpha3"),
        ("networking", "v1beta1"),
        ("security", "v1beta1"),
        ("telemetry", "v1alpha1"),
    )
)
_ONLY_OLD = frozenset({"EnvoyFilter", "ProxyConfig"})  # kinds that Istio serves in an old version only


class Model(BaseModel):
    """Base of every object inside a resource: strict types, unknown fields are errors, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        strict=True,
        frozen=True,
        validate_default=False,
    )


class Metadata(Model):
    """The parts of Kubernetes' ObjectMeta that mean something here; the rest is accepted and ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: Annotated[str | None, BeforeValidator(lambda v: None if v is None else str(v))] = None
    owner_references: list[dict[str, Any]] | None = None


class Origin(BaseModel):
    """Where a resource was read: shown in every message about it."""

    model_config = ConfigDict(frozen=True)

    file: str = "<memory>"
    line: int = 0
    column: int = 0
    document: int = 0  # order of reading; the tie-break after creationTimestamp, name and namespace


class Resource(Model):
    """A whole document. Sub-classes add ``spec`` (or ``data`` and the like) and set ``kind``'s literal type."""

    api_version: str
    kind: str
    metadata: Metadata = Field(default_factory=Metadata)

    _origin: Origin = PrivateAttr(default_factory=Origin)
    _positions: Any = PrivateAttr(default=None)

    @property
    def origin(self) -> Origin:
        """File, line and column of the document's first key."""
        return self._origin

    def line_of(self, loc: tuple[str | int, ...]) -> int:
        """Line of a field; the document's own unless it was loaded with ``keep_positions``."""
        if self._positions is None:
            return self._origin.line
        line: int = self._positions.place(loc)[0]
        return line or self._origin.line

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """Namespace as written, or ``default``."""
        return self.metadata.namespace or "default"

    @property
    def labels(self) -> dict[str, str]:
        return self.metadata.labels or {}

    @property
    def id(self) -> str:
        """``VirtualService/default/reviews``: the name used in explain, status and problems."""
        return f"{self.kind}/{self.namespace}/{self.name}"

    def notices(self) -> list[Notice]:
        """What is worth saying about this resource although it loads: old spellings, settings without effect."""
        found = []
        if self.api_version in _OLD_VERSIONS and self.kind not in _ONLY_OLD:
            current = self.api_version.partition("/")[0] + "/v1"
            found.append(deprecated(("apiVersion",), f"apiVersion {self.api_version}", f"apiVersion: {current}"))
        return found

    @property
    def age_key(self) -> tuple[str, str, str, int]:
        """Sort key "oldest wins": creationTimestamp, name, namespace, then order of reading (Istio's order)."""
        return (self.metadata.creation_timestamp or "", self.name, self.namespace, self._origin.document)
