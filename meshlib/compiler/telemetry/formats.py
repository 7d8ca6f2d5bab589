"""Formats in Envoy's operators, wherever resources have them: what is wrong with them, and what is always ``-`` here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshlib.compiler.access_log.format import FormatError, operators_in, parse, parse_json
from meshlib.compiler.telemetry.logs import json_format
from meshlib.compiler.telemetry.providers import Providers, place
from meshlib.problems import Problem, Severity

if TYPE_CHECKING:
    from meshlib.resources.base import Resource
    from meshlib.resources.telemetry import Telemetry
    from meshlib.resources.telemetry_providers import LogFormat

Loc = tuple[str | int, ...]
NO_LOG = "this log is not written"
NO_TAG = "the tag is left out"
_STEP = re.compile(r"\[(\d+)\]|([^.\[]+)")


@dataclass(frozen=True, slots=True)
class _Written:
    """A format, and where it stands: below ``loc`` where it is an object."""

    form: str | Mapping[str, object]
    resource: Resource
    loc: Loc
    effect: str


def problems_of_formats(telemetries: Sequence[Telemetry], providers: Providers) -> Iterator[Problem]:
    """Warnings of formats that are none, notices of operators whose value nobody knows here."""
    for written in (*_of_mesh(providers), *_of_tags(telemetries)):
        yield from _judged(written)


def _of_mesh(providers: Providers) -> Iterator[_Written]:
    config, spec = providers.config, providers.spec
    if config is None or spec is None:
        return
    for known in providers.known:
        if not known.loc:
            continue
        for kind, log in (("envoyFileAccessLog", known.file_log), ("envoyOtelAls", known.otel_log)):
            if log is not None and log.log_format is not None:
                yield from _parts(log.log_format, config, (*known.loc, kind, "logFormat"))
    if spec.access_log_format:
        loc = (*place(config), "accessLogFormat")
        if spec.access_log_encoding != "JSON":
            yield _Written(spec.access_log_format, config, loc, NO_LOG)
        else:
            for key, value in (json_format(spec.access_log_format) or {}).items():
                yield _Written({key: value}, config, loc, NO_LOG)


def _parts(written: LogFormat, resource: Resource, loc: Loc) -> Iterator[_Written]:
    if written.text:
        yield _Written(written.text, resource, (*loc, "text"), NO_LOG)
    if written.labels:
        yield _Written(written.labels, resource, (*loc, "labels"), NO_LOG)


def _of_tags(telemetries: Sequence[Telemetry]) -> Iterator[_Written]:
    for resource in telemetries:
        for index, tracing in enumerate(resource.spec.tracing or ()):
            for name, tag in (tracing.custom_tags or {}).items():
                if tag.formatter is not None and tag.formatter.value:
                    loc = ("spec", "tracing", index, "customTags", name, "formatter", "value")
                    yield _Written(tag.formatter.value, resource, loc, NO_TAG)


def _judged(written: _Written) -> Iterator[Problem]:
    try:
        shape = parse(written.form) if isinstance(written.form, str) else parse_json(written.form)
    except FormatError as error:
        loc = (*written.loc, *_steps(error.key))
        where = f"key {error.key}, character" if error.key else "character"
        message = f"{where} {error.at + 1}: {error}: {written.effect}"
        yield _problem(
            written.resource, Severity.WARNING, "bad-format", loc, message, "operators are Envoy's: %REQ(X)%"
        )
        return
    dead = {
        str(op): why for op in operators_in(shape) if (why := op.unknown_here("client")) and op.unknown_here("server")
    }
    if dead:
        said = "; ".join(f"{operator} ({why})" for operator, why in dead.items())
        yield _problem(written.resource, Severity.NOTICE, "always-absent", written.loc, f"always - here: {said}", "")


def _steps(key: str) -> Loc:
    return tuple(int(number) if number else name for number, name in _STEP.findall(key))


def _problem(resource: Resource, severity: Severity, code: str, loc: Loc, message: str, hint: str) -> Problem:
    line, column = resource.place_of(loc)
    fields = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
    return Problem(code, severity, resource.origin.file, line, column, f"{resource.id} {fields}", message, hint)
