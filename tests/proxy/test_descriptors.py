"""Descriptors: the limit is raised to what the system allows, and the number of connections follows from it."""

from __future__ import annotations

import resource

import pytest

from meshlib.problems import MeshError
from meshlib.proxy.descriptors import MOST, make_room


class FakeLimits:
    def __init__(self, soft: int, hard: int, *, forbids: bool = False) -> None:
        self.now = (soft, hard)
        self.forbids = forbids

    def getrlimit(self, what: int, /) -> tuple[int, int]:
        assert what == resource.RLIMIT_NOFILE
        return self.now

    def setrlimit(self, what: int, limits: tuple[int, int], /) -> None:
        if self.forbids:
            raise ValueError("not allowed to raise maximum limit")
        self.now = limits


def test_the_limit_is_raised_to_the_hard_one() -> None:
    limits = FakeLimits(1024, 65536)
    room = make_room(limits=limits)
    assert limits.now == (65536, 65536)
    assert (room.descriptors, room.connections, room.note) == (65536, (65536 - 256) // 2, "")


def test_without_a_hard_limit_a_million_are_asked_for() -> None:
    limits = FakeLimits(1024, resource.RLIM_INFINITY)
    assert make_room(limits=limits).descriptors == MOST
    assert limits.now == (MOST, resource.RLIM_INFINITY)


def test_a_limit_that_may_not_be_raised_is_what_there_is() -> None:
    room = make_room(limits=FakeLimits(4096, 65536, forbids=True))
    assert (room.descriptors, room.connections) == (4096, 1920)


def test_a_low_limit_is_told_with_what_it_allows_and_the_remedy() -> None:
    room = make_room(limits=FakeLimits(256, 1024))
    assert room.connections == 384
    assert room.note == (
        "RLIMIT_NOFILE is 1024, its hard limit too: no more than 384 connections are accepted at once. Allow more descriptors "
        "(ulimit -Hn, LimitNOFILE= of systemd, --ulimit nofile= of docker)"
    )


def test_a_limit_that_has_room_for_nothing_is_an_error() -> None:
    with pytest.raises(MeshError, match="RLIMIT_NOFILE is 278, its hard limit too: there is room for 11 connections"):
        make_room(limits=FakeLimits(278, 278))


def test_more_connections_than_there_is_room_for_are_wished_with_a_warning() -> None:
    room = make_room(10000, FakeLimits(1024, 4096))
    assert room.connections == 10000
    assert "Allow 20256 descriptors" in room.note
    assert make_room(100, FakeLimits(1024, 4096)).note == ""
    assert make_room(100, FakeLimits(1024, 4096)).connections == 100
