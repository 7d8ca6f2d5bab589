"""Labels of workloads, as Kubernetes allows them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping

from meshlib.resources.notices import Loc, Notice, refused

_DNS_LABEL = r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_NAME = r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_key = re.compile(rf"({_DNS_LABEL}(?:\.{_DNS_LABEL})*/)?({_NAME})").fullmatch
_value = re.compile(rf"(?:{_NAME})?").fullmatch
_LONGEST_PREFIX = 253
_LONGEST_NAME = 63


def key_problem(key: str) -> str:
    """Why this cannot be the key of a label; "" when it can."""
    return "it is too long" if len(key) > _LONGEST_PREFIX + 1 + _LONGEST_NAME else _form_problem(key)


@functools.lru_cache(maxsize=4096)
def _form_problem(key: str) -> str:
    found = _key(key)
    if found is None:
        return "letters, digits, dashes, dots and underscores make a key"
    prefix, name = found.groups()
    if prefix and len(prefix) - 1 > _LONGEST_PREFIX:
        return f"its prefix is longer than {_LONGEST_PREFIX} characters"
    return f"its name is longer than {_LONGEST_NAME} characters" if len(name) > _LONGEST_NAME else ""


def labels(given: Mapping[str, str] | None, loc: Loc) -> Iterator[Notice]:
    """Keys and values of labels. (Istio does not limit how long a value is.)"""
    for key, value in (given or {}).items():
        problem = key_problem(key)
        if problem:
            yield refused(
                "bad-label",
                (*loc, key),
                f"{key!r} cannot be the key of a label: {problem}",
                "for example app, or example.com/app",
            )
        if _value(value) is None:
            yield refused(
                "bad-label",
                (*loc, key),
                f"{value!r} cannot be the value of the label {key}",
                "letters, digits, dashes, dots and underscores, with a letter or digit at both ends",
            )
