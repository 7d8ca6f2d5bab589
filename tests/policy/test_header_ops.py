"""Header operations: remove, set, add; Envoy's operators in values; the merge of two levels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.header_ops import (
    HeaderOps,
    UnknownOperator,
    compile_ops,
    compile_value,
    first_value,
    merge,
    unknown_operators,
)

NAMES = ("a", "b", "c")
raw_headers = st.lists(st.tuples(st.sampled_from([b"a", b"A", b"b", b"c", b"C"]), st.sampled_from([b"1", b"2"])))
levels = st.builds(
    compile_ops,
    st.lists(st.sampled_from(NAMES), max_size=2),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["s", "t", ""])),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["x", "y", ""])),
)


def nothing(_name: str) -> str | None:
    return None


def value(text: str, **headers: str) -> bytes:
    made = compile_value(text)
    return made if isinstance(made, bytes) else made({k.replace("_", "-"): v for k, v in headers.items()}.get)


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("plain", b"plain"),
        ("", b""),
        ("100%%", b"100%"),
        ("%%REQ(x)%%", b"%REQ(x)%"),
        ("%REQ(X-In)%", b"in"),
        ("<%REQ(x-in)%|%REQ(x-in)%>", b"<in|in>"),
        ("%REQ(x-none)%", b""),
        ("%REQ(x-none?x-in)%", b"in"),
        ("%REQ(x-in?x-none)%", b"in"),
        ("%REQ(x-in):1%", b"i"),
        ("%REQ(x-in):0%", b""),
        ("%REQ(x-in):99999999999999999999%", b"in"),
        ("%PROTOCOL%", b"HTTP/1.1"),
        ("é%REQ(x-in)%", "éin".encode()),
    ],
)
def test_operators_are_computed_from_the_request(text, made):
    assert value(text, x_in="in") == made


def test_a_copied_value_keeps_its_bytes():
    assert value("%REQ(x)%", x="\xe9") == b"\xe9"


def test_the_protocol_is_the_requests():
    assert compile_value("%PROTOCOL%")({":protocol": "HTTP/2"}.get) == b"HTTP/2"


@pytest.mark.parametrize("text", ["%", "50%", "%REQ()%", "%DOWNSTREAM_REMOTE_ADDRESS%", "%REQ(x"])
def test_an_operator_of_proxies_is_refused_by_name(text):
    with pytest.raises(UnknownOperator, match=r"only %REQ\(name\)%"):
        compile_value(text)
    assert unknown_operators({"ok": "1", "x": text}) == {"x"}


def test_values_without_operators_cost_nothing_at_a_call():
    assert compile_value("a%%b") == b"a%b"


# -- a level ----------------------------------------------------------------------------------------------------------


def test_removals_come_first_then_set_then_add():
    level = compile_ops(["X"], {"y": "2"}, {"x": "new", "z": "3"})
    before = [(b"x", b"old"), (b"Y", b"1"), (b"z", b"1"), (b"y", b"1")]
    assert level.apply(before, nothing) == [(b"z", b"1"), (b"y", b"2"), (b"x", b"new"), (b"z", b"3")]


def test_an_empty_value_makes_no_header_and_replaces_none():
    level = compile_ops([], {"y": "%REQ(none)%"}, {"z": ""})
    assert level.apply([(b"y", b"1")], nothing) == [(b"y", b"1")]


def test_operators_of_a_request_read_what_removals_leave_and_the_first_of_several():
    level = compile_ops(["gone"], {"seen": "%REQ(gone)%%REQ(kept)%%REQ(:path)%"}, {})
    headers = [(b"gone", b"g"), (b"Kept", b"1"), (b"kept", b"2")]
    assert level.apply_to_request(headers, {":path": "/p"}.get)[-1] == (b"seen", b"1/p")
    assert first_value(headers, "kept") == "1"
    assert first_value(headers, "none") is None


def test_operators_of_a_response_read_the_request():
    level = compile_ops([], {"seen": "%REQ(x)%"}, {})
    assert level.apply([(b"x", b"the response's")], {"x": "the request's"}.get)[-1] == (b"seen", b"the request's")


def test_what_is_handled_elsewhere_and_what_only_a_proxy_can_compute_is_left_out():
    level = compile_ops(
        ["Host", "x"], {"host": "a", "b": "1", "c": "%UPSTREAM_HOST%"}, {"HOST": "c"}, frozenset({"host"})
    )
    assert level == HeaderOps((b"x",), ((b"b", b"1"),), ())


def test_operations_are_sorted_as_istio_sorts_them():
    assert [name for name, _ in compile_ops([], {"b": "1", "a": "2", "c": "3"}, {}).set] == [b"a", b"b", b"c"]


def test_a_level_without_operations_is_false_and_one_has_words():
    assert not compile_ops([], {}, {})
    for level in (compile_ops(["a"], {}, {}), compile_ops([], {"a": "1"}, {}), compile_ops([], {}, {"a": "1"})):
        assert level
    assert compile_ops(["x-c"], {"x-a": "1"}, {"x-b": "1"}).text == "set x-a, add x-b, remove x-c"


@given(raw_headers, levels)
def test_what_is_not_named_stays_as_and_where_it_was(headers, level):
    before = list(headers)
    named = {*level.remove, *(name for name, _ in (*level.set, *level.add))}
    made = level.apply(headers, nothing)
    assert headers == before, "a new list"
    assert [p for p in made if p[0].lower() not in named] == [p for p in headers if p[0].lower() not in named]
    for name, wanted in level.set:
        if wanted:
            added = [v for n, v in level.add if n == name and v]
            assert [v for n, v in made if n.lower() == name] == [wanted, *added]


# -- two levels -------------------------------------------------------------------------------------------------------


def test_the_destinations_set_wins_both_adds_count_and_all_removals_come_first():
    rule = compile_ops(["r"], {"a": "rule", "b": "rule"}, {"c": "rule"})
    destination = compile_ops(["b"], {"a": "destination"}, {"c": "destination", "r": "new"})
    made = merge(rule, destination).apply([(b"r", b"1"), (b"a", b"1"), (b"b", b"1")], nothing)
    assert made == [(b"b", b"rule"), (b"a", b"destination"), (b"c", b"rule"), (b"c", b"destination"), (b"r", b"new")]


def test_an_empty_set_of_the_destination_leaves_the_rules():
    made = merge(compile_ops([], {"a": "rule"}, {}), compile_ops([], {"a": "%REQ(none)%"}, {}))
    assert made.apply([], nothing) == [(b"a", b"rule")]


@given(raw_headers, levels, levels)
def test_of_a_merged_level_no_header_is_set_twice(headers, rule, destination):
    merged = merge(rule, destination)
    made = merged.apply(headers, nothing)
    for name, _ in merged.set:
        wanted = [v for n, v in merged.set if n == name and v]
        if wanted:
            assert next(v for n, v in made if n.lower() == name) == wanted[-1]
            assert sum(n == name and v in (b"s", b"t") for n, v in made) == 1
