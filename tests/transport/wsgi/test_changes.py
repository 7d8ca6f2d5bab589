"""What checks change of a request: the application finds it in its environ, however the header was spelled."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.engine.header_changes import HeaderChanges
from meshlib.identity.peers import Peers
from meshlib.transport.wsgi.changes import apply
from meshlib.transport.wsgi.request import request_of
from tests.support.wsgi import environ


def changed(changes: HeaderChanges, target: str = "/", **more: Any) -> dict[str, Any]:
    made = environ(target, **more)
    apply(changes, request_of(made, None, Peers(None)), made)
    return made


def test_headers_go_and_come() -> None:
    changes = HeaderChanges()
    changes.remove.add("x-gone")
    changes.put("x-user-id", b"\xc3\xa4")
    changes.put("content-type", b"text/x")
    made = changed(
        changes, HTTP_X_GONE="1", HTTP_X_USER_ID="eve", CONTENT_TYPE="text/y", HTTP_CONTENT_TYPE="text/z", HTTP_A="b"
    )
    assert "HTTP_X_GONE" not in made
    assert (made["HTTP_X_USER_ID"], made["HTTP_A"]) == ("\xc3\xa4", "b")
    assert made["CONTENT_TYPE"] == "text/x"
    assert "HTTP_CONTENT_TYPE" not in made


def test_a_header_that_is_taken_away_is_gone_whatever_its_spelling_was() -> None:
    changes = HeaderChanges()
    changes.remove.update(("x_gone", "content-length"))
    made = changed(changes, HTTP_X_GONE="1", CONTENT_LENGTH="3")
    assert not {"HTTP_X_GONE", "CONTENT_LENGTH"} & made.keys()


@pytest.mark.parametrize("key", ["RAW_URI", "REQUEST_URI"])
def test_another_query_is_in_every_place_that_has_it(key: str) -> None:
    changes = HeaderChanges()
    changes.target = b"/a%2Fb?kept=1"
    target = "/a%2Fb?access_token=secret&kept=1"
    made = changed(changes, target, **{"RAW_URI": None, key: target})
    assert (made[key], made["QUERY_STRING"], made["PATH_INFO"]) == ("/a%2Fb?kept=1", "kept=1", "/a/b")
    assert "secret" not in repr(made)


def test_another_path_is_decoded_below_where_the_application_is_mounted() -> None:
    changes = HeaderChanges()
    changes.target = b"/api/%C3%A4"
    made = changed(changes, "/api/old?q", SCRIPT_NAME="/api", PATH_INFO="/old")
    assert (made["RAW_URI"], made["SCRIPT_NAME"], made["PATH_INFO"]) == ("/api/%C3%A4", "/api", "/\xc3\xa4")
    assert made["QUERY_STRING"] == ""


def test_a_header_more_stands_behind_those_of_its_name() -> None:
    changes = HeaderChanges()
    changes.add("x-a", b"2")
    changes.add("x-a", b"3")
    assert changed(changes, HTTP_X_A="1")["HTTP_X_A"] == "1,2,3"
