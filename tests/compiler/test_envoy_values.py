"""Messages as an EnvoyFilter writes them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.compiler.envoy_values import Message, NotActedOn, snake, typed

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "aB", "value"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def test_both_spellings_of_a_field_are_one_at_every_depth():
    assert snake({"tokenBucket": {"maxTokens": 1}, "descriptors": [{"fillInterval": "1s"}]}) == {
        "token_bucket": {"max_tokens": 1},
        "descriptors": [{"fill_interval": "1s"}],
    }


@pytest.mark.parametrize("struct", ["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"])
def test_a_typed_struct_is_what_is_in_it(struct):
    inner = {
        "@type": f"type.googleapis.com/{struct}",
        "type_url": "type.googleapis.com/a.B",
        "value": {"statPrefix": "x"},
    }
    assert typed(inner) == ("a.B", {"stat_prefix": "x"})
    assert typed({"@type": "type.googleapis.com/a.B", "statPrefix": "x"}) == ("a.B", {"stat_prefix": "x"})


def test_values_have_their_types_and_what_was_not_read_is_known():
    message = Message(
        {"a": "x", "b": True, "c": "7", "d": "1.5s", "e": 1, "f": {"g": 5.0}, "h": [{}], "i": 1, "j": None}, "m"
    )
    assert message.text("a") == "x"
    assert message.flag("b")
    assert message.whole("c") == 7
    assert message.seconds("d") == 1.5
    assert message.choice("e", ("ZERO", "ONE")) == "ONE"
    assert message.message("f").whole("g") == 5
    assert len(message.messages("h")) == 1
    assert message.rest() == ["i"]
    assert (message.text("j"), message.seconds("none"), message.message("none")) == ("", None, None)


@pytest.mark.parametrize(
    "read",
    [
        lambda m: m.text("a"),
        lambda m: m.flag("a"),
        lambda m: m.whole("a", high=4),
        lambda m: m.choice("a", ("ONE",)),
        lambda m: m.seconds("a"),
        lambda m: m.message("a"),
        lambda m: m.messages("a"),
    ],
)
def test_values_of_another_type_say_where_they_stand(read):
    with pytest.raises(NotActedOn, match=r"bucket\.a"):
        read(Message({"a": 5}, "bucket"))


@given(st.dictionaries(st.sampled_from(["a", "b"]), VALUES, max_size=2))
def test_any_value_is_read_or_not_acted_on(fields):
    for read in (Message.text, Message.flag, Message.whole, Message.seconds, Message.message, Message.messages):
        with contextlib.suppress(NotActedOn):
            read(Message(fields, "m"), "a")
    with contextlib.suppress(NotActedOn):
        typed(fields)
