"""Whether a text is an expression of CEL, the language of Telemetry's access-log filters and tags: its grammar, not its types;
and what it reads."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
    |(?P<float>(?:[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?))
    |(?P<int>(?:0x[0-9a-fA-F]+|[0-9]+)[uU]?)
    |(?P<text>[bB]?[rR](?:\"\"\".*?\"\"\"|'''.*?'''|"[^"\n\r]*"|'[^'\n\r]*')
        |[bB]?(?:\"\"\"(?:[^\\]|ESCAPE)*?\"\"\"|'''(?:[^\\]|ESCAPE)*?'''
            |"(?:[^\\"\n\r]|ESCAPE)*"|'(?:[^\\'\n\r]|ESCAPE)*'))
    |(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)
    |(?P<sign>==|!=|<=|>=|&&|\|\||[\[\]{}().,\-!?:+*/%<>])""".replace(
        "ESCAPE",
        r"\\(?:[abfnrtv\"'\\?`]|[0-3][0-7][0-7]|[xX][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})",
    ),
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|.)", re.DOTALL)
_LITERALS = frozenset(("true", "false", "null"))
_BINARY = frozenset(("||", "&&", "<", "<=", ">", ">=", "==", "!=", "in", "+", "-", "*", "/", "%"))
_RESERVED = frozenset(
    (
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop"),
        *("package", "namespace", "return", "var", "void", "while"),
    )
)
_LOOPS = {"all": (2,), "exists": (2,), "exists_one": (2,), "existsOne": (2,), "map": (2, 3), "filter": (2,)}
_DEEPEST = 120  # cel-go: 250, which nobody writes
_LARGEST = 2**63 - 1


def cel_problem(text: str) -> str:
    """Why ``text`` is not an expression, "" when it is one."""
    try:
        parser = _Parser(text)
        parser.expression()
        parser.expect("")
    except _Bad as error:
        return str(error)
    return ""


def log_problem(text: str) -> str:
    """Why an access log cannot have ``text`` as an expression, as what is said of it: "is not an expression of CEL: ...". ""
    when it can. What Envoy evaluates for its logs has fewer functions than for tags of Istio's metrics: no ``string()``, no
    loops, nothing that joins texts or lists."""
    problem = cel_problem(text)
    if problem:
        return f"is not an expression of CEL: {problem}"
    refused = _not_in_logs(_Parser(text).tokens)
    return f"is not an expression for access logs, as Envoy evaluates them: {refused}" if refused else ""


def _not_in_logs(tokens: Sequence[tuple[str, str]]) -> str:
    for at, (kind, token) in enumerate(tokens):
        before, after = tokens[at - 1] if at else ("", ""), tokens[at + 1] if kind != "end" else ("", "")
        if kind == "name" and after[1] == "(":
            if token == "string" and before[1] != ".":
                return "there is no string()"
            if token in _LOOPS and before[1] == ".":
                return f"there are no loops, and so no {token}()"
        if (kind, token) == ("sign", "+") and (
            before[0] == "text"
            or (after[0] == "text" and tokens[at + 2][1] not in (".", "["))
            or (after[1] == "[" and _after_list(tokens, at + 1) not in (".", "["))
        ):
            return "+ is for numbers, and joins no texts or lists (a format can have several %CEL(...)%)"
    return ""


def _after_list(tokens: Sequence[tuple[str, str]], at: int) -> str:
    """What comes after the list that begins there: it may be only a part of it that is added, or its size."""
    depth = 0
    while True:
        token = tokens[at][1] if tokens[at][0] == "sign" else ""
        depth += (token == "[") - (token == "]")
        at += 1
        if not depth:
            return tokens[at][1]


def _literal_problem(kind: str, token: str, *, negative: bool) -> str:
    if kind == "int":
        digits = token.rstrip("uU")
        most = 2 * _LARGEST + 1 if digits != token else _LARGEST + negative
        too_long = len(digits.lstrip("0x")) > 20  # and perhaps more than int() reads
        return f"{token[:40]} is too large" if too_long or int(digits, 16 if "x" in digits else 10) > most else ""
    if kind == "float":
        return f"{token} is too large" if math.isinf(float(token)) else ""
    quote = token.find(token[-1])
    prefix = token[:quote].lower()
    if kind != "text" or "r" in prefix:
        return ""
    for escape in _ESCAPE.finditer(token):
        point = int(escape[1] or escape[2] or "0", 16)
        if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF or ("b" in prefix and (escape[1] or escape[2])):
            return f"{escape[0]} is not a character"
    return ""


class _Bad(Exception):
    pass


class _Parser:
    """Recursive descent. Methods that parse return what was found: "name", "field" (``a.b``), "number" or ""."""

    __slots__ = ("_at", "_depth", "tokens")

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise _Bad(f"{text[at]!r} does not belong into an expression")
            if found.lastgroup != "space":
                self.tokens.append((found.lastgroup or "", found[0]))
            at = found.end()
        self.tokens.append(("end", ""))
        self._at = 0
        self._depth = 0

    # -- tokens

    def _fail(self) -> NoReturn:
        kind, token = self.tokens[self._at]
        raise _Bad("it ends too early" if kind == "end" else f"{token!r} is not expected there")

    def _is(self, *signs: str) -> bool:
        kind, token = self.tokens[self._at]
        return token in signs and kind in ("sign", "name", "end")

    def _take(self, *signs: str) -> bool:
        if self._is(*signs):
            self._at += 1
            return True
        return False

    def expect(self, sign: str) -> None:
        if not self._take(sign):
            self._fail()

    def _name(self) -> str:
        kind, token = self.tokens[self._at]
        if kind != "name" or token in _LITERALS or token == "in":
            self._fail()
        self._at += 1
        return token

    # -- grammar

    def expression(self) -> str:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Bad("it is nested too deeply")
        found = self._operands()
        if self._take("?"):
            self._operands()
            self.expect(":")
            self.expression()
            found = ""
        self._depth -= 1
        return found

    def _operands(self) -> str:
        found = self._unary()
        while self._take(*_BINARY):
            self._unary()
            found = ""
        return found

    def _unary(self) -> str:
        if self._take("!"):
            while self._take("!"):
                pass
            if self._is("-") and self.tokens[self._at + 1][0] in ("int", "float"):
                self._at += 1
            self._member()
            return ""
        if self._take("-"):
            while self._take("-"):
                pass
            self._member()
            return ""
        return self._member()

    def _member(self) -> str:
        found, chain = self._primary()
        while True:
            if self._take("."):
                name = self._name()
                found = "field"
                if self._take("("):
                    self._call(name, method=True)
                    found, chain = "", False
            elif self._take("["):
                self.expression()
                self.expect("]")
                found, chain = "", False
            elif chain and self._take("{"):
                self._entries("}", fields=True)
                found, chain = "", False
            else:
                return found

    def _primary(self) -> tuple[str, bool]:
        """What was found, and whether it may go on as the name of a message."""
        kind, token = self.tokens[self._at]
        if kind in ("int", "float", "text") or (kind == "name" and token in _LITERALS):
            self._at += 1
            problem = _literal_problem(
                kind, token, negative=self.tokens[self._at - 2][1] == "-" if self._at > 1 else False
            )
            if problem:
                raise _Bad(problem)
            return "", False
        if self._take("("):
            found = self.expression()
            self.expect(")")
            return found, False
        if self._take("["):
            self._entries("]", pairs=False)
            return "", False
        if self._take("{"):
            self._entries("}")
            return "", False
        self._take(".")
        name = self._name()
        called = self._take("(")
        if name in _RESERVED and not self._is(".", "{"):
            raise _Bad(f"{name} is a reserved word")
        if called:
            self._call(name, method=False)
            return "", False
        return "name", True

    def _call(self, name: str, *, method: bool) -> None:
        found: list[str] = []
        if not self._take(")"):
            found.append(self.expression())
            while self._take(","):
                found.append(self.expression())
            self.expect(")")
        if name == "has" and not method and len(found) == 1 and found[0] != "field":
            raise _Bad("has() takes a field: has(request.url_path)")
        if method and len(found) in _LOOPS.get(name, ()) and found[0] != "name":
            raise _Bad(f"{name}() takes the name of a variable first")

    def _entries(self, end: str, *, fields: bool = False, pairs: bool = True) -> None:
        first = True
        while not self._take(end):
            if first and self._take(","):
                self.expect(end)
                return
            first = False
            if fields:
                self._name()
            else:
                self.expression()
            if pairs:
                self.expect(":")
                self.expression()
            if not self._take(","):
                self.expect(end)
                return


def cel_references(text: str) -> list[tuple[str, ...]]:
    """What an expression (of which ``cel_problem`` says nothing) reads: ``("request", "headers", "x-a")`` of
    ``request.headers["x-a"]``, as far as fields and keys are written out. Variables of its own loops are left out."""
    tokens = _Parser(text).tokens
    found: list[tuple[str, ...]] = []
    own: set[str] = set()
    for at, (kind, token) in enumerate(tokens):
        before = tokens[at - 1][1] if at else ""
        if kind != "name" or token in _LITERALS or token == "in" or before == "." or tokens[at + 1][1] == "(":
            if token in _LOOPS and before == "." and tokens[at + 1][1] == "(":
                own.add(tokens[at + 2][1])
            continue
        found.append((token, *_steps(tokens, at + 1)))
    return [path for path in found if path[0] not in own]


def _steps(tokens: Sequence[tuple[str, str]], at: int) -> Iterator[str]:
    while True:
        sign, (kind, token) = tokens[at][1], tokens[min(at + 1, len(tokens) - 1)]
        if sign == "." and kind == "name" and tokens[at + 2][1] != "(":
            yield token
            at += 2
        elif sign == "[" and kind == "text" and token[0] in "\"'" and tokens[at + 2][1] == "]":
            yield token[3:-3] if token[:3] in ('"""', "'''") else token[1:-1]
            at += 3
        else:
            return


def with_calls(text: str, calls: Mapping[tuple[str, str], str]) -> str:
    """An expression in which reading one of the fields in ``calls`` (``("request", "time")``) becomes a call of that function
    with the field: ``timestamp(request.time)``. What ``has()`` is asked about stays a field."""
    tokens = _Parser(text).tokens
    made: list[str] = []
    at = 0
    while at < len(tokens) - 1:
        token = tokens[at][1]
        field = (token, tokens[at + 2][1]) if at + 2 < len(tokens) and tokens[at + 1][1] == "." else ("", "")
        before = [tokens[n][1] for n in (at - 2, at - 1) if n >= 0]
        if field in calls and before[-1:] != ["."]:
            named = f"{field[0]}.{field[1]}"
            made.append(named if before == ["has", "("] else f"{calls[field]}({named})")
            at += 3
        else:
            made.append(token)
            at += 1
    return " ".join(made)
