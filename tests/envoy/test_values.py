"""Small messages of Envoy's."""

from __future__ import annotations

import pytest

from meshlib.envoy.values import address, duration, fraction, string_match, text_of, typed
from meshlib.policy.regex import wire
from meshlib.policy.string_match import StringMatcher


@pytest.mark.parametrize(("seconds", "text"), [(0.0, "0s"), (0.025, "0.025s"), (10, "10s"), (1e-9, "0.000000001s")])
def test_a_duration_is_written_as_protobuf_reads_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_shares_are_millionths() -> None:
    assert fraction(125_000) == {"numerator": 125_000, "denominator": "MILLION"}


def test_an_address_is_an_ip_with_its_port_or_a_path() -> None:
    assert address("127.0.0.1", 80) == {"socket_address": {"address": "127.0.0.1", "port_value": 80}}
    assert address("unix:///run/app.sock", 0) == {"pipe": {"path": "/run/app.sock"}}
    assert address("unix:/run/app.sock", 0) == {"pipe": {"path": "/run/app.sock"}}


def test_conditions_keep_their_kind() -> None:
    assert string_match(StringMatcher("exact", "a", True)) == {"exact": "a", "ignore_case": True}
    assert string_match(StringMatcher("prefix", "a")) == {"prefix": "a"}
    assert string_match(StringMatcher("regex", "a.*")) == {"safe_regex": {"regex": "a.*"}}


def test_wire_strings_become_the_text_that_was_written() -> None:
    assert text_of(wire("/käse")) == "/käse"
    assert text_of("/plain") == "/plain"


def test_an_extension_says_its_type() -> None:
    made = typed("filters.http.router.v3.Router", a=1)
    assert made == {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router", "a": 1}
