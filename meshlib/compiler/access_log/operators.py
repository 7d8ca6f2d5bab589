"""The operators that formats of access logs may name: Envoy's, what stands behind each, and what is known here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from meshlib.policy.cel_syntax import log_problem

Takes = Literal["nothing", "perhaps", "argument"]
Side = Literal["both", "client", "server", "neither"]


class Spec(NamedTuple):
    """An operator. ``takes``: an argument in parentheses, or not; ``limit``: whether ``:Z`` may cut its value. ``check`` says
    what is wrong with an argument, "" when nothing is. ``side``: who knows its value, the client of a call, its server, both,
    or neither, which is always ``-``."""

    takes: Takes = "nothing"
    limit: bool = False
    side: Side = "both"
    check: Callable[[str], str] = lambda _: ""


TIME_POINTS = ("DS_RX_BEG", "DS_RX_END", "US_CX_BEG", "US_CX_END", "US_HS_END", "US_TX_BEG", "US_TX_END", "US_RX_BEG",
               "US_RX_BODY_BEG", "US_RX_END", "DS_TX_BEG", "DS_TX_END")  # fmt: skip
TAKEN_POINTS = ("DS_RX_BEG", "US_TX_BEG", "US_RX_BEG", "US_RX_END", "DS_TX_BEG", "DS_TX_END")
"""Those of which a call knows the time."""
PRECISIONS = ("ms", "us", "ns")
GRPC_FORMS = ("CAMEL_STRING", "SNAKE_STRING", "NUMBER")
METADATA_TYPES = ("DYNAMIC", "CLUSTER", "ROUTE", "UPSTREAM_HOST", "LISTENER", "LISTENER_FILTER_CHAIN", "VIRTUAL_HOST")
JWT = "envoy.filters.http.jwt_authn"
"""The metadata that a verified token leaves; all other namespaces belong to filters of a proxy."""

_NAME = re.compile(r":?[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NEW_LINE = re.compile(r"%[-_0^#]*[1-9]*[EO]?n")
"""What makes a line end in Envoy's formats of time."""


def _one_of(what: str, *allowed: tuple[str, ...]) -> Callable[[str], str]:
    """``A:B``, each among those of its place; empty ones, and those left out, stand for the first."""

    def check(argument: str) -> str:
        parts = argument.split(":")
        if len(parts) > len(allowed):
            return f"takes at most {len(allowed)} values, separated by ':', not {argument!r}"
        for part, known in zip(parts, allowed, strict=False):
            if part and part not in known:
                return f"{part!r} is not {what}: it takes {', '.join(known)}"
        return ""

    return check


def _headers(argument: str) -> str:
    names = argument.split("?")
    if len(names) > 2:
        return f"takes a header and at most one alternative, not {argument!r}"
    if len(names) == 2 and not names[1]:
        names.pop()  # no alternative
    for name in names:
        if not _NAME.fullmatch(name):
            return f"{name!r} is not the name of a header"
    return ""


def _time(argument: str) -> str:
    if "\n" in argument or _NEW_LINE.search(argument):
        return "a format of time must not make a line end"
    return "" if "\0" not in argument else "a format of time must not have a NUL"


def _prefix(argument: str) -> str:
    if argument and not (argument.isascii() and argument.isdigit() and int(argument) <= 128):
        return f"{argument!r} is not the length of a prefix: a number from 0 to 32 (IPv4) or 128 (IPv6)"
    return ""


def _span(argument: str) -> str:
    parts = argument.split(":")
    if len(parts) not in (2, 3):
        return f"takes START:END:PRECISION, not {argument!r}"
    for point in parts[:2]:
        if not point:
            return "START and END must be points in time"
    if parts[2:] and parts[2] not in PRECISIONS:
        return f"{parts[2]!r} is not a precision: it takes {', '.join(PRECISIONS)}"
    return ""


def _metadata(argument: str) -> str:
    kind = argument.partition(":")[0]
    if kind not in METADATA_TYPES:
        return f"{kind!r} is not a kind of metadata: it takes {', '.join(METADATA_TYPES)}"
    return ""


def _expression(argument: str) -> str:
    problem = log_problem(argument)
    return f"it {problem}" if problem else ""


def _something(what: str) -> Callable[[str], str]:
    return lambda argument: "" if argument.strip() else f"needs {what}"


_HEADER = Spec("argument", True, check=_headers)
_TIME = Spec("perhaps", check=_time)
_ADDRESS = Spec("perhaps", check=_prefix)
_SERVER_ADDRESS = Spec("perhaps", side="server", check=_prefix)
_BOTH = Spec()
_CLIENT = Spec(side="client")
_SERVER = Spec(side="server")
_NEITHER = Spec(side="neither")
_NAMED = Spec("perhaps", True, side="neither")
_PROXYS = [
    "BYTES_RETRANSMITTED",
    "PACKETS_RETRANSMITTED",
    "CONNECTION_ID",
    "UPSTREAM_CONNECTION_ID",
    "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
    "CUSTOM_FLAGS",
    "FILTER_CHAIN_NAME",
    "LISTENER_NAME",
    "ROUTE_RESOLUTION_COUNT",
    "ROUTE_RESOLUTION_TIME_US",
    "DOWNSTREAM_CX_RTT",
    "VIRTUAL_CLUSTER_NAME",
    "ROUNDTRIP_DURATION",
    "DOWNSTREAM_HANDSHAKE_DURATION",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION",
    "REQUEST_TX_DURATION",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
    "UPSTREAM_DETECTED_CLOSE_TYPE",
    "UPSTREAM_LOCAL_CLOSE_REASON",
    "DOWNSTREAM_DETECTED_CLOSE_TYPE",
    "DOWNSTREAM_LOCAL_CLOSE_REASON",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID",
]
_WIRE = [
    f"{side}_{what}_BYTES_{way}"
    for side in ("UPSTREAM", "DOWNSTREAM")
    for what in ("WIRE", "HEADER", "DECOMPRESSED_HEADER")
    for way in ("SENT", "RECEIVED")
]
_OF_PEER = [
    "SUBJECT",
    "ISSUER",
    "FINGERPRINT_256",
    "FINGERPRINT_1",
    "SERIAL",
    "CHAIN_FINGERPRINTS_256",
    "CHAIN_FINGERPRINTS_1",
    "CHAIN_SERIALS",
    "ISSUER_FINGERPRINT_256",
    "ISSUER_SERIAL",
    "CERT",
    "IP_SAN",
    "DNS_SAN",
    "EMAIL_SAN",
    "OTHERNAME_SAN",
]
_CERTIFICATES = [
    *[f"DOWNSTREAM_PEER_{what}" for what in _OF_PEER],
    *[f"DOWNSTREAM_LOCAL_{what}" for what in ("SUBJECT", "IP_SAN", "DNS_SAN", "URI_SAN", "EMAIL_SAN", "OTHERNAME_SAN")],
    *[f"DOWNSTREAM_TLS_{what}" for what in ("SESSION_ID", "CIPHER", "GROUP", "VERSION")],
    *[f"UPSTREAM_PEER_{what}" for what in ("SUBJECT", "ISSUER", "CERT", "URI_SAN", "DNS_SAN", "IP_SAN")],
    *[f"UPSTREAM_LOCAL_{what}" for what in ("URI_SAN", "DNS_SAN", "IP_SAN")],
    *[f"UPSTREAM_TLS_{what}" for what in ("SESSION_ID", "CIPHER", "GROUP", "VERSION")],
    "UPSTREAM_SERVER_NAME",
]

OPERATORS: Mapping[str, Spec] = MappingProxyType(
    {
        # -- the request ----------------------------------------------------------------------------------------------
        "REQ": _HEADER,
        "REQUEST_HEADER": _HEADER,
        "REQ_WITHOUT_QUERY": _HEADER,
        "PATH": Spec("perhaps", True, check=_one_of("part of a path", ("WQ", "NQ"), ("ORIG_OR_PATH", "ORIG", "PATH"))),
        "QUERY_PARAM": Spec("argument", True, check=_something("the name of a parameter")),
        "QUERY_PARAMS": Spec("perhaps", True, check=_one_of("a form of a query", ("ORIG", "DECODED"))),
        "PROTOCOL": _BOTH,
        "REQUEST_HEADERS_BYTES": _BOTH,
        "BYTES_RECEIVED": _BOTH,
        "STREAM_ID": _BOTH,
        "TRACE_ID": _BOTH,
        "SPAN_ID": _BOTH,
        # -- the response ---------------------------------------------------------------------------------------------
        "RESP": _HEADER,
        "RESPONSE_HEADER": _HEADER,
        "TRAILER": _HEADER,
        "RESPONSE_TRAILER": _HEADER,
        "RESPONSE_CODE": _BOTH,
        "RESPONSE_CODE_DETAILS": Spec("perhaps", check=_one_of("known", ("ALLOW_WHITESPACES",))),
        "CONNECTION_TERMINATION_DETAILS": _BOTH,
        "RESPONSE_FLAGS": _BOTH,
        "RESPONSE_FLAGS_LONG": _BOTH,
        "RESPONSE_HEADERS_BYTES": _BOTH,
        "RESPONSE_TRAILERS_BYTES": _BOTH,
        "BYTES_SENT": _BOTH,
        "GRPC_STATUS": Spec("perhaps", check=_one_of("a form of a gRPC status", GRPC_FORMS)),
        "GRPC_STATUS_NUMBER": _BOTH,
        "LOCAL_REPLY_BODY": _BOTH,
        # -- times ----------------------------------------------------------------------------------------------------
        "START_TIME": _TIME,
        "START_TIME_LOCAL": _TIME,
        "EMIT_TIME": _TIME,
        "EMIT_TIME_LOCAL": _TIME,
        "DURATION": _BOTH,
        "COMMON_DURATION": Spec("argument", check=_span),
        "REQUEST_DURATION": _NEITHER,
        "RESPONSE_DURATION": _BOTH,
        "RESPONSE_TX_DURATION": _BOTH,
        # -- where it went --------------------------------------------------------------------------------------------
        "UPSTREAM_HOST": _CLIENT,
        "UPSTREAM_HOST_NAME": _CLIENT,
        "UPSTREAM_HOST_NAME_WITHOUT_PORT": _CLIENT,
        "UPSTREAM_HOSTS_ATTEMPTED": _CLIENT,
        "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT": _CLIENT,
        "UPSTREAM_HOST_NAMES_ATTEMPTED": _CLIENT,
        "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT": _CLIENT,
        "UPSTREAM_CLUSTER": _BOTH,
        "UPSTREAM_CLUSTER_RAW": _BOTH,
        "UPSTREAM_PROTOCOL": _CLIENT,
        "UPSTREAM_LOCAL_ADDRESS": _CLIENT,
        "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": Spec("perhaps", side="client", check=_prefix),
        "UPSTREAM_LOCAL_PORT": _CLIENT,
        "UPSTREAM_REMOTE_ADDRESS": _CLIENT,
        "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": Spec("perhaps", side="client", check=_prefix),
        "UPSTREAM_REMOTE_PORT": _CLIENT,
        "UPSTREAM_REQUEST_ATTEMPT_COUNT": _CLIENT,
        "UPSTREAM_TRANSPORT_FAILURE_REASON": _CLIENT,
        "ROUTE_NAME": _BOTH,
        # -- where it came from ---------------------------------------------------------------------------------------
        "DOWNSTREAM_REMOTE_ADDRESS": _SERVER,
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": _SERVER_ADDRESS,
        "DOWNSTREAM_REMOTE_PORT": _SERVER,
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": _SERVER,
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": _SERVER_ADDRESS,
        "DOWNSTREAM_DIRECT_REMOTE_PORT": _SERVER,
        "DOWNSTREAM_LOCAL_ADDRESS": _SERVER,
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": _SERVER_ADDRESS,
        "DOWNSTREAM_LOCAL_PORT": _SERVER,
        "DOWNSTREAM_DIRECT_LOCAL_ADDRESS": _SERVER,
        "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT": _SERVER_ADDRESS,
        "DOWNSTREAM_DIRECT_LOCAL_PORT": _SERVER,
        "DOWNSTREAM_PEER_URI_SAN": _SERVER,
        "REQUESTED_SERVER_NAME": Spec(
            "perhaps",
            check=_one_of(
                "a source of a name", ("SNI_ONLY", "SNI_FIRST", "HOST_FIRST"), ("ORIG_OR_HOST", "ORIG", "HOST")
            ),
        ),
        "DYNAMIC_METADATA": Spec("argument", True, "server", _something("the namespace of the metadata")),
        "METADATA": Spec("argument", True, "server", _metadata),
        # -- the process ----------------------------------------------------------------------------------------------
        "HOSTNAME": _BOTH,
        "ENVIRONMENT": Spec("argument", True, check=_something("the name of a variable")),
        "UNIQUE_ID": _BOTH,
        "ACCESS_LOG_TYPE": _BOTH,
        "COALESCE": Spec("argument", True, check=_something("a JSON object with operators")),
        "CEL": Spec("argument", True, check=_expression),
        "TYPED_CEL": Spec("argument", True, check=_expression),
        # -- Envoy's, of what nobody here knows -----------------------------------------------------------------------
        "FILTER_STATE": Spec("argument", True, "neither"),
        "UPSTREAM_FILTER_STATE": Spec("argument", True, "neither"),
        "CLUSTER_METADATA": Spec("argument", True, "neither"),
        "UPSTREAM_METADATA": Spec("argument", True, "neither"),
        **dict.fromkeys((*_PROXYS, *_WIRE, *_CERTIFICATES), _NEITHER),
        **{
            f"{side}_PEER_CERT_V_{end}": _NAMED._replace(limit=False)
            for side in ("DOWNSTREAM", "UPSTREAM")
            for end in ("START", "END")
        },
    }
)
"""All that Envoy 1.40 has."""
