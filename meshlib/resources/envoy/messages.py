"""Envoy's messages by name: a table of facts, ``messages.txt.gz``, which ``tests/support/envoy_messages.py`` makes.

A line is a message with its fields (``name=type``), or, after ``@``, an enum with its names. A type is a letter (s text, y
bytes, b bool, i u I U whole numbers of 32 and 64 bits, f d fractions), the name of a message, or that of an enum after ``@``.
Before it ``*`` says that the field is a list, and ``%K:`` that it is a map with keys of type K.
"""

from __future__ import annotations

import difflib
import functools
import gzip
from pathlib import Path


@functools.cache
def _lines() -> dict[str, str]:
    text = gzip.decompress(Path(__file__).with_name("messages.txt.gz").read_bytes()).decode()
    return {name: rest for name, _, rest in (line.partition(" ") for line in text.splitlines())}


@functools.cache
def fields_of(message: str) -> dict[str, str] | None:
    """The types of a message's fields, by name; None when Envoy has no such message."""
    line = _lines().get(message)
    return None if line is None else dict(field.split("=") for field in line.split())


@functools.cache
def names_of(enum: str) -> frozenset[str]:
    """The names of an enum's values."""
    return frozenset(_lines()[f"@{enum}"].split())


def nearest_message(name: str) -> str:
    """The message that is most like one that is not there, "" when none is: for a hint."""
    last = f".{name.rpartition('.')[2]}".lower()
    known = [message for message in _lines() if not message.startswith("@")]
    same = [message for message in known if message.lower().endswith(last)]
    return next(iter(difflib.get_close_matches(name, same or known, n=1, cutoff=0.3 if same else 0.9)), "")


def json_name(field: str) -> str:
    """``typedConfig`` of ``typed_config``."""
    head, *rest = field.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)
