"""What has changed in a list or map, by identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meshlib.changes import GAP, Dependents, ListFollower, changed_keys


class Thing:
    """Equal to everything: identity is all that counts."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    __hash__ = object.__hash__


POOL = [Thing() for _ in range(12)]
lists = st.lists(st.sampled_from(POOL), unique_by=id, max_size=12)


def in_order(kept: dict[int, tuple[int, Any]]) -> list[Any]:
    return [thing for _, thing in sorted(kept.values(), key=lambda pair: pair[0])]


def same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return list(map(id, one)) == list(map(id, other))


@given(st.lists(lists, max_size=8))
def test_whoever_takes_away_what_is_gone_and_adds_what_has_come_has_the_list(turns: list[list[Thing]]) -> None:
    follower: ListFollower[Thing] = ListFollower()
    kept: dict[int, tuple[int, Thing]] = {}
    for items in turns:
        change = follower.turn(items)
        if change.whole:
            kept = {}
        for thing in change.gone:
            del kept[id(thing)]
        for place, thing in change.come:
            assert id(thing) not in kept
            kept[id(thing)] = (place, thing)
        assert same(in_order(kept), items)


def test_one_that_is_replaced_is_all_that_is_told() -> None:
    follower: ListFollower[Thing] = ListFollower()
    follower.turn(POOL)
    other = Thing()
    change = follower.turn([*POOL[:5], other, *POOL[6:]])
    assert same(change.gone, [POOL[5]])
    assert same([thing for _, thing in change.come], [other])
    assert not change.whole


def test_one_that_goes_from_the_front_and_one_that_comes_at_the_end_are_all_that_is_told() -> None:
    many = [Thing() for _ in range(200)]
    follower: ListFollower[Thing] = ListFollower()
    follower.turn(many[:-1])
    change = follower.turn(many[1:])
    assert same(change.gone, many[:1])
    assert same([thing for _, thing in change.come], many[-1:])


def test_when_there_is_no_room_between_two_everything_is_told_anew() -> None:
    follower: ListFollower[Thing] = ListFollower()
    items = POOL[:2]
    follower.turn(items)
    turns = 0
    while not (change := follower.turn(items := [items[0], Thing(), *items[1:]])).whole:
        turns += 1
    assert turns == GAP.bit_length() - 1
    assert same([thing for _, thing in sorted(change.come, key=lambda pair: pair[0])], items)


def test_what_is_in_a_list_twice_counts_once() -> None:
    follower: ListFollower[Thing] = ListFollower()
    follower.turn(POOL)
    change = follower.turn([*POOL, POOL[3]])
    assert same([thing for _, thing in change.come], POOL)
    assert follower.turn(POOL).whole is False


def test_keys_of_a_map_that_changed() -> None:
    one, two, three = POOL[:3]
    assert changed_keys({"a": one, "b": two}, {"b": two, "a": one}) == ([], [])
    assert changed_keys({"a": one, "b": two}, {"b": three, "c": one}) == (["b", "c"], ["a"])
    assert changed_keys({"a": one}, {}) == ([], ["a"])


def test_dependents_are_those_that_read_a_key_when_they_were_made_last() -> None:
    dependents: Dependents[str, str] = Dependents()
    dependents.read("x", ["a", "b", "a"])
    dependents.read("y", ["b"])
    assert list(dependents.of("b")) == ["x", "y"]
    dependents.read("x", ["c"])
    dependents.forget("y")
    assert not dependents.of("a")
    assert not dependents.of("b")
    assert list(dependents.of("c")) == ["x"]
