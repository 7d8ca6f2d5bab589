"""Custom tags of spans that Envoy makes: none shows what opens doors."""

from __future__ import annotations

import pytest

from meshlib.envoy.span_tags import envoys_tag, left_out
from meshlib.policy.telemetry_settings import CustomTag


@pytest.mark.parametrize("name", ["authorization", "Cookie", "x-api-key"])
def test_a_header_of_secrets_is_a_text_that_says_so(name: str) -> None:
    tag = CustomTag("door", "header", name, "closed")
    assert envoys_tag(tag) == {"tag": "door", "literal": {"value": "(not shown)"}}


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("%REQ(:PATH)%", "%PATH(NQ:PATH)%"),
        ("to %REQ(X-ENVOY-ORIGINAL-PATH?:PATH):20%!", "to %PATH(NQ:ORIG_OR_PATH):20%!"),
        ("%REQ(X-Envoy-Original-Path)%", "%PATH(NQ:ORIG)%"),
        ("%PATH%", "%PATH(NQ)%"),
        ("%PATH(WQ:ORIG)%", "%PATH(NQ:ORIG)%"),
        ("%PATH(NQ)%", "%PATH(NQ)%"),
        ("100%% %REQ_WITHOUT_QUERY(referer)%", "100%% %REQ_WITHOUT_QUERY(referer)%"),
        ("%QUERY_PARAM(page)% %RESPONSE_CODE%", "%QUERY_PARAM(page)% %RESPONSE_CODE%"),
    ],
)
def test_a_path_in_a_format_has_no_query(written: str, told: str) -> None:
    assert envoys_tag(CustomTag("a", "formatter", written)) == {"tag": "a", "value": told}


def test_a_header_that_is_the_path_has_no_query() -> None:
    assert envoys_tag(CustomTag("a", "header", ":path")) == {"tag": "a", "value": "%PATH(NQ:PATH)%"}


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("formatter", "%REQ(COOKIE)%", "leave cookie out"),
        ("formatter", "%RESP(SET-COOKIE)%", "leave set-cookie out"),
        ("formatter", "%QUERY_PARAM(access_token)%", "leave access_token out"),
        ("formatter", "%QUERY_PARAMS%", "would show a query"),
        ("formatter", "%REQ(REFERER)%", "would show a query"),
        ("formatter", "%REQ(X-A?:PATH)%", "would show a query"),
        ("formatter", '%COALESCE({"operators": [{"command": "REQ", "param": ":path"}]})%', "would show a query"),
        ("formatter", '%COALESCE({"operators": ["PATH"]})%', "would show a query"),
        ("formatter", "%CEL(request.path)%", "no expressions"),
        ("formatter", "%NOTHING%", "NOTHING"),
        ("header", "Referer", "would show the query"),
    ],
)
def test_a_tag_that_would_show_a_secret_all_the_same_is_left_out_in_words(kind: str, value: str, words: str) -> None:
    tag = CustomTag("a", kind, value)  # type: ignore[arg-type]
    assert words in left_out(tag)
    assert envoys_tag(tag) is None
