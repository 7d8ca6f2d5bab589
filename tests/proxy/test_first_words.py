"""A connection whose client has to say something first, as its listener knows it."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.proxy.first_words import FirstWords
from meshlib.proxy.gateway_greeting import Greeting
from meshlib.proxy.proxied import Proxied


class Listener:
    def __init__(self) -> None:
        self.told: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda _connection: self.told.append(name)


class Transport:
    def __init__(self, closing: bool = False) -> None:
        self.closing, self.aborted = closing, False

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.aborted = True


KINDS = pytest.mark.parametrize("kind", [FirstWords, Greeting, Proxied])


@KINDS
def test_its_listener_keeps_it_waits_for_it_and_hears_that_it_has_gone(kind: type[FirstWords[Any]]) -> None:
    listener = Listener()
    connection = kind(listener)
    connection.connection_made(Transport())  # type: ignore[arg-type]
    assert listener.told == ["opened", "greeting"]
    connection.connection_lost(None)
    assert listener.told == ["opened", "greeting", "greeted", "closed"]


@KINDS
def test_one_that_its_listener_has_closed_at_once_is_not_waited_for(kind: type[FirstWords[Any]]) -> None:
    listener = Listener()
    kind(listener).connection_made(Transport(closing=True))  # type: ignore[arg-type]
    assert listener.told == ["opened"]


@KINDS
def test_it_is_left_alone_by_draining_and_broken_off_when_given_up(kind: type[FirstWords[Any]]) -> None:
    connection, transport = kind(Listener()), Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    connection.drain()
    assert (connection.waits(), transport.aborted) == (None, False)
    connection.give_up(None)  # type: ignore[arg-type]
    assert transport.aborted
