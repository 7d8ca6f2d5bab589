"""Connections of a port before they are served: taken, kept waiting, and cut off."""

from __future__ import annotations

import errno
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from meshlib.identity.credentials import Credentials
from meshlib.serving.admission import NO_ROOM, Turn, Waiting, accept_turn, usable
from tests.support.mesh_tls import BUNDLES, svid

BUSY, FULL, LEFT = BlockingIOError(), OSError(errno.EMFILE, "full"), OSError(errno.ECONNABORTED, "left")


class Listener:
    """Gives what it is told to give: a connection of a name, or an error."""

    def __init__(self, *gives: str | OSError) -> None:
        self.gives = list(gives)
        self.blocking: list[str] = []

    def accept(self) -> tuple[Any, object]:
        found = self.gives.pop(0)
        if isinstance(found, OSError):
            raise found
        return SimpleNamespace(name=found, setblocking=lambda flag: self.blocking.append(f"{found} {flag}")), None


def turn(listener: Listener, most: int = 64) -> tuple[list[str], bool, int, OSError | None]:
    found: Turn = accept_turn(listener, most)  # type: ignore[arg-type]
    return [one.name for one in found.connections], *found[1:]  # type: ignore[attr-defined]


def test_a_turn_takes_all_that_have_come_and_none_of_them_blocks() -> None:
    listener = Listener("a", "b", BUSY)
    assert turn(listener) == (["a", "b"], False, 0, None)
    assert listener.blocking == ["a False", "b False"]


def test_a_turn_is_bounded_so_that_those_who_are_served_get_theirs() -> None:
    listener = Listener("a", "b", "c", BUSY)
    assert turn(listener, 2) == (["a", "b"], True, 0, None)
    assert turn(listener, 2) == (["c"], False, 0, None)


def test_who_has_left_already_is_counted_and_holds_up_nobody() -> None:
    assert turn(Listener(LEFT, "a", LEFT, BUSY)) == (["a"], False, 2, None)


@pytest.mark.parametrize("number", sorted(NO_ROOM))
def test_without_room_it_ends_with_what_it_has_and_says_why(number: int) -> None:
    full = OSError(number, "full")
    assert turn(Listener("a", full, "b")) == (["a"], False, 0, full)


def test_a_real_socket_gives_its_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with socket.create_connection(listener.getsockname()):
            (found,) = accept_turn(listener).connections
            assert not found.getblocking()
            assert (type(found.family), type(found.type)) == (int, int)
            assert (found.family, found.type, found.proto) == (listener.family, listener.type, listener.proto)
            assert found.getsockname() == listener.getsockname()
            found.close()
        assert accept_turn(listener) == Turn([], False, 0, None)


def test_when_one_more_would_be_too_many_the_one_that_has_waited_longest_goes() -> None:
    waiting: Waiting[str, None] = Waiting(2)
    for name in ("first", "second"):
        assert waiting.one_too_many() is None
        waiting[name] = None
    assert waiting.one_too_many() == "first"
    del waiting["first"]
    assert waiting.one_too_many() is None


def test_those_who_have_waited_longest_make_room_in_their_order() -> None:
    waiting: Waiting[str, int] = Waiting()
    waiting.update(a=1, b=2, c=3)
    assert waiting.longest(2) == ["a", "b"]
    assert waiting.longest(9) == ["a", "b", "c"]


def test_a_certificate_can_be_shown_until_it_ends() -> None:
    credentials = Credentials(svid(ttl=60.0), BUNDLES)
    identity: Any = SimpleNamespace(current=lambda: credentials)
    end = credentials.svid.not_after
    assert usable(identity, end - 1) is credentials
    assert usable(identity, end) is None
    identity.current = lambda: None
    assert usable(identity, end - 1) is None
    assert usable(None, end - 1) is None
