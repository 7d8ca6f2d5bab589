"""A document against its model: the resource, or everything that is wrong with it, each with its place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from meshlib.pace import in_turns, take_turns
from meshlib.problems import Severity
from meshlib.resources.base import LONG_LIST, Resource, compact, digest_of, spec_of
from meshlib.resources.crd.schema import crd_refusals
from meshlib.resources.document import LazyPositions, Positions
from meshlib.resources.hints import describe
from meshlib.resources.model_fields import Loc, field_names, model_at
from meshlib.resources.notices import Notice
from meshlib.resources.parts_alike import PartsAlike
from meshlib.resources.validation.metadata import metadata_refusals

_UNKNOWN = "extra_forbidden"


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem whose place is a path of the document; ``place`` is its line and column where no path leads there."""

    code: str
    severity: Severity
    loc: Loc
    message: str
    hint: str
    place: tuple[int, int] | None = None


def check(
    model: type[Resource],
    value: Mapping[str, object],
    positions: Positions | LazyPositions,
    *,
    lenient: bool = False,
    use_up: bool = False,
) -> tuple[Resource | None, list[Finding]]:
    """The resource, None when there is an error among the findings. ``lenient``: unknown fields are left out, with a
    warning for each. ``use_up``: entries of long lists are checked one by one, and ``value`` holds models of them after."""
    found: list[Finding] = []
    digests: dict[str, bytes] = {}
    take_turns()
    by_crd = [_finding(n) for n in crd_refusals(model.__name__, value.get("spec"))]
    if use_up:
        _entries_first(value, (), model, digests)
    while True:
        try:
            take_turns()
            resource = _checked_in_parts(model, value) if use_up else None
            if resource is None:
                resource = model.model_validate(value)
            take_turns()
            resource = compact(resource)
            take_turns()
            resource._digests = digests
            refused = [_finding(n) for n in (*metadata_refusals(resource), *resource.refusals())]
            refused += _elsewhere(by_crd, refused)
            return None if refused else resource, found + refused
        except ValidationError as error:
            errors = error.errors(include_url=False)
        unknown = [e for e in errors if e["type"] == _UNKNOWN and _place(e, value)[1]]
        if not (lenient and unknown):
            refused = _findings(errors, model, value, positions)
            return None, found + refused + _elsewhere(by_crd, refused)
        found += [replace(f, severity=Severity.WARNING) for f in _findings(unknown, model, value, positions)]
        # validators that an unknown field had kept from running run in the next round
        value = _without_fields(value, [_place(e, value)[0] for e in unknown])


def _finding(notice: Notice) -> Finding:
    return Finding(notice.code, Severity(notice.severity), notice.loc, notice.message, notice.hint)


def _elsewhere(found: list[Finding], known: list[Finding]) -> list[Finding]:
    """Those of ``found`` whose fields nothing is known about: the same mistake is told once, in the better words."""
    places = {f.loc for f in known}
    around = {loc[:depth] for loc in places for depth in range(2, len(loc))}
    return [
        f
        for f in found
        if not (f.loc in places or f.loc in around or any(f.loc[:depth] in places for depth in range(2, len(f.loc))))
    ]


VERY_LONG_LIST = 500


def _checked_in_parts(model: type[Resource], value: Mapping[str, object]) -> Resource | None:
    """The resource of a document whose ``spec`` has very long lists of entries that are models already: checked with short
    lists, given the long ones, and asked again by its validators. None for other documents, and where anything is wrong."""
    spec = value.get("spec")
    spec_model = model_at(model, ("spec",))
    if type(spec) is not dict or spec_model is None:
        return None
    long = {key: list_ for key, list_ in spec.items() if type(list_) is list and len(list_) >= VERY_LONG_LIST}
    if not long or not all(isinstance(entry, BaseModel) for list_ in long.values() for entry in in_turns(list_)):
        return None
    try:
        short = {**spec, **{key: list_[:LONG_LIST] for key, list_ in long.items()}}
        resource = model.model_validate({**value, "spec": short})
        attributes = field_names(spec_model)
        made = spec_of(resource)
        assert made is not None
        for key, list_ in long.items():
            made.__dict__[attributes[key]] = list_
        for whole in (made, resource):
            for validator in type(whole).__pydantic_decorators__.model_validators.values():
                if validator.info.mode == "after":
                    validator.func(whole)
    except (ValidationError, PydanticCustomError):
        return None
    return resource


def _entries_first(
    node: Mapping[str, object] | list[object], loc: Loc, model: type[Resource], digests: dict[str, bytes]
) -> None:
    """Puts models in the place of the entries of long lists, so that no single call checks them all. What is refused stays
    as it is, and is refused again with the whole, which tells where. ``digests`` gets those of the lists in ``spec``."""
    for key, inside in node.items() if isinstance(node, Mapping) else enumerate(node):
        if type(inside) is list and len(inside) >= LONG_LIST:
            entry_model = model_at(model, (*loc, key, 0))
            if entry_model is None:
                continue
            digest = hashlib.sha256()
            parts = PartsAlike(entry_model)
            for index, entry in enumerate(inside):
                take_turns()
                if type(entry) is dict:
                    with suppress(ValidationError):
                        checked = parts.checked(entry)
                        digest.update(digest_of(checked))
                        made = inside[index] = compact(checked)
                        parts.note(made)
            if loc == ("spec",):
                digests[str(key)] = digest.digest()
        elif type(inside) is dict or type(inside) is list:
            _entries_first(inside, (*loc, key), model, digests)


def _findings(
    errors: list[ErrorDetails], model: type[Resource], value: object, positions: Positions | LazyPositions
) -> list[Finding]:
    secret = model.__name__ == "Secret"
    places = [_place(error, value) for error in errors]
    found: list[Finding] = []
    for error, (loc, exact) in zip(errors, places, strict=True):
        if not exact and any(other[: len(loc)] == loc and sure for other, sure in places):
            continue  # about a value that a validator put there in place of one that is itself refused
        siblings = _siblings(value, loc) if error["type"] == _UNKNOWN else ()
        node, steps = positions.find(loc)
        raw = node.raw if steps == len(loc) else ""
        code, message, hint = describe(error, model, loc, raw, secret=secret, siblings=siblings)
        found.append(Finding(code, Severity.ERROR, loc, message, hint))
    return _each_once(_without_consequences(found), positions)


def _place(error: ErrorDetails, value: object) -> tuple[Loc, bool]:
    """pydantic's place as keys of the document, and whether it is there. Names of union branches vanish."""
    here: object = value
    found: list[str | int] = []
    exact = True
    for step in error["loc"]:
        inside = _inside(here, step)
        if inside is _NOTHING:
            exact = False
        else:
            here = inside
            found.append(step)
    if error["type"] == "missing":
        return (*found, error["loc"][-1]), True
    return tuple(found), exact


_NOTHING = object()


def _inside(value: object, step: str | int) -> object:
    """What an object or a list has there; ``_NOTHING`` where it has nothing."""
    if isinstance(value, Mapping) and step in value:
        return value[step]
    if isinstance(value, (list, tuple)) and isinstance(step, int) and step < len(value):
        return value[step]
    return _NOTHING


def _siblings(value: object, loc: Loc) -> tuple[str, ...]:
    for step in loc[:-1]:
        value = _inside(value, step)
    return tuple(value) if isinstance(value, Mapping) else ()


def _without_consequences(found: list[Finding]) -> list[Finding]:
    """``hots: x`` is one mistake, not an unknown ``hots`` and a missing ``host``."""
    meant = {
        (*f.loc[:-1], f.hint.removeprefix("did you mean ").removesuffix("?"))
        for f in found
        if f.code == "unknown-field" and f.hint.startswith("did you mean ")
    }
    return [f for f in found if f.code != "missing-field" or f.loc not in meant]


def _each_once(found: list[Finding], positions: Positions | LazyPositions) -> list[Finding]:
    """The same unknown field in every entry of a list is one mistake: told once, with the lines of the others."""
    first: dict[Loc, int] = {}
    lines: dict[int, list[int]] = {}
    kept: list[Finding] = []
    for finding in found:
        if finding.code == "unknown-field":
            pattern: Loc = tuple("*" if isinstance(step, int) else step for step in finding.loc)
            if pattern in first:
                lines.setdefault(first[pattern], []).append(positions.place(finding.loc)[0])
                continue
            first[pattern] = len(kept)
        kept.append(finding)
    for index, others in lines.items():
        also = ", ".join(str(line) for line in others[:10] if line) + (", ..." if len(others) > 10 else "")
        more = f" (also in line{'s' if len(others) > 1 else ''} {also})" if also else f" (and {len(others)} more)"
        kept[index] = replace(kept[index], message=kept[index].message + more)
    return kept


def _without_fields(value: Mapping[str, object], locs: Iterable[Loc]) -> dict[str, object]:
    """A copy of the document without the fields at ``locs``."""
    drop = set(locs)

    def copy(node: object, here: Loc) -> object:
        if isinstance(node, Mapping):
            return {k: copy(v, (*here, k)) for k, v in node.items() if (*here, k) not in drop}
        if isinstance(node, (list, tuple)):
            return [copy(v, (*here, i)) for i, v in enumerate(node)]
        return node

    return {key: copy(inside, (key,)) for key, inside in value.items() if (key,) not in drop}
