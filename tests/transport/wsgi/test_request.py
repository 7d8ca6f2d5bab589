"""What a WSGI environ tells of a request, and what it cannot tell."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import meshlib
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.stand_in import STAND_IN, StandIn
from meshlib.engine.wanted_headers import WantedHeaders
from meshlib.identity.peers import Peers
from meshlib.policy.path_spellings import decode
from meshlib.transport.wsgi import request as module
from meshlib.transport.wsgi.request import EnvironHeaders, WsgiRequest, request_of
from tests.support.wsgi import environ

WSGIREF = {"RAW_URI": None, "SERVER_SOFTWARE": "WSGIServer/0.2 CPython/3.11", "gunicorn.socket": None}
WAITRESS = {"RAW_URI": None, "SERVER_SOFTWARE": "waitress", "gunicorn.socket": None}


@pytest.mark.parametrize(
    ("target", "more", "path", "query"),
    [
        ("/a%2Fb?c=%20", {}, "/a%2Fb", "c=%20"),
        ("//a/../b", {}, "//a/../b", ""),
        ("/a/b", {"RAW_URI": None, "REQUEST_URI": "/a%2Fb?x"}, "/a%2Fb", "x"),
        ("/", {"RAW_URI": "http://shop.example:8000/x?y", "PATH_INFO": "/x"}, "/x", "y"),
        # nothing raw: what came decoded is quoted again, and %2F is a slash to everybody
        ("/a%2Fb%20c?d=1", WSGIREF, "/a/b%20c", "d=1"),
        ("/%C3%A4", WSGIREF, "/%C3%A4", ""),
        ("/%3F%23%25", WSGIREF, "/%3F%23%25", ""),
        ("/api/x", {**WSGIREF, "SCRIPT_NAME": "/api", "PATH_INFO": "/x"}, "/api/x", ""),
        ("/", {**WSGIREF, "PATH_INFO": ""}, "/", ""),
        ("/a;b=1,c:d@e!$&'()*+~", WSGIREF, "/a;b=1,c:d@e!$&'()*+~", ""),
    ],
)
def test_the_path_is_the_request_lines_where_the_server_keeps_it(
    target: str, more: dict[str, Any], path: str, query: str
) -> None:
    request = request_of(environ(target, **more), None, Peers(None))
    assert (request.malformed, request.path, request.query) == (None, path, query)
    assert request.routed is None


@given(st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=20).map("/".__add__))
def test_what_is_quoted_again_decodes_to_what_the_application_is_given(path: str) -> None:
    request = request_of(environ(PATH_INFO=path, **WSGIREF), None, Peers(None))
    assert request.malformed is None
    assert decode(request.path) == path
    assert request.routed is None


@pytest.mark.parametrize(
    ("target", "more", "routed"),
    [
        ("//admin", {"PATH_INFO": "/admin"}, "/admin"),  # waitress
        ("/public", {"PATH_INFO": "/admin"}, "/admin"),  # a middleware that rewrites
        ("/public", {"PATH_INFO": "", "SCRIPT_NAME": "/admin"}, "/admin"),
        ("/a%2Fb", {"PATH_INFO": "/a%2Fb"}, "/a%2Fb"),  # nobody has decoded it
        ("/api/x", {"SCRIPT_NAME": "/api", "PATH_INFO": "/x"}, None),
        ("/api", {"SCRIPT_NAME": "/api", "PATH_INFO": ""}, None),
        ("/x", {"SCRIPT_NAME": "/prefix", "PATH_INFO": "/x"}, None),  # told by a proxy; routes do not see it
        ("/a%2Fb", {}, None),
    ],
)
def test_where_the_application_is_given_another_path_that_one_is_judged_too(
    target: str, more: dict[str, Any], routed: str | None
) -> None:
    assert request_of(environ(target, **more), None, Peers(None)).routed == routed


def of_texts(*texts: str | None) -> tuple[Any, ...]:
    """As ``values_of`` has them."""
    return WantedHeaders(()).of_texts(texts)


def test_headers_are_read_by_their_names() -> None:
    request = request_of(
        environ(HTTP_X_ROLE="a,b", CONTENT_TYPE="text/plain", CONTENT_LENGTH="3", HTTP_COOKIE="c=1"), None, Peers(None)
    )
    assert request.header("x-role") == "a,b"
    assert request.header("content-type") == "text/plain"
    assert request.header("content-length") == "3"
    assert request.header("host") == "shop.example:8000"
    assert request.header("nothing") is None
    assert (b"x-role", b"a,b") in request.headers
    nothing = request_of(
        environ(CONTENT_TYPE="", CONTENT_LENGTH=""), None, Peers(None)
    )  # as CGI says that there is none
    assert nothing.header("content-type") is None
    assert nothing.header("content-length") is None


def test_headers_are_pairs_like_any_others() -> None:
    headers = EnvironHeaders({"HTTP_A": "1", "HTTP_B_C": "2", "SERVER_NAME": "x", "HTTP_D": object()})
    assert list(headers) == [("a", "1"), ("b-c", "2")]
    assert (len(headers), headers[1], headers[:1]) == (2, ("b-c", "2"), [("a", "1")])


@pytest.mark.parametrize(
    ("more", "folds"),
    [
        ({}, False),
        ({"SERVER_SOFTWARE": "gunicorn/22.0.0"}, False),
        ({"SERVER_SOFTWARE": "gunicorn/100.1"}, False),
        ({"SERVER_SOFTWARE": "gunicorn/21.2.0"}, True),
        ({"SERVER_SOFTWARE": "gunicorn/2.0"}, True),
        ({"SERVER_SOFTWARE": "gunicorn/220"}, False),
        ({"SERVER_SOFTWARE": None}, False),  # werkzeug's test client
        ({"SERVER_SOFTWARE": "Werkzeug/3.1.3"}, False),
        (WAITRESS, False),
        (WSGIREF, True),
        ({"SERVER_SOFTWARE": "uWSGI", "RAW_URI": None, "REQUEST_URI": "/"}, True),
        ({"SERVER_SOFTWARE": None, "RAW_URI": None}, True),
        ({"SERVER_SOFTWARE": "xgunicorn/27.0"}, True),
    ],
)
def test_a_name_that_may_stand_for_another_counts_against_the_caller(more: dict[str, Any], folds: bool) -> None:
    request = request_of(environ(HTTP_X_ROLE="admin", HTTP_ACCEPT="*/*", **more), None, Peers(None))
    assert request.folds is folds
    # one line that is it, for what forbids; one that is not, for what permits
    assert request.header("x-role") == "admin"
    assert request.header_values("x-role") == (["admin", ""] if folds else None)
    assert request.header_values("accept") is None
    # a policy that names x_role means a name that no server of these lets in
    assert request.header("x_role") == "admin"
    assert request.header_values("x_role") == ["admin", ""]
    assert request.header_values("x_nothing") is None
    assert request.header_values("x-nothing") is None


def test_whom_the_nearest_proxy_has_seen_is_not_for_the_client_to_say() -> None:
    told = {"HTTP_X_FORWARDED_FOR": "6.6.6.6, 7.7.7.7"}
    assert request_of(environ(**told), None, Peers(None)).remote_ip == "7.7.7.7"
    assert request_of(environ(**told, **WSGIREF), None, Peers(None)).remote_ip == ""  # or it was x_forwarded_for
    assert request_of(environ(**WSGIREF), None, Peers(None)).remote_ip == "10.0.0.1"


def test_a_connection_is_read_once_and_late() -> None:
    made = environ()
    request = request_of(made, None, Peers(None))
    asked = []
    made["gunicorn.socket"].getsockname = lambda: asked.append(1) or ("10.0.0.9", 8000)
    assert asked == []
    assert [request.local_ip, request.local_ip] == ["10.0.0.9"] * 2
    assert asked == [1]


def test_what_is_read_before_the_environ_changes_is_what_came() -> None:
    made = environ(HTTP_X_ROLE="user")
    request = request_of(made, None, Peers(None))
    request.read()
    made["HTTP_X_ROLE"] = "admin"
    del made["gunicorn.socket"]
    assert (request.header("x-role"), request.local_ip) == ("user", "10.0.0.9")


def test_protocol_and_scheme_are_the_connections() -> None:
    plain = request_of(
        environ(**{"wsgi.url_scheme": "https"}), None, Peers(None)
    )  # as X-Forwarded-Proto of a proxy would have it
    assert (plain.secure, plain.scheme, plain.http2, plain.version) == (False, "http", False, "HTTP/1.1")
    other = request_of(
        environ(**WAITRESS, **{"wsgi.url_scheme": "https", "SERVER_PROTOCOL": "HTTP/2"}), None, Peers(None)
    )
    assert (other.secure, other.http2) == (True, True)


def test_http_1_0_without_a_host_is_served_and_its_host_is_unknown() -> None:
    request = request_of(environ(HTTP_HOST=None, SERVER_PROTOCOL="HTTP/1.0"), None, Peers(None))
    assert (request.malformed, request.host_known, request.authority) == (None, False, "")


def test_what_a_proxy_sends_on_and_mirrors_is_the_same_request() -> None:
    request = request_of(environ(HTTP_X_ROLE="admin"), None, Peers(None))
    shadow = request.shadow()
    assert (shadow.folds, shadow.malformed, shadow.local_ip) == (False, None, "")
    assert (b"host", b"shop.example-shadow:8000") in shadow.headers


def test_a_caller_of_a_users_test_is_an_object_in_the_environ_and_nothing_that_a_client_sends() -> None:
    principal = "spiffe://cluster.local/ns/shop/sa/cart"
    caller = StandIn(principal, source_ip="10.0.0.7")
    request = request_of(environ(**{STAND_IN: caller}), None, Peers(None))
    assert (request.principal, request.mutual, request.source_ip) == (principal, True, "10.0.0.7")
    for key in (STAND_IN, "HTTP_MESHLIB_TESTING_CALLER", f"HTTP_{STAND_IN.upper()}"):
        request = request_of(environ(**{key: principal}), None, Peers(None))
        assert (request.principal, request.mutual) == ("", False)


def test_what_a_check_sets_the_next_one_reads_in_either_spelling() -> None:
    request = request_of(environ(HTTP_X_ROLE="eve"), None, Peers(None))
    request.put("x_role", b"admin")
    assert (request.header("x-role"), request.header("x_role")) == ("admin", "admin")
    request.add("x_role", b"user")
    assert request.header("x-role") == "admin,user"
    request.take_away("x_role")
    assert (request.header("x-role"), request.header("x_role")) == (None, None)


def test_every_fact_of_a_request_is_there_though_few_are_read_at_first() -> None:
    """``request_of`` leaves slots empty that are read when somebody asks: one that is new must be known to it."""
    slots = {slot for kind in WsgiRequest.__mro__ for slot in getattr(kind, "__slots__", ())}
    request = request_of(environ("/a?b=1"), None, Peers(None))
    plain = InboundRequest("GET", "/a", query="b=1", authority="shop.example:8000", peer="10.0.0.1:4711", port=8000,
                           local_ip="10.0.0.9", version="HTTP/1.1")  # fmt: skip
    for slot in slots - {"_environ", "folds", "looked_at", "malformed", "_raw", "body_source"}:
        assert getattr(request, slot) == getattr(plain, slot), slot
    with pytest.raises(AttributeError, match="nothing_like_it"):
        request.nothing_like_it


@pytest.mark.parametrize(
    ("forwarded", "ip"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("1.1.1.1,10.1.2.3", "10.1.2.3"),
        ("10.1.2.3,", ""),
        ("10.1.2.3, ", ""),
        ("x", "10.0.0.1"),
    ],
)
def test_of_x_forwarded_for_it_is_not_known_whether_its_last_line_or_item_is_empty(forwarded: str, ip: str) -> None:
    """gunicorn joins lines with a comma; an empty line is overlooked, an empty item is no address."""
    assert (
        request_of(environ(HTTP_X_FORWARDED_FOR=forwarded, REMOTE_ADDR="10.0.0.1"), None, Peers(None)).remote_ip == ip
    )


def test_a_folded_name_satisfies_no_rule_that_permits() -> None:
    rule = {"when": [{"key": "request.headers[x-role]", "values": ["admin"]}]}
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {"rules": [rule]},
    }
    with meshlib.Mesh.from_resources([policy]) as mesh:
        application = meshlib.MeshWSGIMiddleware(lambda e, start: (start("200 OK", []), [b""])[1], mesh)
        statuses: list[str] = []
        for more in ({}, WSGIREF):
            seen = environ(HTTP_X_ROLE="admin", **more)
            list(application(seen, lambda status, headers, error=None: statuses.append(status)))
    assert [status[:3] for status in statuses] == ["200", "403"]


def test_what_is_remembered_of_targets_is_bounded_and_nothing_that_was_unclear() -> None:
    module._clear.clear()
    for sent in ("/x?token=s3cret", "/a#b", "/" + "x" * 300, "http://other/"):
        request_of(environ(sent), None, Peers(None))
    request_of(environ("//admin", PATH_INFO="/admin"), None, Peers(None))
    request_of(environ("/x", HTTP_HOST=None, SERVER_PROTOCOL="HTTP/1.0"), None, Peers(None))
    assert module._clear == {}
    for n in range(module.MAX_CLEAR + 10):
        request_of(environ(f"/{n}"), None, Peers(None))
    assert len(module._clear) <= module.MAX_CLEAR
    first = request_of(environ("/a%2Fb"), None, Peers(None))
    again = request_of(environ("/a%2Fb"), None, Peers(None))
    assert [(r.path, r.query, r.authority, r.routed, r.malformed) for r in (first, again)] == [
        ("/a%2Fb", "", "shop.example:8000", None, None)
    ] * 2
    other = request_of(environ("/a%2Fb", PATH_INFO="/other"), None, Peers(None))
    assert other.routed == "/other"


KEYS = ("HTTP_X_A", "HTTP_X-A", "HTTP_x_a", "HTTP_CONTENT_TYPE", "CONTENT_TYPE", "CONTENT_LENGTH", "X_A", "HTTP_")


@given(
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(("", "1", "a,b", "\xe9", object())), max_size=5),
    st.lists(st.sampled_from(("x-a", "X-A", "content-type", "content-length", "", "nothing")), min_size=1),
)
def test_a_header_that_is_looked_up_alone_is_what_it_is_among_all(more: dict[str, Any], names: list[str]) -> None:
    """Whatever an environ calls its headers: what is not found cannot be forbidden."""
    made = environ(**{key: value for key, value in more.items() if type(value) is str or key[:5] == "HTTP_"})
    request, plain = request_of(made, None, Peers(None)), InboundRequest("GET", "/", list(EnvironHeaders(made)))
    for name in names:
        unread = request_of(made, None, Peers(None))
        assert unread.values_of(WantedHeaders((name,))) == of_texts(plain.header(name))
        assert request.header(name) == plain.header(name)
        assert request.values_of(WantedHeaders((name,))) == of_texts(plain.header(name))
    several = WantedHeaders(tuple(names))
    for _ in range(2):  # learned, and known
        unread = request_of(made, None, Peers(None))
        assert unread.values_of(several) == of_texts(*map(plain.header, names))


def test_a_header_is_what_it_was_when_one_was_first_looked_at() -> None:
    made = environ(HTTP_X_ROLE="user")
    request = request_of(made, None, Peers(None))
    assert request.header("accept") is None
    made["HTTP_X_ROLE"] = made["HTTP_ACCEPT"] = "admin"
    assert (request.header("x-role"), request.header("accept")) == ("user", None)
    assert request.values_of(WantedHeaders(("x-role", "accept"))) == of_texts("user", None)
    assert [value for name, value in request.headers if name in (b"x-role", b"accept")] == [b"user"]


def test_environs_alike_are_read_once_and_names_that_strangers_choose_take_no_memory() -> None:
    known = module._keys
    known.clear()
    for value in ("1", "2"):
        assert request_of(environ(HTTP_X_A=value), None, Peers(None)).header("x-a") == value
    assert len(known) == 1
    assert request_of(environ(**{"HTTP_" + "A" * 1024: "1"}), None, Peers(None)).header("a" * 1024) == "1"
    assert len(known) == 1
    for n in range(module.MOST_ENVIRONS + 10):
        assert request_of(environ(**{f"HTTP_N{n}": "1"}), None, Peers(None)).header("x-a") is None
    assert len(known) <= module.MOST_ENVIRONS
    known.clear()


def test_how_several_headers_are_taken_is_learned_of_so_many_environs(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = WantedHeaders(("x-a", "host"))
    monkeypatch.setattr(module, "MOST_ENVIRONS", 10)
    for n in range(30):
        request = request_of(environ(**{"HTTP_X_A": str(n), f"HTTP_N{n}": "1"}), None, Peers(None))
        assert request.values_of(wanted) == of_texts(str(n), request.header("host"))
    assert len(wanted.takes_of_environs) <= 10
    request = request_of(environ(**{"HTTP_X_A": "1", "HTTP_" + "A" * 1024: "1"}), None, Peers(None))
    assert request.values_of(wanted) == of_texts("1", request.header("host"))
    assert len(wanted.takes_of_environs) <= 10
