"""What a collector says that it has not kept of a request which it has taken: OTLP's ``partial_success``. It is not sent again,
and counts as dropped."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from meshlib.telemetry.dropped import dropped

if TYPE_CHECKING:
    import requests

log = logging.getLogger("meshlib.telemetry")

SPANS = "spans_rejected"
POINTS = "metric_points_rejected"
WORDS = {SPANS: "spans", POINTS: "points of metrics"}

_LONGEST = 500
"""Characters of a collector's words."""
_told: set[str] = set()


def rejected(response: bytes) -> tuple[int, str]:
    """How many of a request's spans, points or records a collector has not kept, and its words; ``response`` is any of OTLP's
    in protobuf, which are alike. What is none of them says nothing."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

    if not response:  # nearly always
        return 0, ""
    try:
        said = ExportLogsServiceResponse.FromString(response).partial_success
    except DecodeError:
        return 0, ""
    return max(0, said.rejected_log_records), in_one_line(said.error_message)


def in_one_line(words: str) -> str:
    """What a collector has said, for a line of the log."""
    return "".join([each if each.isprintable() else " " for each in words[:_LONGEST]])


def counting_session(kind: str) -> requests.Session | None:
    """For an exporter over HTTP: counts what is rejected as ``kind``, ``SPANS`` or ``POINTS``. None where the environment names
    a session of its own, or there is no ``requests``."""
    if any(name.endswith("CREDENTIAL_PROVIDER") and name.startswith("OTEL_") for name in os.environ):
        return None
    try:
        import requests
    except ImportError:  # an exporter of another kind
        return None

    def look(response: requests.Response, *_: Any, **__: Any) -> None:
        if response.ok and response.headers.get("content-type", "").startswith("application/x-protobuf"):
            count(kind, *rejected(response.content))

    session = requests.Session()
    session.hooks["response"].append(look)
    return session


def count(kind: str, lost: int, words: str) -> None:
    """So many are lost, of which the log tells once."""
    if not lost:
        return
    dropped.add(kind, lost)
    if kind not in _told:
        _told.add(kind)
        log.warning(
            "the OTLP collector has taken a request and rejected %d %s%s; further ones are only counted "
            '(meshlib_telemetry_dropped_total{kind="%s"})',
            lost, WORDS[kind], f": {in_one_line(words)}" if words else "", kind,
        )  # fmt: skip
