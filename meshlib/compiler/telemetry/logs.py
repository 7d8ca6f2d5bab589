"""``accessLogging`` of the Telemetries that count for a workload, merged as istiod does: the nearest level that names providers
replaces those of wider ones, and what is said last of a provider counts. Where all of it comes to no provider,
``accessLogFile`` of MeshConfig does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from meshlib.compiler.telemetry.providers import (
    BUILT_IN,
    LOGS,
    NOT_WRITTEN,
    SERVES,
    KnownProvider,
    Providers,
    names_of,
    place,
    where,
)
from meshlib.policy.cel_syntax import log_problem
from meshlib.policy.telemetry_settings import AccessLog

if TYPE_CHECKING:
    from meshlib.resources.base import Resource
    from meshlib.resources.mesh_config import MeshConfigSpec
    from meshlib.resources.telemetry import AccessLogging
    from meshlib.resources.telemetry_providers import EnvoyOtelAls

Loc = tuple[str | int, ...]
Mode = Literal["CLIENT", "SERVER"]
STDOUT = "/dev/stdout"
OTEL_LOG = "otel_envoy_accesslog"
"""``logName`` where none is given."""


@dataclass(frozen=True, slots=True)
class Written:
    """An entry of ``accessLogging``, and where it stands."""

    logging: AccessLogging
    resource: Resource
    loc: Loc


@dataclass(frozen=True, slots=True)
class _Filter:
    expression: str = ""
    where: str = ""


NO_FILTER = _Filter()


def compile_logs(levels: Sequence[Sequence[Written]], providers: Providers) -> tuple[AccessLog, ...]:
    """The logs of calls made. ``levels``: the entries of each Telemetry, the nearest last."""
    return _compile(levels, providers, "CLIENT")


def compile_server_logs(levels: Sequence[Sequence[Written]], providers: Providers) -> tuple[AccessLog, ...]:
    """The logs of calls served."""
    return _compile(levels, providers, "SERVER")


def _compile(levels: Sequence[Sequence[Written]], providers: Providers, mode: Mode) -> tuple[AccessLog, ...]:
    made: list[AccessLog] = []
    configured = False
    for name, filtered in sorted(_merged(levels, providers, mode).items()):
        known = providers.find(name)
        if known is None or SERVES.get(known.kind) != LOGS:
            continue
        configured = True  # also by one that is switched off, or that only Envoy writes
        if filtered is not None and known.kind not in NOT_WRITTEN:
            made.append(_log(known, providers, filtered))
    if configured:
        return tuple(sorted(made, key=lambda log: log.provider))
    return _of_mesh_config(providers)


def _merged(levels: Sequence[Sequence[Written]], providers: Providers, mode: Mode) -> dict[str, _Filter | None]:
    """What there is to log with, by provider; None: it is switched off."""
    if not levels:
        return dict.fromkeys(providers.logs, NO_FILTER)
    nearest: Sequence[str] = providers.logs
    filters: dict[str, _Filter] = {}
    for level in levels:
        named: list[str] = []
        for entry in level:
            if _is_for(entry.logging, mode):
                names = names_of(entry.logging.providers)
                named += names
                filters.update(dict.fromkeys(names, _filter(entry)))
        nearest = named or nearest
    counting = frozenset(nearest)
    found: dict[str, _Filter | None] = {}
    inherited: Sequence[str] = providers.logs
    for level in levels:
        for entry in level:
            inherited = names_of(entry.logging.providers) or inherited
            for name in inherited:
                if name in counting and _is_for(entry.logging, mode):
                    found[name] = None if entry.logging.disabled else filters.get(name, NO_FILTER)
    return found


def _is_for(logging: AccessLogging, mode: Mode) -> bool:
    return logging.match is None or logging.match.mode in (None, "CLIENT_AND_SERVER", mode)


def _filter(entry: Written) -> _Filter:
    written = entry.logging.filter
    if written is None or not written.expression or log_problem(written.expression):
        return NO_FILTER
    return _Filter(written.expression, where(entry.resource, (*entry.loc, "filter", "expression")))


def _log(known: KnownProvider, providers: Providers, filtered: _Filter) -> AccessLog:
    if known.otel_log is not None:
        return _otel(known, known.otel_log, providers, filtered)
    assert known.file_log is not None
    log, written = known.file_log, known.file_log.log_format
    if written is None and known.name == BUILT_IN and not log.omit_empty_values and providers.spec is not None:
        text, labels, at = _format_of_mesh(providers.spec, providers)
    else:
        text, labels = (None, None) if written is None else (written.text, written.labels)
        at = _place(known, "envoyFileAccessLog", providers, "" if written is None else "logFormat")
    return AccessLog(
        provider=known.name,
        path=log.path or STDOUT,
        text=text or None,
        labels=labels,
        omit_empty=bool(log.omit_empty_values),
        expression=filtered.expression,
        where=at,
        expression_where=filtered.where,
    )


def _otel(known: KnownProvider, log: EnvoyOtelAls, providers: Providers, filtered: _Filter) -> AccessLog:
    written = log.log_format
    return AccessLog(
        provider=known.name,
        sink="otlp",
        path="",
        text=(written.text or None) if written is not None else None,
        labels=written.labels if written is not None else None,
        service=log.service or "",
        port=log.port or 0,
        log_name=log.log_name or OTEL_LOG,
        expression=filtered.expression,
        where=_place(known, "envoyOtelAls", providers, "" if written is None else "logFormat"),
        expression_where=filtered.where,
    )


def _place(known: KnownProvider, kind: str, providers: Providers, field: str) -> str:
    if providers.config is None or not known.loc:
        return ""
    return where(providers.config, (*known.loc, kind, *([field] if field else ())))


def _of_mesh_config(providers: Providers) -> tuple[AccessLog, ...]:
    spec = providers.spec
    if spec is None or not spec.access_log_file:
        return ()
    text, labels, at = _format_of_mesh(spec, providers)
    return (AccessLog("", path=spec.access_log_file, text=text, labels=labels, where=at),)


def _format_of_mesh(spec: MeshConfigSpec, providers: Providers) -> tuple[str | None, Mapping[str, object] | None, str]:
    """``accessLogFormat`` by ``accessLogEncoding``: a text, or keys (none: Istio's own); and where it stands."""
    assert providers.config is not None
    at = where(providers.config, (*place(providers.config), "accessLogFormat"))
    if spec.access_log_encoding != "JSON":
        return spec.access_log_format or None, None, at
    return None, json_format(spec.access_log_format or "") or {}, at


def json_format(text: str) -> Mapping[str, object] | None:
    """``accessLogFormat`` under the encoding JSON, {} of none; None of what is no object: the default counts then."""
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
