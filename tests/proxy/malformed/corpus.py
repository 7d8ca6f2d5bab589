"""All cases, in one order: the same at every run."""

from __future__ import annotations

import functools
from itertools import chain

from tests.proxy.malformed.case import Case
from tests.proxy.malformed.families import (
    arrivals,
    chunk_lines,
    codings,
    connections,
    header_lines,
    hosts,
    lengths,
    mixed,
    paths,
    request_lines,
    smuggling,
    targets,
)

FAMILIES = (
    request_lines,
    targets,
    hosts,
    header_lines,
    lengths,
    codings,
    chunk_lines,
    connections,
    smuggling,
    arrivals,
    paths,
    mixed,
)


@functools.cache
def all_cases() -> tuple[Case, ...]:
    """Each bytes and arrival once, under the first id that they have."""
    found: dict[tuple[object, ...], Case] = {}
    for case in chain.from_iterable(family.cases() for family in FAMILIES):
        found.setdefault(tuple(case)[1:], case)
    return tuple(found.values())
