"""Lines of JSON."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meshlib.compiler.access_log.format import ISTIO_LABELS, parse_json
from meshlib.telemetry.access_log.json_lines import json_of
from tests.support.access_log import MadeUp


def line(form: dict[str, Any], *args: Any, omit: bool = False, **made: Any) -> Any:
    text = json_of(parse_json(form), lambda: 0.0, omit)(MadeUp(*args, **made))
    assert text.endswith("\n")
    assert text.count("\n") == 1
    return json.loads(text)


FORM = {
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "both": "%REQ(:METHOD)% %REQ(X)% %RESPONSE_CODE%",
    "nested": {"path": "%REQ(:PATH)%", "list": ["%PROTOCOL%", "literal 100%%", "%REQ(X)%", 7]},
    "empty": {},
    "none": [],
    "fixed": True,
}


def test_values_keep_their_types() -> None:
    assert line(FORM) == {
        "code": 200,
        "flags": "-",
        "both": "GET - 200",
        "nested": {"path": "/a?b=c", "list": ["HTTP/1.1", "literal 100%", None, 7]},
        "empty": {},
        "none": [],
        "fixed": True,
    }


def test_what_is_missing_may_be_left_out() -> None:
    assert line(FORM, omit=True) == {
        "code": 200,
        "flags": "-",
        "both": "GET  200",
        "nested": {"path": "/a?b=c", "list": ["HTTP/1.1", "literal 100%", 7]},
        "empty": {},
        "none": [],
        "fixed": True,
    }


def test_keys_come_in_their_order() -> None:
    assert list(line(dict(ISTIO_LABELS))) == list(ISTIO_LABELS)
    assert list(line(FORM, omit=True))[:2] == ["code", "flags"]


def test_structures_stay_structures() -> None:
    form = {"claims": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:payload)%", '"\n': "%PROTOCOL%"}
    assert line(form) == {
        "claims": {"iss": "https://issuer", "sub": "me", "groups": ["a", "b"], "deep": {"n": 1}},
        '"\n': "HTTP/1.1",
    }


@given(st.binary(max_size=30).map(lambda data: data.decode("latin-1")))
def test_any_value_is_one_line_of_json(value: str) -> None:
    form = {"a": "%REQ(X-A)%", "b": "<%REQ(X-A)%>"}
    found = line(form, headers={"x-a": value})
    assert found["b"] == f"<{found['a']}>"
    assert line(form, headers={"x-a": value}, omit=True) == found
