"""Formats are read as Envoy reads them; what is wrong in one is said with its place and with what is known."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshlib.compiler.access_log.format import (
    DEFAULT,
    ISTIO,
    ISTIO_LABELS,
    Constant,
    FormatError,
    Operator,
    operators_in,
    parse,
    parse_json,
)
from meshlib.compiler.access_log.operators import OPERATORS


def test_literals_and_operators_alternate() -> None:
    assert parse("a %PROTOCOL%b%%c%REQ(X-A?:PATH):7%") == (
        "a ",
        Operator("PROTOCOL"),
        "b%c",
        Operator("REQ", "X-A?:PATH", 7),
    )
    assert parse("") == ()
    assert parse("%%%PROTOCOL%%%") == ("%", Operator("PROTOCOL"), "%")


def test_an_argument_may_have_percent_signs() -> None:
    assert parse("[%START_TIME(%Y/%m/%dT%H:%M:%S%z %s)%]")[1] == Operator("START_TIME", "%Y/%m/%dT%H:%M:%S%z %s")


def test_an_expression_may_have_parentheses_and_percent_signs() -> None:
    text = "request.headers['x-log-mtls'] == 'y' || request.url_path.contains('v1beta3')"
    assert parse(f"%CEL({text})% %TYPED_CEL(7 % (2)):1%") == (
        Operator("CEL", text), " ", Operator("TYPED_CEL", "7 % (2)", 1)
    )  # fmt: skip


def test_empty_parentheses_are_none() -> None:
    assert parse("%PROTOCOL()%") == (Operator("PROTOCOL"),)
    with pytest.raises(FormatError, match="needs an argument"):
        parse("%REQ()%")


def test_the_default_formats_are_read() -> None:
    assert [str(p) for p in parse(DEFAULT) if isinstance(p, Operator)].count("%UPSTREAM_HOST%") == 1
    assert len([p for p in parse(ISTIO) if isinstance(p, Operator)]) == 24
    assert len(parse_json(ISTIO_LABELS)) == 24


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("100%", 3, "its closing % is missing"),
        ("a\n%REQ(x)", 2, "its closing % is missing"),
        ("%REQ(x%", 0, "closing parenthesis is missing"),
        ("%req(x)%", 0, "its name in upper case"),
        (
            "x %DURATIN% y",
            2,
            r"unknown operator %DURATIN%: did you mean %DURATION% or %COMMON_DURATION% or %REQUEST_DURATION%\?$",
        ),
        ("%FLAGS%", 0, r"unknown operator %FLAGS%: did you mean %RESPONSE_FLAGS% or %RESPONSE_FLAGS_LONG%"),
        ("%QQQQ%", 0, r"unknown operator %QQQQ%: the operators are Envoy's \(docs/access-log.md\), %REQ\(X\)%"),
        ("%REQ%", 0, "needs an argument"),
        ("%DURATION(1)%", 0, "takes no argument"),
        ("%DURATION:5%", 0, "takes no length"),
        ("%START_TIME:3%", 0, "takes no length"),
        ("%REQ(a?b?c)%", 0, "at most one alternative"),
        ("%REQ(a b)%", 0, "'a b' is not the name of a header"),
        ("%START_TIME(%n)%", 0, "must not make a line end"),
        ("%START_TIME(%-5n)%", 0, "must not make a line end"),
        ("%GRPC_STATUS(x)%", 0, "it takes CAMEL_STRING, SNAKE_STRING, NUMBER"),
        ("%PATH(X)%", 0, "it takes WQ, NQ"),
        ("%CEL%", 0, "needs an argument"),
        ("%CEL(a ||)%", 0, "it is not an expression of CEL: it ends too early"),
        ("%CEL(a\n|| b)%", 0, "its argument has a line end"),
        ("%PATH(NQ:Y)%", 0, "it takes ORIG_OR_PATH, ORIG, PATH"),
        ("%PATH(NQ:PATH:Z)%", 0, "takes at most 2 values"),
        ("%COMMON_DURATION(A)%", 0, "takes START:END:PRECISION"),
        ("%COMMON_DURATION(A:B:s)%", 0, "'s' is not a precision"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(x)%", 0, "is not the length of a prefix"),
        ("%METADATA(X:y)%", 0, "'X' is not a kind of metadata"),
        ("%COALESCE(x)%", 0, "takes a JSON object"),
        ('%COALESCE({"operators": []})%', 0, "takes a JSON object"),
        ('%COALESCE({"operators": [1]})%', 0, "1 is neither"),
        ('%COALESCE({"operators": ["NO"]})%', 0, "unknown operator %NO%"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, at: int, message: str) -> None:
    with pytest.raises(FormatError, match=message) as raised:
        parse(text)
    assert raised.value.at == at


def test_a_json_format_has_objects_lists_and_constants() -> None:
    form = parse_json({"a": "%PROTOCOL%", "b": {"c": ["x", {"d": "%DURATION%"}]}, "n": 1, "t": True, "z": None})
    assert form == {
        "a": (Operator("PROTOCOL"),),
        "b": {"c": [("x",), {"d": (Operator("DURATION"),)}]},
        "n": Constant(1),
        "t": Constant(True),
        "z": Constant(None),
    }
    assert operators_in(form) == [Operator("PROTOCOL"), Operator("DURATION")]


def test_what_is_wrong_in_json_is_said_with_its_key() -> None:
    with pytest.raises(FormatError) as raised:
        parse_json({"a": {"b": ["ok", "x %NO%"]}})
    assert (raised.value.key, raised.value.at) == ("a.b[1]", 2)
    with pytest.raises(FormatError, match="not a value of JSON"):
        parse_json({"a": {1, 2}})
    deep: object = "x"
    for _ in range(40):
        deep = [deep]
    with pytest.raises(FormatError, match="nested deeper"):
        parse_json({"a": deep})


def test_coalesce_has_operators_of_its_own() -> None:
    text = '%COALESCE({"operators": ["REQUESTED_SERVER_NAME", {"command": "REQ", "param": "x", "max_length": 3}]}):9%'
    (found,) = parse(text)
    assert isinstance(found, Operator)
    assert (found.limit, found.nested) == (9, (Operator("REQUESTED_SERVER_NAME"), Operator("REQ", "x", 3)))
    assert len(operators_in((found,))) == 3


@pytest.mark.parametrize(
    ("text", "side", "why"),
    [
        ("%UPSTREAM_HOST%", "client", ""),
        ("%UPSTREAM_HOST%", "server", "only the client"),
        ("%DOWNSTREAM_PEER_URI_SAN%", "client", "only the server"),
        ("%FILTER_STATE(x)%", "client", "only a proxy"),
        ("%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload:sub)%", "server", ""),
        ("%METADATA(DYNAMIC:envoy.filters.http.jwt_authn)%", "server", ""),
        ("%METADATA(ROUTE:envoy.filters.http.jwt_authn)%", "server", "verified tokens"),
        ("%DYNAMIC_METADATA(x:y)%", "server", "verified tokens"),
        ("%COMMON_DURATION(DS_RX_BEG:DS_TX_END:ms)%", "client", ""),
        ("%COMMON_DURATION(DS_RX_BEG:mine:ms)%", "client", "mine is a point in time that filters"),
        (
            "%COMMON_DURATION(US_CX_BEG:US_CX_END:ms)%",
            "client",
            "nobody here takes the time of US_CX_BEG, but of DS_RX_BEG, US_TX_BEG",
        ),
        ("%REQUEST_DURATION%", "server", "only a proxy knows it"),
        ("%CEL(request.path == '/a')%", "server", ""),
        ("%TYPED_CEL(request.hots)%", "client", "it reads request.hots, which does not exist: request has duration"),
    ],
)
def test_a_value_that_nobody_knows_here_is_told(text: str, side: str, why: str) -> None:
    (found,) = parse(text)
    assert isinstance(found, Operator)
    assert (
        found.unknown_here(side).startswith(why)
        if why == "" or "verified" not in why
        else why in found.unknown_here(side)
    )
    assert bool(found.unknown_here(side)) is bool(why)


NAMES = st.sampled_from(sorted(OPERATORS))
PIECES = st.lists(
    st.one_of(
        st.text(max_size=6),
        st.builds(lambda n: f"%{n}%", NAMES),
        st.builds(lambda n, a, z: f"%{n}({a}):{z}%", NAMES, st.text(max_size=5), st.integers(0, 99)),
        st.sampled_from(["%", "%%", "%REQ(:PATH)%", "(", ")%", ":1%"]),
    ),
    max_size=6,
).map("".join)


@given(PIECES)
@example("%%REQ(x)%")
def test_any_text_is_read_or_refused_and_says_the_same_when_written_again(text: str) -> None:
    try:
        parts = parse(text)
    except FormatError as error:
        assert 0 <= error.at <= len(text)
        return
    written = "".join(p.replace("%", "%%") if isinstance(p, str) else str(p) for p in parts)
    assert parse(written) == parts
    assert all(isinstance(p, Operator) or p for p in parts)
    assert not any(isinstance(a, str) and isinstance(b, str) for a, b in itertools.pairwise(parts))
