"""Header operations for Envoy: several levels of ours are one of Envoy's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshlib.envoy.headers import common_end, header_changes, one_level
from meshlib.policy.header_ops import HeaderOps, compile_ops

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from(["1", "2"])
OPS = st.builds(
    compile_ops, st.lists(NAMES, max_size=2), st.dictionaries(NAMES, VALUES), st.dictionaries(NAMES, VALUES)
)
HEADERS = st.lists(st.tuples(NAMES.map(str.encode), VALUES.map(str.encode)), max_size=4)


def test_values_keep_operators_and_escape_percent_signs() -> None:
    made = header_changes([compile_ops([], {"x-path": "at %REQ(:path)%"}, {"x-share": "50%%"})], "request")
    assert made == {
        "request_headers_to_add": [
            {"header": {"key": "x-path", "value": "at %REQ(:path)%"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
            {"header": {"key": "x-share", "value": "50%%"}, "append_action": "APPEND_IF_EXISTS_OR_ADD"},
        ]
    }


def test_removals_are_named_once_and_nothing_is_said_of_nothing() -> None:
    assert header_changes([HeaderOps((b"a", b"a", b"b"))], "response") == {"response_headers_to_remove": ["a", "b"]}
    assert header_changes([], "request") == {}


def test_what_all_have_at_the_end_is_counted() -> None:
    rule, own = compile_ops([], {"a": "%REQ(b)%"}, {}), HeaderOps((b"x",))
    again = compile_ops([], {"a": "%REQ(b)%"}, {})
    assert common_end([(own, rule), (again,)]) == 1
    assert common_end([(own,), (rule,)]) == common_end([(), (rule,)]) == 0


def test_of_one_destination_the_rules_own_stay_apart_as_a_value_that_comes_to_nothing_replaces_nothing() -> None:
    rule, own = compile_ops([], {"a": "%REQ(b)%"}, {}), compile_ops([], {"a": "1"}, {})
    assert common_end([(own, rule)]) == 1
    assert common_end([(rule,)]) == common_end([()]) == 0


@given(st.lists(OPS, max_size=3), HEADERS)
def test_one_level_does_what_all_do_in_turn(levels: list[HeaderOps], headers: list[tuple[bytes, bytes]]) -> None:
    expected = headers
    for level in levels:
        expected = level.apply(expected, lambda name: None)
    assert sorted(one_level(levels).apply(headers, lambda name: None)) == sorted(expected)
