"""What checks change of a request before its application sees it."""

from __future__ import annotations

from meshlib.engine.header_changes import HeaderChanges
from meshlib.engine.inbound_request import InboundRequest


def test_headers_are_taken_away_whatever_their_spelling():
    changes = HeaderChanges()
    changes.remove.add("authorization")
    assert changes.applied([(b"Authorization", b"x"), (b"authorization", b"y"), (b"a", b"1")]) == [(b"a", b"1")]


def test_a_header_that_is_set_takes_the_place_of_what_the_wire_has():
    changes = HeaderChanges()
    changes.put("x-user", b"jo")
    changes.put("x-user", b"ann")
    assert changes.applied([(b"X-User", b"root"), (b"a", b"1")]) == [(b"a", b"1"), (b"x-user", b"ann")]


def test_its_text_tells_no_value():
    changes = HeaderChanges()
    changes.put("x-token", b"secret")
    assert "x-token" in repr(changes)
    assert "secret" not in repr(changes)


def test_a_request_has_none_until_a_check_makes_them():
    request = InboundRequest("GET", "/")
    assert request.for_application is None
    assert request.change() is request.change() is request.for_application
