"""The options ``access_log``, ``access_log_format`` and ``access_log_rate`` of a mesh, and the logs that come of them."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from meshlib.problems import MeshError

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.engine.call import Call
    from meshlib.engine.inbound import InboundCall
    from meshlib.engine.live_mesh import LiveMesh
    from meshlib.policy.telemetry_settings import AccessLog
    from meshlib.telemetry.access_log.logs import AccessLogs, LogOptions
    from meshlib.telemetry.access_log.otlp_output import OtlpOutput
    from meshlib.telemetry.observe import InboundTelemetry, Telemetry
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.workload import Workload

    AtWork = Callable[[], LiveMesh | None]
    """The configuration in force; None of a mesh that is closed."""

LogTo = str | os.PathLike[str] | logging.Logger
LogFormat = str | Mapping[str, object]
STREAMS = {"stdout": "/dev/stdout", "stderr": "/dev/stderr"}
NAMED = ("text", "envoy", "json")
LOG, FORMAT, RATE = "MESHLIB_ACCESS_LOG", "MESHLIB_ACCESS_LOG_FORMAT", "MESHLIB_ACCESS_LOG_RATE"


def log_options(to: LogTo | Sequence[LogTo] | None, form: LogFormat | None, rate: str | None) -> LogOptions | None:
    """What the program wants; None: nothing. Raises ``MeshError`` for what cannot be had."""
    if to is None and form is None and rate is None:
        return None  # what writes lines is not even imported
    from meshlib.compiler.access_log.format import EXPRESSIONS, operators_in, parse, parse_json
    from meshlib.policy.telemetry_settings import AccessLog
    from meshlib.policy.token_bucket import parse_rate
    from meshlib.telemetry.access_log.logs import LogOptions, line_of

    if form is not None and to is None:
        raise MeshError("access_log_format without access_log: say where lines go, as access_log='stdout'")
    targets = (
        list(to) if isinstance(to, Iterable) and not isinstance(to, (str, os.PathLike)) else [] if to is None else [to]
    )
    files = tuple(_path(each) for each in targets if not isinstance(each, logging.Logger))
    loggers = tuple(each for each in targets if isinstance(each, logging.Logger))
    text, labels = _format(form)
    try:
        line_of(AccessLog("", text=text, labels=labels), lambda: 0.0)
    except ValueError as error:
        at = getattr(error, "at", 0)
        key = getattr(error, "key", "")
        where = f"access_log_format, {f'key {key}, ' if key else ''}character {at + 1}"
        raise MeshError(f"{where}: {error}") from None
    for operator in operators_in(parse_json(labels) if labels is not None else parse(text or "")):
        if operator.name in EXPRESSIONS and (why := operator.unknown_here("client")):
            raise MeshError(f"access_log_format: {operator}: {why}")
    try:
        capped = None if rate is None else parse_rate(rate)
    except ValueError as error:
        raise MeshError(f"access_log_rate: {error}") from None
    return LogOptions(files, loggers, text, labels, capped)


def from_env(environ: Mapping[str, str]) -> tuple[str | None, LogFormat | None, str | None]:
    """The three options as the environment has them: MESHLIB_ACCESS_LOG, MESHLIB_ACCESS_LOG_FORMAT, MESHLIB_ACCESS_LOG_RATE."""
    return environ.get(LOG) or None, environ.get(FORMAT) or None, environ.get(RATE) or None


def client_logs(
    clock: Clock, options: LogOptions | None, workload: Workload, live: AtWork, gateway: bool = False
) -> AccessLogs[Call]:
    """Of the calls that a mesh makes; ``gateway``: for clients, who are in their lines."""
    from meshlib.telemetry.access_log.logs import NO_LOGS, AccessLogs
    from meshlib.telemetry.access_log.made import MADE, MADE_ALIKE, MadeEntry
    from meshlib.telemetry.attributes import node_of
    from meshlib.telemetry.cel import filter_of

    wanted = NO_LOGS if options is None else options
    collectors, sides = _collectors(workload, live), () if gateway else (MADE_ALIKE, MADE)
    node = node_of(workload)
    return AccessLogs(MadeEntry, clock, wanted, filter_of(node, True), collectors, sides, node)


def server_logs(clock: Clock, options: LogOptions | None, workload: Workload, live: AtWork) -> AccessLogs[InboundCall]:
    """Of the calls that it serves."""
    from meshlib.telemetry.access_log.logs import NO_LOGS, AccessLogs
    from meshlib.telemetry.access_log.served import MET, OTHERS, ServedEntry
    from meshlib.telemetry.attributes import node_of
    from meshlib.telemetry.cel import filter_of

    wanted = NO_LOGS if options is None else options
    collectors, sides = _collectors(workload, live), (MET, OTHERS)
    node = node_of(workload)
    return AccessLogs(ServedEntry, clock, wanted, filter_of(node, False), collectors, sides, node)


def _collectors(workload: Workload, live: AtWork) -> Callable[[AccessLog], OtlpOutput]:
    """What sends to collectors; its libraries are loaded for the first that there is."""

    def of(settings: AccessLog) -> OtlpOutput:
        from meshlib.mesh.otlp_logs import otlp_output

        return otlp_output(settings, workload, live)

    return of


def at_work(core: MeshCore) -> AtWork:
    """Asks ``core``, and does not keep it alive."""
    me = weakref.ref(core)

    def live() -> LiveMesh | None:
        there = me()
        return None if there is None else there.live

    return live


def log_calls(
    telemetry: Telemetry, clock: Clock, options: LogOptions | None, live: AtWork, gateway: bool = False
) -> None:
    """Where a client's lines come from, or a gateway's."""
    telemetry.log_with(partial(client_logs, clock, options, telemetry.workload, live, gateway), bool(options))


def log_served(telemetry: InboundTelemetry, clock: Clock, options: LogOptions | None, live: AtWork) -> None:
    """Where a server's lines come from."""
    telemetry.log_with(partial(server_logs, clock, options, telemetry.workload, live), bool(options))


def _path(to: str | os.PathLike[str]) -> str:
    if not isinstance(to, (str, os.PathLike)):
        raise MeshError(f"access_log is 'stdout', 'stderr', a path or a logging.Logger, not {to!r}")
    path = STREAMS.get(os.fspath(to), os.fspath(to))
    if not path or "\0" in path:
        raise MeshError(f"access_log: {path!r} is not a path")
    path = os.path.abspath(path)
    if not os.path.isdir(os.path.dirname(path)):
        raise MeshError(f"access_log: there is no folder {os.path.dirname(path)}: make it first")
    if os.path.isdir(path):
        raise MeshError(f"access_log: {path} is a folder: give the path of a file")
    return path


def _format(form: LogFormat | None) -> tuple[str | None, Mapping[str, object] | None]:
    from meshlib.compiler.access_log.format import DEFAULT

    if form is None or form == "text":
        return None, None
    if isinstance(form, Mapping):
        return None, form
    if not isinstance(form, str):
        raise MeshError(f"access_log_format is text, a name ({', '.join(NAMED)}) or a dict, not {form!r}")
    if form == "json":
        return None, {}
    if form == "envoy":
        return DEFAULT, None
    if "%" not in form:
        raise MeshError(
            f"access_log_format: {form!r} has no operator; it is {', '.join(NAMED)}, a format such as "
            "'%REQ(:METHOD)% %RESPONSE_CODE%', or a dict of formats"
        )
    return form, None
