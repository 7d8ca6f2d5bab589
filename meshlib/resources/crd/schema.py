"""A document against the schema of its CRD: what the API server would refuse beyond types.

The schemas are a table of facts, ``schemas.json`` (``tests/support/crd_schemas.py`` makes it), read when the first resource is
loaded. Fields are looked for as they are written there: other spellings the API server ignores.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Sized
from pathlib import Path
from typing import TypedDict

from meshlib.pace import take_turns
from meshlib.resources.crd.rules import RULES, at_most_one
from meshlib.resources.notices import Loc, Notice, refused

_PATTERN_HINTS = {
    "^[-_A-Za-z0-9]+$": "letters, digits, - and _",
    "(^$|^[a-f0-9]{64}$)": "64 digits of 0-9 and a-f, as sha256sum prints them",
    "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$": "letters, digits and dashes, a letter first",
}

Check = Callable[[object, Loc], Notice | None]


class Node:
    """A part of a schema: what is asked of a value, and of what is inside."""

    __slots__ = ("checks", "fields", "is_plain", "items", "values")

    def __init__(self) -> None:
        self.checks: tuple[Check, ...] = ()
        self.fields: dict[str, Node] = {}
        self.items: Node | None = None
        self.values: Node | None = None
        self.is_plain = False  # an object of which nothing is asked but in its fields: most have none of these


def crd_refusals(kind: str, spec: object) -> list[Notice]:
    """What the API server refuses of ``spec``, each at its own field. Values of a wrong type are passed over."""
    found: list[Notice] = []
    node = _kinds().get(kind)
    if node is not None:
        _judge(node, spec, ("spec",), found)
    return found


def _judge(node: Node, value: object, loc: Loc, found: list[Notice]) -> None:
    for check in node.checks:
        problem = check(value, loc)
        if problem is not None:
            found.append(problem)
    if type(value) is dict:
        fields, others = node.fields, node.values
        for key, inside in value.items():
            there = fields.get(key, others)
            if there is not None:
                _judge(there, inside, (*loc, key), found)
    elif type(value) is list and node.items is not None:
        entry = node.items
        plain = entry.fields.keys().isdisjoint if entry.is_plain else None
        for index, inside in enumerate(value):
            take_turns()
            if plain is None or type(inside) is not dict or not plain(inside):
                _judge(entry, inside, (*loc, index), found)


@functools.cache
def _kinds() -> dict[str, Node]:
    table: _Table = json.loads(Path(__file__).with_name("schemas.json").read_text())
    nodes = [Node() for _ in table["nodes"]]
    for node, made in zip(nodes, table["nodes"], strict=True):
        node.checks = tuple(_checks(made))
        node.fields = {name: nodes[number] for name, number in made.get("fields", {}).items()}
        node.items = nodes[made["items"]] if "items" in made else None
        node.values = nodes[made["values"]] if "values" in made else None
        node.is_plain = not node.checks and node.values is None
    return {kind: nodes[number] for kind, number in table["kinds"].items()}


class _Written(TypedDict, total=False):
    """A node of the table. Other nodes are named by their numbers."""

    minLength: int
    maxLength: int
    minItems: int
    maxItems: int
    minProperties: int
    maxProperties: int
    minimum: float
    maximum: float
    pattern: str
    required: list[str]
    unique: list[str]
    oneOf: list[list[str]]
    rules: list[str]
    fields: dict[str, int]
    items: int
    values: int


class _Table(TypedDict):
    nodes: list[_Written]
    kinds: dict[str, int]


def _checks(made: _Written) -> Iterator[Check]:
    if "minLength" in made:
        yield _length(str, made["minLength"], None, "characters")
    if "maxLength" in made:
        yield _length(str, None, made["maxLength"], "characters")
    if "minItems" in made:
        yield _length(list, made["minItems"], None, "entries")
    if "maxItems" in made:
        yield _length(list, None, made["maxItems"], "entries")
    if "minProperties" in made:
        yield _length(dict, made["minProperties"], None, "entries")
    if "maxProperties" in made:
        yield _length(dict, None, made["maxProperties"], "entries")
    if "minimum" in made:
        yield _at_least(made["minimum"])
    if "maximum" in made:
        yield _at_most(made["maximum"])
    if "pattern" in made:
        yield _pattern(made["pattern"])
    if "required" in made:
        yield _required(made["required"])
    if "unique" in made:
        yield _unique(made["unique"])
    for names in made.get("oneOf", ()):
        yield _one_of(names)
    for digest in made.get("rules", ()):
        yield _rule(digest)


def _length(
    kind: type[str | list[object] | dict[str, object]], least: int | None, most: int | None, what: str
) -> Check:
    def check(value: object, loc: Loc) -> Notice | None:
        if type(value) is kind and isinstance(value, Sized):
            size = len(value)
            if least is not None and size < least:
                if not size:
                    return refused("crd-length", loc, f"{_name(loc)} is empty", "give it a value, or leave it out")
                return refused(
                    "crd-length", loc, f"{_name(loc)} has fewer than {least} {what}", f"give it {least} or more"
                )
            if most is not None and size > most:
                return refused("crd-length", loc, f"{_name(loc)} has {size} {what}, more than {most}", "shorten it")
        return None

    return check


def _at_least(least: float) -> Check:
    def check(value: object, loc: Loc) -> Notice | None:
        if (type(value) is int or type(value) is float) and value < least:
            return refused("crd-bounds", loc, f"{value} is less than {least:.15g}", f"a number from {least:.15g} on")
        return None

    return check


def _at_most(most: float) -> Check:
    def check(value: object, loc: Loc) -> Notice | None:
        if (type(value) is int or type(value) is float) and value > most:
            return refused("crd-bounds", loc, f"{value} is more than {most:.15g}", f"a number up to {most:.15g}")
        return None

    return check


def _pattern(pattern: str) -> Check:
    compiled = re.compile(pattern)
    hint = _PATTERN_HINTS.get(pattern, "for example gateway.networking.k8s.io")

    def check(value: object, loc: Loc) -> Notice | None:
        if type(value) is str and not compiled.fullmatch(value):
            return refused("crd-pattern", loc, f"{value[:100]!r} is not what {_name(loc)} looks like", hint)
        return None

    return check


def _unique(keys: list[str]) -> Check:
    def check(value: object, loc: Loc) -> Notice | None:
        seen = set()
        for index, entry in enumerate(value if type(value) is list else ()):
            key = tuple(str(entry.get(name)) for name in keys) if type(entry) is dict else ()
            if key in seen:
                place: Loc = (*loc, index, keys[0])
                return refused("crd-duplicate", place, f"two entries have {keys[0]} {key[0]}", "remove one")
            if key:
                seen.add(key)
        return None

    return check


def _required(names: list[str]) -> Check:
    def check(value: object, loc: Loc) -> Notice | None:
        missing = [name for name in names if value.get(name) is None] if type(value) is dict else []
        if not missing:
            return None
        return refused("crd-required", (*loc, missing[0]), f"the field {missing[0]} is missing", f"add {missing[0]}")

    return check


def _one_of(names: list[str]) -> Check:
    find = at_most_one(*names)

    def check(value: object, loc: Loc) -> Notice | None:
        if type(value) is not dict:
            return None
        place = find(value)
        if place is None:
            return None
        given = " and ".join(name for name in names if value.get(name) is not None)
        return refused(
            "crd-one-of", (*loc, *place), f"only one of {', '.join(names)} may be given, found {given}", "keep one"
        )

    return check


def _rule(digest: str) -> Check:
    rule = RULES[digest]

    def check(value: object, loc: Loc) -> Notice | None:
        place = rule.find(value)
        return None if place is None else refused("crd-rule", (*loc, *place), rule.message, rule.hint)

    return check


def _name(loc: Loc) -> str:
    return f"an entry of {loc[-2]}" if isinstance(loc[-1], int) else str(loc[-1])
