"""Regular expressions and string matches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.policy.regex import BadRegex, compile_full_match
from meshlib.resources.notices import Loc, Notice, refused

if TYPE_CHECKING:
    from meshlib.resources.types import StringMatch

# Go's expressions, by which istiod judges, have no escape for a single byte; RE2's have
_one_byte = re.compile(r"(?:\\Q.*?(?:\\E|\Z)|\\[^QC]|[^\\])*\\C", re.DOTALL).match
LONGEST = 1024
"""Bytes of a regular expression that Istio takes."""


def regex(pattern: str, loc: Loc) -> Iterator[Notice]:
    """An RE2 expression that is there and not too long."""
    if not pattern:
        yield refused("bad-regex", loc, "the regular expression is empty", 'leave the condition out, or write ".*"')
    elif len(pattern.encode("utf-8", "surrogatepass")) > LONGEST:
        yield refused(
            "bad-regex", loc, f"the regular expression has more than {LONGEST} bytes", "split it into several matches"
        )
    elif "\\C" in pattern and _one_byte(pattern):
        yield refused(
            "bad-regex", loc, r"\C, a single byte, is not part of Istio's regular expressions", "write . instead"
        )
    else:
        try:
            compile_full_match(pattern)
        except BadRegex as error:
            yield refused(
                "bad-regex",
                loc,
                f"RE2 refuses the regular expression {pattern!r}: {error}",
                "Istio's expressions are RE2: no look-around, no back-references",
            )


def string_match(match: StringMatch | None, loc: Loc, *, empty_prefix: bool = False) -> Iterator[Notice]:
    """One condition, with something in it; ``empty_prefix``: a prefix may be empty."""
    if match is None:
        return
    if len(match.model_fields_set) > 1:
        several = [*one_condition(match, loc)]
        if several:
            yield from several
            return
    if match.prefix == "" and not empty_prefix:
        yield refused("empty-prefix", (*loc, "prefix"), "the prefix is empty", "leave the condition out")
    if match.regex is not None:
        yield from regex(match.regex, (*loc, "regex"))


def one_condition(match: StringMatch, loc: Loc) -> Iterator[Notice]:
    """At most one of the three. The API server refuses several; istiod alone would take the last."""
    given = [name for name in ("exact", "prefix", "regex") if getattr(match, name) is not None]
    if len(given) > 1:
        yield refused(
            "crd-one-of",
            (*loc, given[1]),
            f"only one of exact, prefix, regex may be given, found {' and '.join(given)}",
            "keep one",
        )
