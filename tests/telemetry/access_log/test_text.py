"""Lines of text."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meshlib.compiler.access_log.format import DEFAULT, parse
from meshlib.telemetry.access_log.text import text_of
from tests.support.access_log import MadeUp


def line(form: str, *args: Any, omit: bool = False, **made: Any) -> str:
    return text_of(parse(form), lambda: 0.0, omit)(MadeUp(*args, **made))


def test_envoys_default_line() -> None:
    headers = {"user-agent": "nsq2http", "x-forwarded-for": "10.0.35.28", "x-request-id": "cc21d9b0"}
    assert line(DEFAULT, "/api", headers, {"x-envoy-upstream-service-time": "100"}) == (
        '[2016-04-15T16:00:00.250Z] "GET /api HTTP/1.1" 200 - - - 1500 100 "10.0.35.28" "nsq2http" "cc21d9b0" '
        '"reviews:9080" "10.1.2.3:9080"\n'
    )


def test_what_is_missing_is_a_dash_or_nothing() -> None:
    assert line("[%REQ(X)%] %GRPC_STATUS% %%") == "[-] - %"
    assert line("[%REQ(X)%] %GRPC_STATUS% %%", omit=True) == "[]  %"
    assert line("%REQ(X)%", headers={"x": ""}) == ""


def test_a_value_cannot_end_its_line_or_its_quotes() -> None:
    found = line('"%REQ(X-A)%" %RESPONSE_CODE%', headers={"x-a": 'a" 500\nforged\\'})
    assert found == '"a\\" 500\\nforged\\\\" 200'


def test_structures_are_json_in_a_line() -> None:
    claims = "envoy.filters.http.jwt_authn:payload"
    assert line(f"%DYNAMIC_METADATA({claims}:deep)%|%DYNAMIC_METADATA({claims}:deep:n)%") == '{\\"n\\": 1}|1'


@given(st.binary(max_size=30).map(lambda data: data.decode("latin-1")), st.text(max_size=10))
def test_any_value_and_any_literal_make_one_line(value: str, literal: str) -> None:
    literal = literal.replace("%", "").replace('"', "")
    found = line('"%REQ(X-A)%"' + literal, headers={"x-a": value})
    assert found.endswith('"' + literal)
    assert len(found.removesuffix(literal).splitlines()) == 1
