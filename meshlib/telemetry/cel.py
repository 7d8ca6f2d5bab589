"""Expressions in CEL over a call that is over: filters and values of access logs, and tags of metrics.

Evaluated by Google's own library (the extra ``cel``: cel-expr-python, which is the C++ runtime that Envoy has), imported when
the first expression is compiled. As in Envoy nothing is checked for types beforehand; what goes wrong is an error then: the
call is not logged, the tag is ``unknown``. The call itself never hears of it.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from meshlib.policy.cel_attributes import ATTRIBUTES
from meshlib.policy.cel_syntax import cel_problem, cel_references, with_calls
from meshlib.policy.telemetry_settings import expressions
from meshlib.problems import MeshError
from meshlib.telemetry.attributes import CALLS, HEADERS, OBJECTS, VALUES, Facts, Value, headers

if TYPE_CHECKING:
    from meshlib.policy.telemetry_settings import AccessLog, TelemetrySettings
    from meshlib.telemetry.access_log.entry import Entry

UNKNOWN = "unknown"
MISSING = "expressions in CEL need the extra cel: pip install 'sidecarless[cel]'"


class _Found(Protocol):
    def type(self) -> object: ...
    def plain_value(self) -> object: ...


class _Program(Protocol):
    def eval(self, *, data: Mapping[str, object]) -> _Found: ...


class _Environment(Protocol):
    def compile(self, text: str, *, disable_check: bool) -> _Program: ...


class _Types(Protocol):
    DYN: object
    ERROR: object


class _Library(Protocol):
    Type: _Types

    def NewEnv(self, *, variables: Mapping[str, object]) -> _Environment: ...  # noqa: N802 (its own spelling)


class EvaluationError(ValueError):
    """An expression has come to an error: an attribute that is not there, types that do not go together."""


class Expression:
    """One, compiled. ``failures``: how often it has come to an error."""

    __slots__ = ("_error", "_evaluate", "_wanted", "failures", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.failures = 0
        library = _library()
        self._error = library.Type.ERROR
        self._wanted = _wanted(cel_references(text))
        self._evaluate = _environment().compile(with_calls(text, CALLS), disable_check=True).eval

    def evaluate(self, facts: Facts, counts: bool = True) -> object:
        """Its value. Raises ``EvaluationError``, which is counted, if it ``counts``."""
        found = self._found(facts, counts)
        value = found.plain_value()
        if isinstance(value, bytearray):
            return bytes(value)
        # times have no short form but that of the library
        return value if value is None or isinstance(value, (bool, int, float, str)) else str(found)

    def typed(self, facts: Facts) -> object:
        """Its value as JSON has it. Raises ``EvaluationError``, which is counted."""
        return in_json(self._found(facts, True).plain_value())

    def _found(self, facts: Facts, counts: bool) -> _Found:
        try:
            data = {root: made(facts) for root, made in self._wanted}
            found = self._evaluate(data={root: value for root, value in data.items() if value is not None})
        except Exception as error:
            self.failures += counts
            raise EvaluationError(f"{self.text}: {error}") from error
        if found.type() == self._error:
            self.failures += counts
            raise EvaluationError(f"{self.text}: {found.plain_value()}")
        return found

    def holds(self, facts: Facts) -> bool:
        """Whether it is true; an error, and what is neither true nor false, is not."""
        try:
            return self.evaluate(facts) is True
        except EvaluationError:
            return False

    def label(self, facts: Facts, counts: bool = True) -> str:
        """Its value as the text of a label, as Envoy writes it; ``unknown`` of an error, which is counted, if it ``counts``."""
        try:
            return shown(self.evaluate(facts, counts))
        except EvaluationError:
            return UNKNOWN


def shown(value: object) -> str:
    """A value as Envoy writes it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(value)


def in_json(value: object) -> object:
    """A value of CEL as Envoy's TYPED_CEL has it in JSON: bytes in base64, a duration in seconds, a point in time in UTC, and
    the text of what JSON has no form for."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.9g}s"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {str(key): in_json(each) for key, each in value.items()}
    return [in_json(each) for each in value] if isinstance(value, list) else str(value)


@functools.lru_cache(maxsize=1000)
def compiled(text: str) -> Expression:
    """The same object for the same text. Raises ``MeshError`` when the library is not there, or ``text`` is not CEL."""
    problem = cel_problem(text)
    if problem:
        raise MeshError(f"{text[:100]!r} is not an expression of CEL: {problem}")
    try:
        return Expression(text)
    except RuntimeError as error:  # the library's own grammar, should it know better
        raise MeshError(f"{text[:100]!r} is not an expression of CEL: {error}") from None


def require(*sides: TelemetrySettings) -> None:
    """Compile all that these settings say, so that a mesh that cannot evaluate it is not made. Raises ``MeshError``."""
    for settings in sides:
        for where, text in expressions(settings):
            try:
                compiled(text)
            except MeshError as error:
                raise MeshError(f"{where}: {error}" if where else str(error)) from None


def failures_of(texts: Iterable[str]) -> dict[str, int]:
    """How often these expressions have come to an error, those that never have left out."""
    found: dict[str, int] = {}
    for text in texts:
        with contextlib.suppress(MeshError):  # of a format without the library: what has it is not written
            found[text] = compiled(text).failures
    return {text: count for text, count in found.items() if count}


def filter_of(node: Mapping[str, object], outbound: bool) -> Callable[[AccessLog], Callable[[Entry], bool] | None]:
    """For access logs: which calls a log has, None of one that has all. ``outbound``: they are calls made."""

    def of(settings: AccessLog) -> Callable[[Entry], bool] | None:
        if not settings.expression:
            return None
        expression = compiled(settings.expression)
        # an error is raised, for who writes the log counts it
        return lambda entry: expression.evaluate(Facts(entry, node, outbound)) is True

    return of


def value_of(text: str, node: Mapping[str, object], typed: bool) -> Callable[[Entry], Any]:
    """For formats of access logs: what ``%CEL(text)%`` says of a call, ``%TYPED_CEL(text)%`` where ``typed``; None of an error.
    Headers that open doors are not shown. Raises ``MeshError`` as ``compiled``."""
    expression = compiled(text)

    def read(entry: Entry) -> object:
        facts = Facts(entry, node, entry.outbound, hides=True)
        try:
            value = expression.typed(facts) if typed else expression.evaluate(facts)
        except EvaluationError:
            return None
        if isinstance(value, str):
            return value if value.isascii() else _as_on_the_wire(value)
        return value if typed else shown(value)

    return read


def _as_on_the_wire(text: str) -> str:
    """Characters as values of lines have them: bytes read as latin-1."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


# -- the library ------------------------------------------------------------------------------------------------------


def _library() -> _Library:
    try:
        from cel_expr_python import cel
    except ImportError:
        raise MeshError(MISSING) from None
    found: _Library = cel
    return found


@functools.cache
def _environment() -> _Environment:
    library = _library()
    return library.NewEnv(variables=dict.fromkeys(ATTRIBUTES, library.Type.DYN))


# -- what is read -----------------------------------------------------------------------------------------------------


def _wanted(references: Sequence[Sequence[str]]) -> list[tuple[str, Value]]:
    """What makes each object that is read, with the fields that are read."""
    by_root: dict[str, list[Sequence[str]]] = {}
    for path in references:
        by_root.setdefault(path[0], []).append(path[1:])
    return [(root, _object(root, paths)) for root, paths in by_root.items() if root in ATTRIBUTES]


def _object(root: str, paths: Sequence[Sequence[str]]) -> Value:
    whole = OBJECTS.get(root)
    if whole is not None:
        return whole
    names = sorted(ATTRIBUTES[root]) if any(not path for path in paths) else list(dict.fromkeys(p[0] for p in paths))
    makers: list[tuple[str, Value]] = []
    for name in names:
        of = HEADERS.get((root, name))
        if of is not None:
            read = [path[1:] for path in paths if path and path[0] == name]
            keys = [path[0] for path in read if path] if read and all(read) else None
            makers.append((name, headers(keys, of)))
        elif (root, name) in VALUES:
            makers.append((name, VALUES[root, name]))

    def made(facts: Facts) -> dict[str, object]:
        return {name: value for name, maker in makers if (value := maker(facts)) is not None}

    return made
