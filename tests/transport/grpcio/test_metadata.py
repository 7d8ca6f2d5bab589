"""Metadata as grpcio spells it and headers as the wire does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.grpcio.metadata import NOT_METADATA, from_raw, to_raw, to_text

names = st.text("abc-", min_size=1, max_size=5).filter(lambda name: not name.endswith("-bin"))


@given(st.lists(st.tuples(names, st.text(st.characters(min_codepoint=32, max_codepoint=126)))))
def test_text_goes_there_and_back(pairs):
    assert from_raw(to_raw(pairs)) == tuple(pairs)


@given(names, st.binary())
def test_bytes_are_base64_without_padding_and_come_back(name, data):
    raw = to_raw([(f"{name}-bin", data)])
    assert b"=" not in raw[0][1]
    assert from_raw(raw) == ((f"{name}-bin", data),)


def test_what_a_rule_put_there_that_is_no_base64_is_sent_as_it_is():
    assert from_raw([(b"a-bin", b"not base64!")]) == (("a-bin", b"not base64!"),)


@pytest.mark.parametrize("name", [*sorted(NOT_METADATA), ":path", ":authority", "Content-Type"])
def test_what_is_https_own_business_is_no_metadata(name):
    assert from_raw([(name.encode(), b"1"), (b"X-A", b"2")]) == (("x-a", "2"),)


def test_text_of_other_scripts_is_its_bytes_and_what_is_neither_is_refused():
    assert to_text("a", "é") == "Ã©"
    assert to_text("a", b"\xe9") == "é"
    with pytest.raises(TypeError, match="metadata 'a': expected str or bytes, not int"):
        to_text("a", 1)
