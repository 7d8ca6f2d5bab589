"""The table of operators: each of Envoy's, with what it takes."""

from __future__ import annotations

import re

from meshlib.compiler.access_log.format import DEFAULT, ISTIO, Operator, operators_in, parse
from meshlib.compiler.access_log.operators import METADATA_TYPES, OPERATORS


def test_names_are_those_that_the_parser_reads() -> None:
    assert all(re.fullmatch(r"[A-Z0-9_]+", name) for name in OPERATORS)


def test_everything_in_the_default_formats_is_known() -> None:
    for text in (DEFAULT, ISTIO):
        assert all(OPERATORS[each.name].side != "neither" for each in operators_in(parse(text)))
    assert OPERATORS["FILTER_STATE"].side == "neither"


def test_a_check_says_nothing_of_what_is_right() -> None:
    assert OPERATORS["REQ"].check("X-Envoy-Original-Path?:PATH") == ""
    assert OPERATORS["REQ"].check("x?") == ""
    assert OPERATORS["PATH"].check("NQ:ORIG") == OPERATORS["PATH"].check(":PATH") == ""
    assert OPERATORS["START_TIME"].check("%Y%%m") == ""
    assert OPERATORS["DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT"].check("24") == ""
    assert all(OPERATORS["METADATA"].check(f"{kind}:a:b") == "" for kind in METADATA_TYPES)


def test_an_operator_is_written_as_it_is_read() -> None:
    for text in ("%REQ(X-A?B):3%", "%PROTOCOL%", "%START_TIME(%s)%"):
        (found,) = parse(text)
        assert isinstance(found, Operator)
        assert str(found) == text
