"""libyaml's syntax errors in words that say what to do."""

from __future__ import annotations

import re

import yaml

# (what libyaml says | what PyYAML's own parser says, what that means, what to do)
_HINTS = (
    (
        "mapping values are not allowed",
        "a second ': ' on one line",
        "quote the value if the colon belongs to it, or put what follows on its own line",
    ),
    (
        "could not find expected ':'",
        "a line that is neither 'key: value' nor a list entry",
        "is the ':' or the space after it missing, or the line indented too little?",
    ),
    (
        "did not find expected key|expected <block end>",
        "the indentation, or what follows a quoted text, does not fit what is above",
        "keys of one mapping start in the same column; list entries start with '- '",
    ),
    (
        "did not find expected '-' indicator",
        "a line in a list does not start with '- '",
        "entries of one list start in the same column",
    ),
    (
        "sequence entries are not allowed",
        "a list entry cannot start here",
        "put '- ' on a line of its own below the key",
    ),
    (
        "expected alphabetic or numeric character",
        "'*' and '&' have a meaning in YAML",
        'quote it: "*"',
    ),
    ("found unexpected end of stream", "the text ends inside quotes", "the closing quote is missing"),
    ("found unexpected document indicator", "the document ends inside quotes", "the closing quote is missing"),
    ("found unknown escape character", "an unknown escape in double quotes", "use single quotes, or write \\\\ for \\"),
    (
        "expected <document start>|expected '<document start>'",
        "there is more after the end of the document",
        "separate with ---",
    ),
    ("expected ',' or ']'", "the list is not closed", "a ',' or the closing ']' is missing"),
    ("expected ',' or '}'", "the mapping is not closed", "a ',' or the closing '}' is missing"),
    (
        "did not find expected node content|expected the node content",
        "a value is missing or the brackets do not match",
        "quote it if it is a text",
    ),
    ("while scanning a tag", "the tag is refused", "quote the value if the ! belongs to it"),
    ("found undefined tag handle", "the tag is refused", "quote the value if the ! belongs to it"),
)
_TAB_HINT = "YAML is indented with spaces only"
_TEMPLATE_HINT = "this looks like a template; render it first (helm template ...)"


def explain_syntax_error(error: yaml.MarkedYAMLError, text: str) -> tuple[int, str, str]:
    """Offset, message and hint for a ``yaml.MarkedYAMLError`` about ``text``."""
    problem_mark, context_mark = error.problem_mark, error.context_mark
    mark = problem_mark or context_mark
    offset = min(mark.index, len(text)) if mark is not None else 0
    problem = str(error.problem or error.context or "not YAML")
    line = _line_at(text, offset)
    # a text without its closing quote is noticed at the end of the document; what helps is where it began
    if context_mark is not None and ("end of stream" in problem or "unexpected document indicator" in problem):
        return context_mark.index, *_find(problem)
    if "{{" in line or "{%" in line:
        return offset, problem, _TEMPLATE_HINT
    if "\t" in line[: len(line) - len(line.lstrip())] or "tab character" in problem:
        return offset, "a tab is used for indentation", _TAB_HINT
    if "cannot start any token" in problem:
        char = text[offset : offset + 1]
        if char == "\t":
            return offset, "a tab is used for indentation", _TAB_HINT
        return offset, f"no value can start with {char!r}", "quote the value"
    if context_mark is not None and ("expected ':'" in problem or "expected ','" in problem):
        offset = min(context_mark.index, len(text))  # noticed at the next token, often a line later
    message, hint = _find(problem, str(error.context or ""))
    return offset, message, hint


def _find(*texts: str) -> tuple[str, str]:
    for needle, message, hint in _HINTS:
        if any(part in text for part in needle.split("|") for text in texts):
            return message, hint
    return re.sub(r"\s+", " ", texts[0]), ""


def _line_at(text: str, offset: int) -> str:
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    return text[start : end if end >= 0 else len(text)]
