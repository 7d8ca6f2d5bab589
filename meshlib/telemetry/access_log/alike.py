"""Lines of calls that are alike: what is the same in them is put together once, and a line costs what varies (row access-log of
the benchmarks).

Calls are alike whose requests have the same headers and target, that took the same rule to the same endpoint and were answered
with the same status by the first attempt; ``made.alike`` knows them by a key. A format is eligible when all its operators are
either the same for such calls or one of ``VARYING``. What such a line says is what the long way says
(``tests/telemetry/access_log/test_alike.py`` holds the two against each other); ``MESHLIB_PLAIN=1`` turns it off.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from operator import itemgetter
from typing import TYPE_CHECKING

from meshlib.compiler.access_log.format import Operator, Parts
from meshlib.telemetry.access_log.entry import SERVICE_TIME
from meshlib.telemetry.access_log.escaping import escaped
from meshlib.telemetry.access_log.operators import reader
from meshlib.telemetry.access_log.start_time import ISO, formatter

if TYPE_CHECKING:
    from meshlib.telemetry.access_log.entry import Entry

Varying = tuple[float, int, int, int, str]
"""When the call began (seconds since the epoch), how long it and its upstream took (ms), bytes of the response's body, our
address of the connection."""
PLAIN = os.environ.get("MESHLIB_PLAIN") == "1"
MOST = 1000
"""Kinds of calls that are remembered; then all are forgotten."""

SAME = frozenset((
    "PATH", "QUERY_PARAM", "QUERY_PARAMS", "PROTOCOL", "REQUEST_HEADERS_BYTES", "BYTES_RECEIVED", "STREAM_ID", "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS", "CONNECTION_TERMINATION_DETAILS", "RESPONSE_FLAGS", "RESPONSE_FLAGS_LONG", "GRPC_STATUS",
    "GRPC_STATUS_NUMBER", "UPSTREAM_HOST", "UPSTREAM_HOST_NAME", "UPSTREAM_HOST_NAME_WITHOUT_PORT", "UPSTREAM_CLUSTER",
    "UPSTREAM_CLUSTER_RAW", "UPSTREAM_PROTOCOL", "UPSTREAM_REMOTE_ADDRESS", "UPSTREAM_REMOTE_PORT",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT", "UPSTREAM_TRANSPORT_FAILURE_REASON", "ROUTE_NAME", "REQUESTED_SERVER_NAME",
    "DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS", "DOWNSTREAM_LOCAL_ADDRESS", "DOWNSTREAM_PEER_URI_SAN",
    "HOSTNAME", "ENVIRONMENT", "ACCESS_LOG_TYPE",
))  # fmt: skip
"""The same for calls that are alike. Others, ``:scheme`` among the headers, are not asked of them."""
_SERVICE_TIMES = (f"RESP({SERVICE_TIME})", f"RESPONSE_HEADER({SERVICE_TIME})")


class AlikeLines:
    """Those of one format of text."""

    __slots__ = ("_known", "_parts", "_pick", "_shown", "known")

    def __init__(self, parts: Parts, indexes: list[int], shown: Callable[[float], str]) -> None:
        self._parts = parts
        self._pick = itemgetter(*indexes)
        self._shown = shown
        self._known: dict[Hashable, str] = {}
        self.known = self._known.get

    def line(self, template: str, varying: Varying) -> str:
        """``template`` is that of the call's kind."""
        wall, took, upstream, size, local = varying
        found: str = template % self._pick((self._shown(wall), took, upstream, size, local))
        return found

    def learn(self, key: Hashable, entry: Entry) -> None:
        """What is the same in the lines of calls like ``entry``."""
        template = ""
        for part in self._parts:
            if isinstance(part, str):
                template += part.replace("%", "%%")
            elif _varies(part) is not None:
                template += "%s"
            else:
                found = reader(part, lambda: 0.0)
                value = found.read(entry)
                text = "-" if value is None else escaped(value) if isinstance(value, str) else str(value)
                template += text.replace("%", "%%")
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[key] = template


def alike_lines(parts: Parts) -> AlikeLines | None:
    """None: the format has an operator that is not the same for calls that are alike."""
    if PLAIN:
        return None
    indexes, form = [], None
    for part in parts:
        if isinstance(part, str):
            continue
        varies = _varies(part)
        if varies is None:
            if not _is_same(part):
                return None
            continue
        if varies == 0:
            if form is not None and form != (part.argument or ISO):
                return None
            form = part.argument or ISO
        indexes.append(varies)
    if len(indexes) < 2:  # else one value is no tuple
        return None
    return AlikeLines(parts, indexes, formatter(form or ISO))


def _varies(operator: Operator) -> int | None:
    """Which of ``Varying`` it is."""
    if operator.limit is not None:
        return None
    name = operator.name
    if name in ("START_TIME", "DURATION"):
        return 0 if name == "START_TIME" else 1
    if str(operator).strip("%").lower() in map(str.lower, _SERVICE_TIMES):
        return 2
    return {"BYTES_SENT": 3, "UPSTREAM_LOCAL_ADDRESS": 4}.get(name)


def _is_same(operator: Operator) -> bool:
    if operator.name in ("REQ", "REQUEST_HEADER", "REQ_WITHOUT_QUERY"):
        return ":scheme" not in (operator.argument or "").lower().split("?")
    return operator.name in SAME
