"""An authorizer over HTTP (``envoyExtAuthzHttp``): it gets the request's method, path and chosen headers; 200 lets it in."""

from __future__ import annotations

from collections.abc import Iterable

from meshlib.policy.ext_authz import (
    FRAMING,
    PARTIAL,
    Allowed,
    Asked,
    Authorizer,
    Change,
    Denied,
    Failed,
    Invalid,
    Verdict,
    checked,
    denied,
)
from meshlib.policy.protobuf import readable

HEADERS_TO_REMOVE = "x-envoy-auth-headers-to-remove"
"""By this header an authorizer says which headers the application is not to see."""
_ON_DENY = frozenset(("www-authenticate", "location"))
"""Go to the caller even where ``headersToDownstreamOnDeny`` does not name them."""


def target(authorizer: Authorizer, asked: Asked) -> str:
    """What is asked for: the request's path and query, behind the prefix."""
    return f"{authorizer.path_prefix}{readable(asked.target)}"


def headers(authorizer: Authorizer, asked: Asked) -> dict[str, str]:
    """The headers of the question, Host and pseudo headers aside; repeated ones joined with a comma, and what is not UTF-8 in
    them shown as ``!``, as Envoy does. Length first."""
    patterns = authorizer.request_headers
    found = {"content-length": str(len(asked.body or b""))}
    for name, values in asked.headers.items():
        if (
            (name == "authorization" or patterns.has(name))
            and name not in FRAMING
            and name != "host"
            and name[:1] != ":"
        ):
            found[name] = readable(",".join(values))
    if asked.body is not None:
        found[PARTIAL] = "true" if asked.cut else "false"
    for name, value in authorizer.additional:
        found[name.lower()] = value
    return found


def verdict(authorizer: Authorizer, status: int, pairs: Iterable[tuple[bytes, bytes]], body: bytes) -> Verdict:
    """What a response means."""
    if status >= 500:
        return Failed(f"it responded {status}")
    said = [(name.decode("latin-1").lower(), value) for name, value in pairs]
    if status == 200:
        return _allowed(authorizer, said)
    if status < 200:
        return Failed(f"it responded {status}")
    on_deny = authorizer.to_caller_on_deny
    told = [
        (name, value)
        for name, value in said
        if name != HEADERS_TO_REMOVE and (on_deny is None or name in _ON_DENY or on_deny.has(name))
    ]
    return denied(status, body, told)


def _allowed(authorizer: Authorizer, said: list[tuple[str, bytes]]) -> Allowed | Denied | Invalid:
    remove = [
        name.strip().lower()
        for key, value in said
        if key == HEADERS_TO_REMOVE
        for name in value.decode("latin-1").split(",")
    ]
    rest = [pair for pair in said if pair[0] != HEADERS_TO_REMOVE and pair[0] != "host"]
    return checked(
        Allowed(
            tuple(Change(name, value) for name, value in rest if authorizer.to_application.has(name)),
            tuple(name for name in remove if name),
            tuple(Change(name, value, "add") for name, value in rest if authorizer.to_caller_on_allow.has(name)),
        )
    )
