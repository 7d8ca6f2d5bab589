"""The access logs of one direction of a mesh: what is asked for, at work."""

from __future__ import annotations

import itertools
import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from meshlib.compiler.access_log.format import ISTIO, ISTIO_LABELS, expressions_in, parse, parse_json
from meshlib.policy.telemetry_settings import AccessLog
from meshlib.policy.token_bucket import Rate
from meshlib.problems import MeshError
from meshlib.telemetry.access_log.alike import json_alike, none_closer, text_alike
from meshlib.telemetry.access_log.json_lines import attributes_of, json_of
from meshlib.telemetry.access_log.operators import NOBODY, Node
from meshlib.telemetry.access_log.otlp_output import LogRecord
from meshlib.telemetry.access_log.sinks import sinks
from meshlib.telemetry.access_log.text import text_of

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.telemetry.access_log.alike import AlikeLines
    from meshlib.telemetry.access_log.entry import Entry, Traced
    from meshlib.telemetry.access_log.line_code import Side, Unmade, Write
    from meshlib.telemetry.access_log.otlp_output import OtlpOutput
    from meshlib.telemetry.access_log.writer import Writer

    Fits = Callable[[Entry], bool]
    Filters = Callable[[AccessLog], Fits | None]
    Collectors = Callable[[AccessLog], OtlpOutput]

log = logging.getLogger("meshlib.access_log")

Watched = TypeVar("Watched")
_claimants = itertools.count(1)


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What the program itself wants, whatever the resources say. ``files`` are paths (``/dev/stdout`` is its own output);
    ``text`` and ``labels`` are the format, as in ``AccessLog``; ``rate`` caps the lines of each log, those of resources too."""

    files: tuple[str, ...] = ()
    loggers: tuple[logging.Logger, ...] = ()
    text: str | None = None
    labels: Mapping[str, object] | None = None
    rate: Rate | None = None

    def __bool__(self) -> bool:
        return bool(self.files or self.loggers)


NO_LOGS = LogOptions()


def all_calls(_settings: AccessLog) -> Fits | None:
    """No filter."""
    return None


def line_of(settings: AccessLog, now: Callable[[], float], node: Node = NOBODY) -> Callable[[Entry], str]:
    """What makes a line of an entry, with its line end. Raises ``FormatError``, and as ``reader``."""
    if settings.labels is not None:
        return json_of(parse_json(settings.labels or ISTIO_LABELS), now, settings.omit_empty, node)
    return text_of(parse(_ended(settings.text or ISTIO)), now, settings.omit_empty, node)


def lines_alike(
    settings: AccessLog,
    side: Side[Watched],
    put: Callable[[Any, int], None],
    now: Callable[[], float],
    node: Node = NOBODY,
    closer: Write = none_closer,
    writer: Writer[Any] | None = None,
) -> AlikeLines[Watched] | None:
    """The short way to the same line, for calls of one kind; None where there is none. For a format that is valid.
    ``closer`` and ``writer`` are those of ``AlikeLines``."""
    if settings.labels is not None:
        return json_alike(
            parse_json(settings.labels or ISTIO_LABELS), side, put, now, settings.omit_empty, node, closer, writer
        )
    return text_alike(parse(_ended(settings.text or ISTIO)), side, put, now, settings.omit_empty, node, closer, writer)


def _ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


def _expressions(settings: AccessLog) -> tuple[str, ...]:
    """Those in CEL of its text and its labels: of a format that is valid."""
    text = expressions_in(parse(settings.text)) if settings.text else []
    return (*text, *(expressions_in(parse_json(settings.labels)) if settings.labels else ()))


class _Cap:
    """So many lines, then as many as come in the time that passes. Threads may let a line or two more through."""

    __slots__ = ("_at", "_left", "_rate", "now")

    def __init__(self, rate: Rate, now: Callable[[], float]) -> None:
        self.now = now
        self._rate = rate
        self._left = float(rate.burst)
        self._at = now()

    def lets(self, now: float) -> bool:
        """Whether one more may be written."""
        left = min(self._left + max(now - self._at, 0.0) / self._rate.interval, float(self._rate.burst))
        self._at = now
        if left < 1.0:
            self._left = left
            return False
        self._left = left - 1.0
        return True


class _Log:
    """One log at work. ``capped`` counts lines that were too many, ``unjudged`` calls for which its filter has failed."""

    __slots__ = (
        "__weakref__",
        "_after",
        "_cap",
        "_claimant",
        "_doors",
        "_fits",
        "_line",
        "_writer",
        "alike",
        "capped",
        "expressions",
        "settings",
        "short",
        "unjudged",
    )

    def __init__(
        self,
        settings: AccessLog | None,
        line: Callable[[Entry], str],
        claim: Callable[[int], Writer[Any]],
        cap: _Cap | None = None,
        fits: Fits | None = None,
    ) -> None:
        self.settings = settings
        self._line = line
        self._claimant = next(_claimants)
        self._writer = claim(self._claimant)
        # of a mesh that is dropped, too; without a wait, which may be the garbage collector's
        weakref.finalize(self, sinks.release, self._claimant, 0.0).atexit = False
        self._cap = cap
        self._fits = fits
        self._doors: dict[type[Any], Write] = {}
        self._after: Callable[[Write, Side[Any]], Write] | None = None
        """What makes the short way of a side after another one, which is closer."""
        self.capped = self.unjudged = 0
        self.alike: list[AlikeLines[Any]] = []
        self.short: Write = none_closer
        """What calls try first. False: they ``write`` an entry."""
        self.expressions: tuple[str, ...] = ()
        """Those in CEL of its format."""

    def write(self, entry: Entry) -> None:
        """One call, if it is one that is logged."""
        if self._fits is not None and not self._judged(self._fits, entry):
            return
        if self._cap is not None and not self._cap.lets(entry.ended):
            self.capped += 1
            return
        self._put(entry)

    def go_short(self, sides: Sequence[Side[Any]], settings: AccessLog, now: Callable[[], float], node: Node) -> None:
        """Calls of ``sides`` have their lines made without an entry: each is asked after the one before it, which is closer."""
        if self._fits is not None:
            return
        put, writer = (self._writer.put, self._writer) if self._cap is None else (self._capped, None)

        def after(closer: Write, side: Side[Any]) -> Write:
            alike = lines_alike(settings, side, put, now, node, closer, writer)
            if alike is None:
                return closer
            self.alike.append(alike)
            return alike.write

        for side in sides:
            self.short = after(self.short, side)
        self._after = after

    def door(self, kind: type[Any]) -> Write:
        """What calls of this class try first: where their door says how (``InboundCall.lines``) a closer way than ``short``."""
        found = self._doors.get(kind)
        if found is None:  # ``short`` stays what it is: others ask it meanwhile
            found, side = self.short, kind.lines()
            if side is not None and self._after is not None and self.alike:
                found = self._after(found, side._replace(names={**side.names, "of_met": self.alike[0].write}))
            found = self._doors.setdefault(kind, found)
        return found

    def _capped(self, line: Unmade, size: int) -> None:
        if self._cap is None or self._cap.lets(self._cap.now()):
            self._writer.put(line, size)
        else:
            self.capped += 1

    def _put(self, entry: Entry) -> None:
        line = self._line(entry)
        self._writer.put(line, len(line))

    def _judged(self, fits: Fits, entry: Entry) -> bool:
        try:
            return fits(entry)
        except Exception:  # noqa: BLE001 (of an expression, as of a key that is not there: Envoy logs no such call either)
            self.unjudged += 1
            return False

    def close(self, timeout: float) -> None:
        """Its lines are written; what nobody else logs to is closed."""
        self._writer.flush(timeout)
        sinks.release(self._claimant, timeout)

    def flush(self, timeout: float) -> bool:
        """As ``Writer.flush``."""
        return self._writer.flush(timeout)

    def unwritten(self, counted: set[str]) -> int:
        """As ``AccessLogs.unwritten``."""
        writer = self._writer
        if writer.name in counted:
            return self.capped
        counted.add(writer.name)
        return self.capped + writer.dropped + writer.lost

    def status(self) -> dict[str, object]:
        """For ``mesh.status()``."""
        return {**self._writer.status(), "capped": self.capped, "filter_errors": self.unjudged}


class _OtlpLog(_Log):
    """One whose lines go to a collector, with attributes."""

    __slots__ = ("_attributes",)

    _attributes: tuple[tuple[str, Callable[[Entry], str]], ...]

    def _put(self, entry: Entry) -> None:
        body = self._line(entry)
        attributes = tuple([(key, read(entry)) for key, read in self._attributes])
        size = len(body) + sum(len(key) + len(value) for key, value in attributes)
        self._writer.put(LogRecord(int(entry.wall * 1e9), body, attributes), size)


class AccessLogs(Generic[Watched]):
    """``entry`` makes that of a call, of the time that it ended, the time of day, its span, and whether it was cut off.
    ``filters`` makes the function of an expression, ``otlp`` what sends to a collector; they may raise ValueError. ``node``
    is what expressions in a format read of the workload."""

    def __init__(
        self,
        entry: Callable[[Watched, float, float, Traced | None, bool], Entry],
        clock: Clock,
        options: LogOptions = NO_LOGS,
        filters: Filters = all_calls,
        otlp: Collectors | None = None,
        sides: Sequence[Side[Watched]] = (),
        node: Node = NOBODY,
    ) -> None:
        self._entry = entry
        self._node = node
        self._clock = clock
        self._rate = options.rate
        self._filters = filters
        self._otlp = otlp
        self._sides = tuple(sides)
        self.doors: dict[type[Any], Write] = {}
        """By their class what calls try first of which there may be more to be known than ``short`` knows."""
        self._own = self._of_program(options)
        self._logs = self._own
        self.take(())

    @property
    def active(self) -> bool:
        """Whether there is a log."""
        return bool(self._logs)

    def take(self, wanted: Sequence[AccessLog]) -> None:
        """The resources want these from here on; what they wanted before goes on. One that cannot be made is left out, and a
        line of ``meshlib.access_log`` says why."""
        before = [each for each in self._logs if each.settings is not None]
        logs = []
        for settings in wanted:
            found = next((each for each in before if each.settings == settings), None)
            if found is None:
                try:
                    found = self._of_resource(settings)
                except (ValueError, MeshError) as error:
                    log.error("%s: this access log is not written: %s", settings.where or settings.provider, error)
                    continue
            logs.append(found)
        self._logs = (*self._own, *logs)
        self.short = self._logs[0].short if len(self._logs) == 1 else none_closer
        self.doors = {}
        for each in self._logs:
            for alike in each.alike:
                alike.forget()
        for each in before:
            if each not in logs:
                each.close(0.0)

    def write(self, call: Watched, ended: float, traced: Traced | None, cut: bool = False) -> None:
        """A call is over since ``ended``, by the monotonic clock; ``cut``: whoever made it, or ran it, has broken it off. Calls
        that are not may ask ``short`` first, which is that of the only log: where it returns True it has written."""
        entry = None
        for each in self._logs:
            if not cut and each.short(call, ended, traced):
                continue
            if entry is None:
                clock = self._clock
                entry = self._entry(call, ended, clock.time() - (clock.monotonic() - ended), traced, cut)
            each.write(entry)

    def door(self, kind: type[Any]) -> Write:
        """What is to be in ``doors`` for this class."""
        doors = self.doors  # first: what is found of logs that a reload takes away meanwhile, it takes away with them
        logs = self._logs
        found = doors[kind] = logs[0].door(kind) if len(logs) == 1 else self.short
        return found

    def flush(self, timeout: float) -> bool:
        """Wait until all lines are written, at most so many seconds for each sink. False: they are not."""
        done = [each.flush(timeout) for each in self._logs]
        return all(done)

    def close(self, timeout: float) -> None:
        """No more lines: those that wait are written."""
        logs, self._logs, self._own = self._logs, (), ()
        self.short, self.doors = none_closer, {}
        for each in logs:
            each.close(timeout)

    def status(self) -> list[dict[str, object]]:
        """For ``mesh.status()``."""
        return [each.status() for each in self._logs]

    def unwritten(self, counted: set[str]) -> int:
        """Lines that were not written, for whatever reason. Sinks that are ``counted`` by name have been asked already."""
        return sum(each.unwritten(counted) for each in self._logs)

    def expressions(self) -> list[str]:
        """The expressions in CEL of all formats."""
        return [text for each in self._logs for text in each.expressions]

    def _cap(self) -> _Cap | None:
        return None if self._rate is None else _Cap(self._rate, self._clock.monotonic)

    def _of_program(self, options: LogOptions) -> tuple[_Log, ...]:
        if not options:
            return ()
        settings = AccessLog("", text=options.text, labels=options.labels)
        line = line_of(settings, self._clock.time, self._node)
        claims = [partial(sinks.file, path) for path in options.files]
        claims += [partial(sinks.logger, each) for each in options.loggers]
        return tuple(self._short(_Log(None, line, claim, self._cap()), settings) for claim in claims)

    def _of_resource(self, settings: AccessLog) -> _Log:
        if settings.sink == "otlp":
            return self._to_collector(settings)
        line = line_of(settings, self._clock.time, self._node)
        fits = self._filters(settings)
        return self._short(_Log(settings, line, partial(sinks.file, settings.path), self._cap(), fits), settings)

    def _short(self, log: _Log, settings: AccessLog) -> _Log:
        log.go_short(self._sides, settings, self._clock.time, self._node)
        log.expressions = _expressions(settings)
        return log

    def _to_collector(self, settings: AccessLog) -> _Log:
        if self._otlp is None:
            raise ValueError("nobody here sends logs over OTLP")
        output = self._otlp(settings)
        body = line_of(replace(settings, labels=None), self._clock.time, self._node)
        name = f"otlp {settings.service}:{settings.port}"
        key = ("otlp", settings.service, settings.port, settings.log_name)
        made = _OtlpLog(
            settings,
            lambda entry: body(entry).removesuffix("\n"),
            lambda claimant: sinks.claim(key, name, lambda: output, claimant),
            self._cap(),
            self._filters(settings),
        )
        made.expressions = _expressions(settings)
        made._attributes = attributes_of(settings.labels or {}, self._clock.time, self._node)
        return made
