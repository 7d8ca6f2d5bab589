"""A call through any channel, and what its caller hears."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.differential.grpcside.servers import Attempt, Ledger, Pairs
from tests.support.grpc_echo import SERVICE, Message, eventually

KINDS = ("Unary", "Expand", "Collect", "Chat")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Ask:
    """One call. ``copies``: as many attempts are waited for in the ledger after the answer (copies may come later);
    ``races``: the call ends by its caller's deadline."""

    script: str = "ok"
    kind: str = "Unary"
    metadata: Pairs = ()
    timeout: float | None = 8.0
    service: str = SERVICE
    texts: Sequence[str] = ("x", "y")
    copies: int = 0
    races: bool = False

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.kind}"


@dataclass(frozen=True)
class Heard:
    """What the caller heard, and what the servers saw of it."""

    code: str
    details: str = ""
    initial: Pairs = ()
    trailing: Pairs = ()
    texts: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    def __str__(self) -> str:
        attempts = "; ".join(f"{a.server} {a.path} {a.authority} {a.metadata}" for a in self.attempts)
        return f"{self.code} {self.details!r} {self.initial} {self.trailing} {self.texts} after [{attempts}]"

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(attempt.server for attempt in self.attempts)


def perform(channel: Any, ask: Ask, ledger: Ledger, side: str) -> Heard:
    """Make the call and wait for its end."""
    name = f"{side}-{next(_numbers)}"
    metadata = (("x-call", name), ("x-script", ask.script), *ask.metadata)
    streams_in, streams_out = ask.kind in ("Collect", "Chat"), ask.kind in ("Expand", "Chat")
    multi = getattr(channel, f"{'stream' if streams_in else 'unary'}_{'stream' if streams_out else 'unary'}")(
        ask.path, request_serializer=Message.SerializeToString, response_deserializer=Message.FromString
    )
    request: Any = iter([Message(text=t) for t in ask.texts]) if streams_in else Message(text="x", count=2)
    texts: list[str] = []
    begin = time.monotonic()
    try:
        if streams_out:
            call = multi(request, metadata=metadata, timeout=ask.timeout)
            for message in call:
                texts.append(message.text)
        else:
            message, call = multi.with_call(request, metadata=metadata, timeout=ask.timeout)
            if message is not None:  # grpcio's answer to a status OK without a message
                texts.append(message.text)
        code = call.code()
    except grpc.RpcError as error:
        call = error
        code = error.code()
    seconds = time.monotonic() - begin
    heard = (code.name, call.details() or "", pairs(call.initial_metadata()), pairs(call.trailing_metadata()))
    if ask.copies:
        _ = eventually(
            lambda: len(ledger.of(name)) >= ask.copies, 2
        )  # whether they are there is told by the comparison
    return Heard(*heard, tuple(texts), tuple(ledger.of(name)), seconds)


def pairs(metadata: Any) -> Pairs:
    return tuple((name, value) for name, value in metadata or ())
