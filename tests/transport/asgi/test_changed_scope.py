"""What of a request changes for the application."""

from __future__ import annotations

from meshlib.transport.asgi.changed_scope import changed
from tests.support.asgi import http_scope, request_of


def after(target, change, *headers, **more):
    scope = http_scope(target, *headers, **more)
    request = request_of(scope, None)
    change(request)
    before = {**scope, "headers": list(scope["headers"])}
    found = changed(scope, request)
    assert scope == before, "the server's own scope stays as it is"
    return found


def test_headers_are_taken_away_and_set():
    def change(request):
        request.change().remove.add("authorization")
        request.change().put("x-user", b"ann")

    found = after("/a?b", change, (b"authorization", b"t"), (b"x-user", b"forged"), (b"x-other", b"1"))
    assert found["headers"] == [(b"host", b"shop.test"), (b"x-other", b"1"), (b"x-user", b"ann")]
    assert (found["path"], found["raw_path"], found["query_string"]) == ("/a", b"/a", b"b")


def test_a_token_in_the_query_goes_and_the_path_stays_as_it_is():
    def change(request):
        request.change().target = b"/api/a%2Fb?x=1"

    found = after("/api/a%2Fb?access_token=t&x=1", change, path="/api/a/b", root_path="")
    assert (found["path"], found["raw_path"], found["query_string"]) == ("/api/a/b", b"/api/a%2Fb", b"x=1")


def test_another_path_is_the_applications_in_both_forms():
    def change(request):
        request.change().target = b"/new%20path"

    found = after("/old?x", change, root_path="/root")
    assert (found["path"], found["raw_path"], found["query_string"]) == ("/root/new path", b"/new%20path", b"")


def test_of_an_absolute_form_the_application_gets_the_path_that_was_judged():
    found = after("http://shop.test/%61dmin?x=1", lambda _request: None, path="http://shop.test/admin")
    assert (found["path"], found["raw_path"], found["query_string"]) == ("/admin", b"/%61dmin", b"x=1")
