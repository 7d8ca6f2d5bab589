"""What every resource has: apiVersion, kind, metadata, and where it was read.

Rules of ``resources/``: pydantic lives here and nowhere else, is imported only when resources are loaded, and never
runs on the data path. Attribute names are the snake_case of Istio's fields; YAML spelling is camelCase.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr
from pydantic.alias_generators import to_camel

from meshlib.pace import free_in_turns, in_turns, take_turns
from meshlib.resources.notices import Notice, deprecated
from meshlib.resources.rules import rules_of

if TYPE_CHECKING:
    from meshlib.resources.document import LazyPositions, Positions

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


M = TypeVar("M", bound=BaseModel)
_shapes: dict[type, dict[frozenset[str], tuple[set[str], tuple[str, ...]]]] = {}
_shared: set[int] = set()  # ids of the sets in _shapes, which are kept for ever
_SCALARS = frozenset((str, int, float, bool, type(None)))
_new = object.__new__
_set = object.__setattr__


def compact(model: M) -> M:
    """The same in a quarter of the memory: only fields that were set are in the object, the others' defaults in its class,
    and which were set is noted once for all objects alike. Lists and maps inside are changed in place."""
    given = model.__pydantic_fields_set__
    if id(given) in _shared:
        return model  # compact already
    kind = type(model)
    shapes = _shapes.get(kind)
    if shapes is None:
        shapes = _prepare(kind)
    shape = shapes.get(frozenset(given))
    if shape is None:
        kept = (n for n, info in kind.model_fields.items() if n in given or info.is_required() or info.default_factory)
        shape = shapes[frozenset(given)] = (given, tuple(kept))
        _shared.add(id(given))
    shared, names = shape
    values = model.__dict__
    made = model if isinstance(model, Resource) else _new(kind)
    if made is model:  # others may refer to it
        _set(made, "__dict__", {name: values[name] for name in names})
    else:
        _set(made, "__pydantic_extra__", None)
        _set(made, "__pydantic_private__", None)
    _set(made, "__pydantic_fields_set__", shared)
    for name in names:
        value = values[name]
        what = type(value)
        if what in _SCALARS:
            pass
        elif what is list:
            if value and isinstance(value[0], Model):
                for index, entry in enumerate(value):
                    if id(entry.__pydantic_fields_set__) not in _shared:
                        value[index] = compact(entry)
        elif what is dict:
            for key, entry in value.items():
                if isinstance(entry, Model):
                    value[key] = compact(entry)
        elif isinstance(value, Model):
            value = compact(value)
        _set(made, name, value)  # one by one: such objects share the table of their names
    return made


def _prepare(kind: type[BaseModel]) -> dict[frozenset[str], tuple[set[str], tuple[str, ...]]]:
    for name, info in kind.model_fields.items():
        if not info.is_required() and info.default_factory is None:
            setattr(kind, name, info.default)
    return _shapes.setdefault(kind, {})


def spec_of(resource: Resource) -> BaseModel | None:
    """Its ``spec``, of kinds that have one."""
    spec = getattr(resource, "spec", None)
    return spec if isinstance(spec, BaseModel) else None


LONG_LIST = 8
"""Entries from which on a list is looked through one by one, not by one call."""


def digest_of(model: BaseModel, leave_out: set[str] | None = None) -> bytes:
    """What the object says, as JSON, less its fields in ``leave_out``: to be hashed."""
    return model.__pydantic_serializer__.to_json(model, exclude_unset=True, exclude=leave_out)


class Metadata(Model):
    """The parts of Kubernetes' ObjectMeta that mean something here; the rest is accepted and ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: Annotated[str | None, BeforeValidator(lambda v: None if v is None else str(v))] = None
    owner_references: list[dict[str, object]] | None = None


def _nothing(value: object) -> object:
    return {} if value is None else value


NothingIsEmpty = BeforeValidator(_nothing)
"""For a ``spec`` that may be left out: the CRD does not require it, and istiod takes it for an empty one."""


class Origin(BaseModel):
    """Where a resource was read: shown in every message about it."""

    model_config = ConfigDict(frozen=True)

    file: str = "<memory>"
    line: int = 0
    column: int = 0
    document: int = 0  # order of reading; the tie-break after creationTimestamp, name and namespace


def _digest_of_all(entries: list[BaseModel]) -> bytes:
    digest = hashlib.sha256()
    for entry in entries:
        take_turns()
        digest.update(digest_of(entry))
    return digest.digest()


def free_resources(resources: list[Resource]) -> None:
    """Empty the list; resources that nobody else holds are freed bit by bit."""
    while resources:
        spec = spec_of(resources.pop())
        if spec is not None:
            lists = [v for name in spec.model_fields_set if type(v := getattr(spec, name)) is list]
            entries = [entry for long in lists if len(long) >= LONG_LIST for entry in in_turns(long)]
            del lists, spec
            free_in_turns(entries)


class Resource(Model):
    """A whole document. Sub-classes add ``spec`` (or ``data`` and the like) and set ``kind``'s literal type."""

    api_version: str
    kind: str
    metadata: Metadata = Field(default_factory=Metadata)

    _origin: Origin = PrivateAttr(default_factory=Origin)
    _positions: Positions | LazyPositions | None = PrivateAttr(default=None)
    _digests: dict[str, bytes] = PrivateAttr(default_factory=dict)
    _lost: frozenset[tuple[str | int, ...]] = PrivateAttr(default=frozenset())

    @property
    def origin(self) -> Origin:
        """File, line and column of the document's first key."""
        return self._origin

    @property
    def lost_fields(self) -> frozenset[tuple[str | int, ...]]:
        """Where fields were left out because they are wrong: only of resources that ``salvage`` made."""
        return self._lost

    @property
    def annotations(self) -> dict[str, str]:
        return self.metadata.annotations or {}

    def digest(self) -> bytes:
        """A hash of what the resource says, the same in every process."""
        digest = hashlib.sha256()
        spec = spec_of(self)
        long: set[str] = set()
        if spec is not None:
            for name, info in type(spec).model_fields.items():
                entries = getattr(spec, name)
                if type(entries) is list and len(entries) >= LONG_LIST and isinstance(entries[0], BaseModel):
                    long.add(name)
                    digest.update(self._digests.get(info.alias or name) or _digest_of_all(entries))
            digest.update(digest_of(spec, long))
        digest.update(digest_of(self, {"spec"}))
        return digest.digest()

    def place_of(self, loc: tuple[str | int, ...]) -> tuple[int, int]:
        """Line and column of a field, or of the nearest one around it; the document's own unless it was loaded with
        ``keep_positions`` or is one of ``loading.PLACED``."""
        if self._positions is not None:
            line, column = self._positions.place(loc)
            if line:
                return line, column
        return self._origin.line, self._origin.column

    def line_of(self, loc: tuple[str | int, ...]) -> int:
        """Line of a field; the document's own unless it was loaded with ``keep_positions``."""
        return self.place_of(loc)[0]

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

    def refusals(self) -> Iterable[Notice]:
        """What Istio's validation refuses of a resource whose types are right, each at its own field (``rules.py``)."""
        return rules_of(self.kind).refusals(self)

    def notices(self) -> list[Notice]:
        """What is worth saying about this resource although it loads: old spellings, settings without effect."""
        found: list[Notice] = []
        if self.api_version in _OLD_VERSIONS and self.kind not in _ONLY_OLD:
            current = self.api_version.partition("/")[0] + "/v1"
            found.append(deprecated(("apiVersion",), f"apiVersion {self.api_version}", f"apiVersion: {current}"))
        for rule in rules_of(self.kind).notices:
            found += rule(self)
        return found

    @property
    def age_key(self) -> tuple[str, str, str, int]:
        """Sort key "oldest wins": creationTimestamp, name, namespace, then order of reading (Istio's order)."""
        return (self.metadata.creation_timestamp or "", self.name, self.namespace, self._origin.document)
