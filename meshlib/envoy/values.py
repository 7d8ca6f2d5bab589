"""Small messages of Envoy's API as plain values: durations, fractions, addresses, conditions on strings, extensions.

Values are what protobuf's JSON takes (``google.protobuf.json_format``). Texts of a snapshot that are wire strings (bytes
read as latin-1) become Unicode again by ``text_of``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshlib.policy.string_match import StringMatcher

Json = dict[str, Any]

TYPES = "type.googleapis.com/"
EXTENSIONS = f"{TYPES}envoy.extensions."
MILLION = 1_000_000
ADS: Json = {"ads": {}, "resource_api_version": "V3"}
MOST_WEIGHT = 2**32 - 1


def typed(message: str, /, **fields: Any) -> Json:
    """An extension's settings: ``message`` below ``envoy.extensions``."""
    return {"@type": EXTENSIONS + message, **fields}


def duration(seconds: float) -> str:
    """As protobuf's JSON writes durations: ``0.025s``."""
    whole = f"{seconds:.9f}".rstrip("0").rstrip(".")
    return f"{whole}s"


def fraction(share: int) -> Json:
    """A FractionalPercent of millionths."""
    return {"numerator": share, "denominator": "MILLION"}


def address(host: str, port: int) -> Json:
    """An Address: an IP (or a name) with its port, or the path of ``unix:PATH``."""
    if host.startswith("unix:"):
        return {"pipe": {"path": host.removeprefix("unix:").replace("//", "", 1) if "://" in host else host[5:]}}
    return {"socket_address": {"address": host, "port_value": port}}


def listen_address(host: str, port: int) -> Json:
    """The Address of a listener: at ``::`` it takes IPv4, too."""
    made = address(host, port)
    if host == "::":
        made["socket_address"]["ipv4_compat"] = True
    return made


def text_of(wire: str) -> str:
    """A wire string as the text that was written."""
    return wire if wire.isascii() else wire.encode("latin-1").decode("utf-8", "replace")


def string_match(matcher: StringMatcher) -> Json:
    """A StringMatcher of a condition other than "present"."""
    if matcher.kind == "regex":
        return {"safe_regex": {"regex": matcher.value}}
    return {matcher.kind: matcher.value, **({"ignore_case": True} if matcher.ignore_case else {})}
