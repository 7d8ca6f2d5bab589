"""All cases, in one order: the same at every run."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from itertools import chain

from tests.proxy.malformed.case import Case, Side
from tests.proxy.malformed.families import (
    arrivals,
    chunk_lines,
    codings,
    connections,
    header_lines,
    hosts,
    http2_heads,
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
    return _each_once(chain.from_iterable(family.cases() for family in FAMILIES))


@functools.cache
def http2_cases() -> tuple[Case, ...]:
    """Of HTTP/2: a connection with one request each."""
    return _each_once(http2_heads.cases())


def cases_of(side: Side) -> tuple[Case, ...]:
    """Those whose answers are kept for a side."""
    return http2_cases() if side == "http2" else all_cases()


def _each_once(cases: Iterable[Case]) -> tuple[Case, ...]:
    found: dict[tuple[object, ...], Case] = {}
    for case in cases:
        found.setdefault(tuple(case)[1:], case)
    return tuple(found.values())
