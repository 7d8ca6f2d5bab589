"""RE2, Istio's regular expressions: linear time, matched against the whole string, on wire strings.

The module's low-level call is used on purpose: 0.5 us a match instead of 3 us through the wrapper, measured by
``benchmarks``. Nothing here ever hands a pattern or a subject to Python's ``re``.
"""

from __future__ import annotations

import functools
import re
import weakref
from collections.abc import Callable, Sequence

import re2

BYTES_PER_PATTERN = 20_000
"""Room for the automaton of a set: beyond it RE2 would give up, and a rule would seem not to match."""
PATTERNS_PER_SET = 4_000
"""More are several sets. RE2 makes a set in one call that keeps the interpreter, with so many for some 20 ms; a look-up costs a
microsecond more a set."""


class BadRegex(ValueError):
    """RE2 refuses the pattern; the message is RE2's."""


def wire(text: str) -> str:
    """Configuration text as a wire string: the latin-1 reading of its UTF-8 bytes, so that it compares with what was
    received byte for byte. Never raises, also for text that is not Unicode."""
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("latin-1")


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    return options


@functools.lru_cache(maxsize=4096)
def _compile(pattern: str) -> re2._Regexp:
    try:
        return re2.compile(pattern, _options())
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        raise BadRegex(reason.decode() if isinstance(reason, bytes) else str(reason)) from error


def quoted(text: str) -> str:
    """A pattern that matches just this text."""
    return re.escape(text)


_in_use: weakref.WeakValueDictionary[str, Callable[[str], bool]] = weakref.WeakValueDictionary()
"""By pattern: what a reload of many rules would otherwise compile once more, 20 us each."""


def compile_full_match(pattern: str) -> Callable[[str], bool]:
    """A test whether the whole of a wire string matches; the same one as long as somebody has it. Raises ``BadRegex``."""
    made = _in_use.get(pattern)
    if made is None:
        made = _in_use[pattern] = _full_match(pattern)
    return made


def _full_match(pattern: str) -> Callable[[str], bool]:
    compiled = _compile(pattern)
    low_level = getattr(compiled, "_regexp", None)
    if low_level is None:  # another build of the binding: it finds the same, slower
        return lambda text: compiled.fullmatch(text.encode("latin-1")) is not None
    match = low_level.Match
    anchor = re2._re2.RE2.Anchor.ANCHOR_BOTH

    def full_match(text: str) -> bool:
        data = text.encode("latin-1")
        matched: bool = match(anchor, data, 0, len(data))[0] != (-1, -1)
        return matched

    return full_match


def rewriter(pattern: str, substitution: str) -> Callable[[str], str]:
    r"""Replaces all matches in a wire string, ``\1`` being the first group (``uriRegexRewrite``). Raises ``BadRegex``."""
    compiled = _compile(pattern)
    for escaped in re.findall(r"\\(.?)", substitution, re.DOTALL):  # RE2's own rule: a digit, or a backslash
        if escaped != "\\" and not (escaped.isascii() and escaped.isdigit() and int(escaped) <= compiled.groups):
            raise BadRegex(f"\\{escaped} in the replacement is neither a group of the expression nor a backslash")
    # the binding reads Python's escapes, where \\0 is NUL and \\12 group twelve: RE2 has one digit, and \\0 for all of it
    template = re.sub(r"\\([0-9\\])", lambda e: r"\\" if e[1] == "\\" else rf"\g<{e[1]}>", substitution)
    replacement = template.encode("utf-8", "surrogatepass")

    def rewrite(text: str) -> str:
        result: bytes = compiled.sub(replacement, text.encode("latin-1"))
        return result.decode("latin-1")

    return rewrite


def compile_set(patterns: Sequence[str], take_turns: Callable[[], None] = lambda: None) -> Callable[[str], list[int]]:
    """Which of many patterns match the whole of a wire string; positions in ``patterns``. Found in one pass, or in one for each
    ``PATTERNS_PER_SET``; ``take_turns`` is called between patterns and sets. Raises ``BadRegex``."""
    if len(patterns) <= PATTERNS_PER_SET:
        return _compile_set(patterns, take_turns)
    starts = range(0, len(patterns), PATTERNS_PER_SET)
    parts = [(start, _compile_set(patterns[start : start + PATTERNS_PER_SET], take_turns)) for start in starts]
    return lambda text: [start + number for start, part in parts for number in part(text)]


def _compile_set(patterns: Sequence[str], take_turns: Callable[[], None]) -> Callable[[str], list[int]]:
    options = _options()
    options.max_mem = max(options.max_mem, BYTES_PER_PATTERN * len(patterns))
    regexes = re2.Set.FullMatchSet(options)
    for pattern in patterns:
        take_turns()
        try:
            regexes.Add(pattern)
        except re2.error as error:
            raise BadRegex(f"RE2 refuses {pattern!r}") from error
    take_turns()
    try:
        regexes.Compile()
    except re2.error:  # too large together: each on its own, which takes longer and says the same
        tests = [compile_full_match(pattern) for pattern in patterns]
        return lambda text: [number for number, test in enumerate(tests) if test(text)]
    take_turns()
    match = regexes.Match

    def matching(text: str) -> list[int]:
        found: list[int] | None = match(text.encode("latin-1"))
        return found or []

    return matching
