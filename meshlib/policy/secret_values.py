"""Which values of a request open doors by themselves, and are shown nowhere: credentials and cookies, by their names."""

from __future__ import annotations

import functools
import re

_SECRET = re.compile(
    r"authorization|cookie|token|secret|passw|api[-_]?key|credential|signature|jwt|session|^sig$|^key$|^code$|^x-key$"
)
HIDDEN = "(not shown)"


LONGEST_KEPT = 128
"""Characters of a name that is looked up again: callers write names, too, and fill no memory with long ones."""


def is_secret(name: str) -> bool:
    """Whether the values of a header, metadata key, cookie or parameter of this name (in lower case) are secrets."""
    return _is_secret(name) if len(name) <= LONGEST_KEPT else _SECRET.search(name) is not None


@functools.lru_cache(4096)
def _is_secret(name: str) -> bool:
    return _SECRET.search(name) is not None


def shown(name: str, value: str | None) -> str:
    """What a person is shown of a value: itself in quotes, ``absent``, or that it is there."""
    if value is None:
        return "absent"
    return HIDDEN if value and is_secret(name.lower()) else repr(value)


def url_shown(url: str) -> str:
    """What a person is shown of a URL, whether it is one or not: without its password, and without what its query says."""
    address, query, _ = url.partition("?")
    scheme, mark, rest = address.partition("//")
    if not mark:
        scheme, rest = "", address
    authority, slash, path = rest.partition("/")
    return f"{scheme}{mark}{authority.rpartition('@')[2]}{slash}{path}{'?...' if query else ''}"
