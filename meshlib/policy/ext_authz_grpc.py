"""An authorizer over gRPC (``envoyExtAuthzGrpc``): ``envoy.service.auth.v3.Authorization/Check``. The numbers of fields are
those of Envoy's attribute_context.proto, external_auth.proto and base.proto."""

from __future__ import annotations

import ipaddress

from meshlib.policy.ext_authz import (
    PARTIAL,
    Action,
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
from meshlib.policy.protobuf import Message, data, message, number, text, texts

METHOD = "/envoy.service.auth.v3.Authorization/Check"

_BY_APPEND_ACTION: dict[int, Action] = {1: "add_if_absent", 2: "set", 3: "set_if_present"}


def request(authorizer: Authorizer, asked: Asked) -> bytes:
    """The CheckRequest."""
    headers = [
        (":authority", asked.authority),
        (":method", asked.method),
        (":path", asked.target),
        (":scheme", asked.scheme),
        *((name, ",".join(values)) for name, values in asked.headers.items() if name != "host"),
    ]
    shown = b""
    if asked.body is not None:
        headers.append((PARTIAL, "true" if asked.cut else "false"))
        as_bytes = authorizer.body is not None and authorizer.body.as_bytes
        shown = data(12, asked.body) if as_bytes else text(11, asked.body.decode("latin-1"))
    http = (
        text(2, asked.method)
        + texts(3, headers)
        + text(4, asked.target)
        + text(5, asked.authority)
        + text(6, asked.scheme)
        + number(9, -1 if asked.body is None else len(asked.body))
        + text(10, asked.http_version)
        + shown
    )
    seconds, fraction = divmod(asked.received, 1)
    time = number(1, int(seconds)) + number(2, int(fraction * 1e9))
    source = message(1, _address(asked.peer)) + text(4, asked.principal)
    destination = message(1, _socket_address(asked.local_ip, asked.port)) + text(4, asked.own)
    attributes = message(1, source) + message(2, destination) + message(4, message(1, time) + message(2, http))
    return message(1, attributes)


def _address(peer: str) -> bytes:
    """Of ``127.0.0.1:4711``, ``[::1]:4711`` or ``unix:/path``: ``core.v3.Address``."""
    if peer.startswith("unix:"):
        return message(2, text(1, peer.removeprefix("unix:")))
    host, _, port = peer.rpartition(":")
    return _socket_address(host.strip("[]"), int(port) if port.isascii() and port.isdecimal() and len(port) < 6 else 0)


def _socket_address(host: str, port: int) -> bytes:
    try:
        host = str(ipaddress.ip_address(host))
    except ValueError:
        return b""  # nobody knows where
    return message(1, text(2, host) + number(3, port))


def verdict(raw: bytes) -> Verdict:
    """What a CheckResponse means."""
    try:
        said = Message(raw)
        code = said.message(1).int32(1)
        if code == 0:
            if said.has(2) or said.has(5):
                return Failed("it allows the request and says how to deny it")
            return _allowed(said.message(3))
        if said.has(5):
            return _failed(code, said.message(5))
        return _denied(said.message(2))
    except ValueError as error:
        return Failed(f"its response is not a valid CheckResponse: {error}")


def _allowed(ok: Message) -> Allowed | Invalid:
    return checked(
        Allowed(
            tuple(_change(option, default="set", appended="append") for option in ok.messages(2)),
            tuple(name.lower() for name in ok.texts(5)),
            tuple(_change(option, default="add") for option in ok.messages(6)),
            tuple((_wire(pair.text(1)), _wire(pair.text(2))) for pair in ok.messages(7)),
            tuple(_wire(name) for name in ok.texts(8)),
        )
    )


def _wire(said: str) -> str:
    return said.encode().decode("latin-1")


def _change(option: Message, default: Action, appended: Action = "add") -> Change:
    """Of a HeaderValueOption. ``append`` is the older way to say it, and counts where it is said. The first of the newer
    ways, to append, is what is written when nothing is said: then ``default`` counts. ``appended``: what the older one is."""
    header = option.message(1)
    value = header.data(2)
    value.decode()  # a text, which must be UTF-8
    action = _BY_APPEND_ACTION.get(option.number(3), default)
    if option.has(2):
        action = appended if option.message(2).number(1) else "set"
    return Change(_wire(header.text(1)).lower(), value or header.data(3), action)


def _denied(response: Message) -> Denied | Invalid:
    body = response.data(3)
    body.decode()
    headers = [_change(option, default="set") for option in response.messages(2)]
    return denied(response.message(1).int32(1), body, [(change.name, change.value) for change in headers])


def _failed(code: int, response: Message) -> Failed | Invalid:
    instead = _denied(response)
    if isinstance(instead, Invalid):
        return instead
    told = instead if response.message(1).int32(1) else None
    return Failed(f"it says that it failed, with status {code}", told)
