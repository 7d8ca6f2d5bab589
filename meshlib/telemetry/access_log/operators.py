"""Operators at work: from ``%NAME(argument):limit%`` to a function that reads one value of an entry.

A value is a number, a text, or None, which a line shows as ``-``. What a stranger may have a hand in is told apart
(``Reader.theirs``): only such values are escaped.
"""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Callable, Mapping
from typing import NamedTuple

from meshlib.compiler.access_log.format import Operator
from meshlib.compiler.access_log.operators import JWT
from meshlib.policy.grpc_status import NAMES as GRPC_NAMES
from meshlib.policy.secret_queries import (
    INSTEAD,
    LOCATIONS,
    WITH_QUERY,
    location_without_secrets,
    query_without_secrets,
    readable,
    without_secrets,
)
from meshlib.policy.secret_values import is_secret
from meshlib.telemetry.access_log.addresses import masked, port_of, without_port
from meshlib.telemetry.access_log.entry import Entry
from meshlib.telemetry.access_log.start_time import ISO, ISO_LOCAL, formatter

Value = str | int | float | bool | Mapping[str, object] | list[object] | None
Read = Callable[[Entry], Value]
Node = Mapping[str, object]
NOBODY: Node = {}
HIDDEN = INSTEAD
"""What stands in a line for a value that opens doors by itself."""

LONG_FLAGS = {
    "LH": "FailedLocalHealthCheck",
    "UH": "NoHealthyUpstream",
    "UT": "UpstreamRequestTimeout",
    "LR": "LocalReset",
    "UR": "UpstreamRemoteReset",
    "UF": "UpstreamConnectionFailure",
    "UC": "UpstreamConnectionTermination",
    "UO": "UpstreamOverflow",
    "NR": "NoRouteFound",
    "DI": "DelayInjected",
    "FI": "FaultInjected",
    "RL": "RateLimited",
    "UAEX": "UnauthorizedExternalService",
    "RLSE": "RateLimitServiceError",
    "DC": "DownstreamConnectionTermination",
    "URX": "UpstreamRetryLimitExceeded",
    "SI": "StreamIdleTimeout",
    "IH": "InvalidEnvoyRequestHeaders",
    "DPE": "DownstreamProtocolError",
    "UMSDR": "UpstreamMaxStreamDurationReached",
    "RFCF": "ResponseFromCacheFilter",
    "NFCF": "NoFilterConfigFound",
    "DT": "DurationTimeout",
    "UPE": "UpstreamProtocolError",
    "NC": "NoClusterFound",
    "OM": "OverloadManagerTerminated",
    "DF": "DnsResolutionFailed",
    "DO": "DropOverload",
    "DR": "DownstreamRemoteReset",
    "UDO": "UnconditionalDropOverload",
    "FB": "Fallback",
}
"""Envoy's, and FB, which is ours."""
CAMEL = ("OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
         "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal",
         "Unavailable", "DataLoss", "Unauthenticated")  # fmt: skip


class Reader(NamedTuple):
    """``read`` gives the value; ``theirs``: a stranger may have a hand in it."""

    read: Read
    theirs: bool = False


def reader(operator: Operator, now: Callable[[], float], node: Node = NOBODY) -> Reader:
    """The function for an operator. ``now`` is the time of day, ``node`` what expressions in CEL read of the workload. Raises
    ``MeshError`` for an expression where the extra cel is not installed."""
    name, argument, limit = operator.name, operator.argument or "", operator.limit
    if name in _TIMES:
        return _time(name, argument, now)
    if name == "COALESCE":
        return _coalesce([reader(each, now, node) for each in operator.nested], limit)
    if name in ("CEL", "TYPED_CEL"):
        return Reader(_cut(_expression(argument, node, name == "TYPED_CEL"), limit), True)
    make = _WITH_ARGUMENT.get(name)
    if make is not None:
        return Reader(_cut(make(argument), limit), True)
    found = _PLAIN.get(name)
    return Reader(_cut(found, limit), name in _THEIRS) if found is not None else Reader(_nothing)


def _nothing(_entry: Entry) -> None:
    return None


def _cut(read: Read, limit: int | None) -> Read:
    if limit is None:
        return read

    def cut(entry: Entry) -> Value:
        value = read(entry)
        return value[:limit] if isinstance(value, str) else value

    return cut


# -- headers, paths ---------------------------------------------------------------------------------------------------

_PSEUDO: Mapping[str, Callable[[Entry], str | None]] = {
    ":method": lambda entry: entry.method(),
    ":authority": lambda entry: entry.authority(),
    "host": lambda entry: entry.authority(),
    ":scheme": lambda entry: entry.scheme(),
}


def _request_header(argument: str) -> Read:
    first, _, other = argument.lower().partition("?")
    read = _one_header(first)
    if not other:
        return read
    otherwise = _one_header(other)

    def either(entry: Entry) -> Value:
        value = read(entry)
        return otherwise(entry) if value is None else value

    return either


def _one_header(name: str) -> Callable[[Entry], str | None]:
    if name in _PSEUDO:
        return _PSEUDO[name]
    if name == ":path":
        return _path
    if name in WITH_QUERY:
        return lambda entry: None if (value := entry.header(name)) is None else without_secrets(value)
    if is_secret(name):
        return lambda entry: HIDDEN if entry.header(name) else None
    return lambda entry: entry.header(name)


def _path(entry: Entry) -> str | None:
    value = entry.path()
    return value if value is None or "?" not in value else without_secrets(value)


def _without_query(argument: str) -> Read:
    read = _request_header(argument)

    def cut(entry: Entry) -> Value:
        value = read(entry)
        return value.partition("?")[0] if isinstance(value, str) else value

    return cut


def _response_header(argument: str) -> Read:
    return _of_response(argument, _look)


def _look(entry: Entry, name: str) -> str | None:
    if name == ":status":
        return str(entry.status) if entry.status else None
    return entry.response_header(name)


def _trailer(argument: str) -> Read:
    return _of_response(argument, lambda entry, name: entry.trailer(name))


def _of_response(argument: str, look: Callable[[Entry, str], str | None]) -> Read:
    first, _, other = argument.lower().partition("?")
    read = _one_of_response(first, look)
    if not other:
        return read
    otherwise = _one_of_response(other, look)

    def either(entry: Entry) -> Value:
        value = read(entry)
        return otherwise(entry) if value is None else value

    return either


def _one_of_response(name: str, look: Callable[[Entry, str], str | None]) -> Callable[[Entry], str | None]:
    if name in LOCATIONS:
        return lambda entry: None if (value := look(entry, name)) is None else location_without_secrets(value)
    if is_secret(name):
        return lambda entry: HIDDEN if look(entry, name) else None
    return lambda entry: look(entry, name)


def _path_as(argument: str) -> Read:
    whole, _, source = argument.partition(":")
    names = {"ORIG": "x-envoy-original-path", "PATH": ":path"}.get(source, "x-envoy-original-path?:path")
    return _without_query(names) if whole == "NQ" else _request_header(names)


def _parameter(name: str) -> Read:
    if is_secret(name.lower()):
        return lambda entry: HIDDEN if entry.query(name) else None
    wire = name.encode().decode("latin-1")  # as queries are read
    return lambda entry: entry.query(wire)


def _parameters(form: str) -> Read:
    def read(entry: Entry) -> str | None:
        query = (entry.path() or "").partition("?")[2]
        if not query:
            return None
        shown = query_without_secrets(query)
        return readable(shown) if form == "DECODED" else shown

    return read


# -- what happened ----------------------------------------------------------------------------------------------------


def _details(argument: str) -> Read:
    if argument == "ALLOW_WHITESPACES":
        return lambda entry: entry.details()
    return lambda entry: _without_spaces(entry.details())


def _without_spaces(text: str | None) -> str | None:
    return None if text is None else "_".join(text.split()) if not text.isalnum() else text


def _long_flags(entry: Entry) -> str:
    return ",".join(LONG_FLAGS.get(flag, flag) for flag in entry.flags.split(",")) if entry.flags else "-"


def _grpc(form: str) -> Read:
    if form == "NUMBER":
        return lambda entry: entry.grpc
    names = GRPC_NAMES if form == "SNAKE_STRING" else CAMEL

    def read(entry: Entry) -> str | None:
        code = entry.grpc
        return None if code is None else names[code] if 0 <= code < len(names) else str(code)

    return read


def _server_name(argument: str) -> Read:
    order, _, source = argument.partition(":")

    def host(entry: Entry) -> str | None:
        found = None if source == "HOST" else entry.header("x-envoy-original-host")
        return found if found is not None or source == "ORIG" else entry.authority()

    if order == "HOST_FIRST":
        return host
    if order == "SNI_FIRST":
        return lambda entry: entry.server_name() or host(entry)
    return lambda entry: entry.server_name()


def _metadata(argument: str) -> Read:
    namespace, *keys = argument.removeprefix("DYNAMIC:").split(":")

    def read(entry: Entry) -> Value:
        claims = entry.claims()
        if claims is None:
            return None
        # Istio puts the claims under "payload", and did so under their issuer
        found: object = {"payload": claims, str(claims.get("iss", "")): claims}
        if not keys:
            return {"payload": claims}
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found if isinstance(found, (str, int, float, bool, Mapping, list)) else None

    return read if namespace == JWT else _nothing


# -- times ------------------------------------------------------------------------------------------------------------

_TIMES = frozenset(("START_TIME", "START_TIME_LOCAL", "EMIT_TIME", "EMIT_TIME_LOCAL"))


def _time(name: str, form: str, now: Callable[[], float]) -> Reader:
    local = name.endswith("_LOCAL")
    shown = formatter(form or (ISO_LOCAL if local else ISO), local=local)
    if name.startswith("EMIT"):
        return Reader(lambda _entry: shown(now()))
    return Reader(lambda entry: shown(entry.wall))


_POINTS: Mapping[str, Callable[[Entry], float | None]] = {
    "DS_RX_BEG": lambda entry: entry.started,
    "US_TX_BEG": lambda entry: entry.sent_at(),
    "US_RX_BEG": lambda entry: entry.head_at(),
    "US_RX_END": lambda entry: None if entry.head_at() is None else entry.ended,
    "DS_TX_BEG": lambda entry: entry.head_at(),
    "DS_TX_END": lambda entry: entry.ended,
}
_UNITS = {"ms": 1e3, "us": 1e6, "ns": 1e9}


def _duration(argument: str) -> Read:
    start, end, precision = argument.split(":") if argument.count(":") == 2 else (*argument.split(":"), "ms")
    begin, finish = _POINTS.get(start, _nothing), _POINTS.get(end, _nothing)
    unit = _UNITS[precision]

    def read(entry: Entry) -> int | None:
        since, until = begin(entry), finish(entry)
        return None if since is None or until is None else int((until - since) * unit)

    return read


# -- addresses --------------------------------------------------------------------------------------------------------

_ADDRESSES: Mapping[str, Callable[[Entry], str | None]] = {
    "UPSTREAM_LOCAL": lambda entry: entry.upstream_local(),
    "UPSTREAM_REMOTE": lambda entry: entry.upstream(),
    "DOWNSTREAM_REMOTE": lambda entry: entry.remote(),
    "DOWNSTREAM_DIRECT_REMOTE": lambda entry: entry.direct_remote(),
    "DOWNSTREAM_LOCAL": lambda entry: entry.local(),
    "DOWNSTREAM_DIRECT_LOCAL": lambda entry: entry.local(),
}


def _without_port(address: Callable[[Entry], str | None]) -> Callable[[str], Read]:
    def make(prefix: str) -> Read:
        if not prefix:
            return lambda entry: without_port(address(entry))
        return lambda entry: masked(address(entry), int(prefix))

    return make


def _port(address: Callable[[Entry], str | None]) -> Read:
    return lambda entry: port_of(address(entry))


def _attempted(entry: Entry) -> str | None:
    return ",".join(entry.attempted()) or None


def _attempted_without_port(entry: Entry) -> str | None:
    return ",".join(without_port(each) or "" for each in entry.attempted()) or None


def _coalesce(readers: list[Reader], limit: int | None) -> Reader:
    def first(entry: Entry) -> Value:
        for each in readers:
            value = each.read(entry)
            if value is not None and value != "":
                return value
        return None

    return Reader(_cut(first, limit), any(each.theirs for each in readers))


def _expression(text: str, node: Node, typed: bool) -> Read:
    from meshlib.telemetry.cel import value_of  # which loads the runtime

    return value_of(text, node, typed)


def _environment(name: str) -> Read:
    value = os.environ.get(name)
    return lambda _entry: value


def _host_name(_entry: Entry) -> str | None:
    return HOST_NAME or None


HOST_NAME = platform.node()


_PLAIN: Mapping[str, Read] = {
    "PROTOCOL": lambda entry: entry.protocol(),
    "REQUEST_HEADERS_BYTES": lambda entry: entry.request_head_bytes(),
    "BYTES_RECEIVED": lambda entry: entry.request_bytes(),
    "STREAM_ID": lambda entry: entry.header("x-request-id"),
    "TRACE_ID": lambda entry: entry.trace_id(),
    "SPAN_ID": lambda entry: entry.span_id(),
    "RESPONSE_CODE": lambda entry: entry.status,
    "CONNECTION_TERMINATION_DETAILS": _nothing,
    "RESPONSE_FLAGS": lambda entry: entry.flags or "-",  # as Envoy has it, in JSON too
    "RESPONSE_FLAGS_LONG": _long_flags,
    "RESPONSE_HEADERS_BYTES": lambda entry: entry.response_head_bytes(),
    "RESPONSE_TRAILERS_BYTES": lambda entry: entry.trailer_bytes(),
    "BYTES_SENT": lambda entry: entry.response_bytes(),
    "GRPC_STATUS_NUMBER": lambda entry: entry.grpc,
    "LOCAL_REPLY_BODY": lambda entry: entry.local_body(),
    "DURATION": lambda entry: int((entry.ended - entry.started) * 1e3),
    "REQUEST_DURATION": _nothing,
    "RESPONSE_DURATION": _duration("DS_RX_BEG:US_RX_BEG:ms"),
    "RESPONSE_TX_DURATION": _duration("US_RX_BEG:DS_TX_END:ms"),
    "UPSTREAM_HOST": lambda entry: entry.upstream(),
    "UPSTREAM_HOST_NAME": lambda entry: entry.upstream(),
    "UPSTREAM_HOST_NAME_WITHOUT_PORT": lambda entry: without_port(entry.upstream()),
    "UPSTREAM_HOSTS_ATTEMPTED": _attempted,
    "UPSTREAM_HOST_NAMES_ATTEMPTED": _attempted,
    "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT": _attempted_without_port,
    "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT": _attempted_without_port,
    "UPSTREAM_CLUSTER": lambda entry: entry.cluster(),
    "UPSTREAM_CLUSTER_RAW": lambda entry: entry.cluster(),
    "UPSTREAM_PROTOCOL": lambda entry: entry.upstream_protocol(),
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": lambda entry: entry.attempts(),
    "UPSTREAM_TRANSPORT_FAILURE_REASON": lambda entry: _without_spaces(entry.transport_failure()),
    "ROUTE_NAME": lambda entry: entry.route(),
    "DOWNSTREAM_PEER_URI_SAN": lambda entry: entry.peer_uri(),
    "HOSTNAME": _host_name,
    "UNIQUE_ID": lambda _entry: str(uuid.uuid4()),
    "ACCESS_LOG_TYPE": lambda _entry: "DownstreamEnd",
    **{f"{side}_ADDRESS": address for side, address in _ADDRESSES.items()},
    **{f"{side}_PORT": _port(address) for side, address in _ADDRESSES.items()},
}
_OURS = frozenset((
    "REQUEST_HEADERS_BYTES", "BYTES_RECEIVED", "RESPONSE_CODE", "CONNECTION_TERMINATION_DETAILS", "RESPONSE_FLAGS",
    "RESPONSE_FLAGS_LONG", "RESPONSE_HEADERS_BYTES", "RESPONSE_TRAILERS_BYTES", "BYTES_SENT", "GRPC_STATUS_NUMBER", "DURATION",
    "REQUEST_DURATION", "RESPONSE_DURATION", "RESPONSE_TX_DURATION", "UPSTREAM_REQUEST_ATTEMPT_COUNT", "HOSTNAME", "UNIQUE_ID",
    "ACCESS_LOG_TYPE",
))  # fmt: skip
_THEIRS = frozenset(_PLAIN) - _OURS

_WITH_ARGUMENT: Mapping[str, Callable[[str], Read]] = {
    "REQ": _request_header,
    "REQUEST_HEADER": _request_header,
    "REQ_WITHOUT_QUERY": _without_query,
    "PATH": _path_as,
    "QUERY_PARAM": _parameter,
    "QUERY_PARAMS": _parameters,
    "RESP": _response_header,
    "RESPONSE_HEADER": _response_header,
    "TRAILER": _trailer,
    "RESPONSE_TRAILER": _trailer,
    "RESPONSE_CODE_DETAILS": _details,
    "GRPC_STATUS": _grpc,
    "COMMON_DURATION": _duration,
    "REQUESTED_SERVER_NAME": _server_name,
    "DYNAMIC_METADATA": _metadata,
    "METADATA": _metadata,
    "ENVIRONMENT": _environment,
    **{f"{side}_ADDRESS_WITHOUT_PORT": _without_port(address) for side, address in _ADDRESSES.items()},
}
