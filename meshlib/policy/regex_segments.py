"""Path segments that every match of a regular expression has: of ``/shops/[0-9]+/orders/.*`` they are ``shops`` and ``orders``.

By them a rule with a regular expression is found in a table (``rule_index.py``), like one with an exact path. What is not plain
text between two slashes is passed over, and of an expression that is not surely understood there are none: then it is tried, as
any would be.
"""

from __future__ import annotations

from collections.abc import Iterator

_QUANTIFIERS = frozenset("*+?{")
_META = frozenset("\\.+*?()|[]{}^$")
_SCOPED = ("(?:", "(?P<", "(?<")
"""What groups may begin with that change nothing about what is in them, or follows."""


class _NotUnderstood(Exception):
    pass


def required_segments(pattern: str) -> tuple[str, ...]:
    """The segments, in order, of an RE2 expression that is matched against a whole path. () where there are none, or where
    they are not surely known: alternatives outside of groups, flags, ``\\Q``, character classes by name."""
    if "\\Q" in pattern or "[:" in pattern:
        return ()
    found: list[str] = []
    run, plain = "", True  # ``plain``: what is between the last slash and here is ``run``, and nothing else
    try:
        for text in _pieces(pattern):
            if text == "/":
                if plain and run:
                    found.append(run)
                run, plain = "", True
            elif text:
                run += text
            else:
                plain = False
    except _NotUnderstood:
        return ()
    if plain and run:
        found.append(run)
    return tuple(found)


def _pieces(pattern: str) -> Iterator[str]:
    """The characters that must come, one by one, and "" for whatever else an expression has between them. Raises
    ``_NotUnderstood``."""
    at, end = 0, len(pattern)
    if pattern.startswith("^"):
        at = 1  # as a whole match begins anyway
    if pattern.endswith("$") and not pattern.endswith("\\$"):
        end -= 1
    while at < end:
        char, begun = pattern[at], at
        if char == "|":
            raise _NotUnderstood
        if char == "(":
            at = _behind_group(pattern, at)
        elif char == "[":
            at = _behind_class(pattern, at)
        elif char == "\\":
            at += 2
        else:
            at += 1
        escaped = char == "\\" and at <= end and pattern[begun + 1].isascii() and not pattern[begun + 1].isalnum()
        fixed = escaped or (char not in _META and char.isascii())
        if fixed and pattern[at : at + 1] not in _QUANTIFIERS:
            yield pattern[at - 1]
        else:
            yield ""


def _behind_class(pattern: str, at: int) -> int:
    """Where the character class that begins here is over."""
    at += 1
    if pattern.startswith("^", at):
        at += 1
    if pattern.startswith("]", at):  # the first is a character like others
        at += 1
    while at < len(pattern):
        if pattern[at] == "]":
            return at + 1
        at += 2 if pattern[at] == "\\" else 1
    raise _NotUnderstood


def _behind_group(pattern: str, at: int) -> int:
    """Where the group that begins here is over."""
    depth = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "[":
            at = _behind_class(pattern, at)
            continue
        if char == "(":
            if pattern.startswith("(?", at) and not pattern.startswith(_SCOPED, at):
                raise _NotUnderstood  # flags
            depth += 1
        elif char == ")":
            depth -= 1
            if depth == 0:
                return at + 1
        at += 2 if char == "\\" else 1
    raise _NotUnderstood
