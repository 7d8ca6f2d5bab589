"""The head of a request over HTTP/2, as HTTP/1.1 writes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.proxy.forwarded_path import forwarded_path
from meshlib.proxy.request import is_grpc
from meshlib.transport.protocol import http2_request
from meshlib.transport.protocol.http1 import MAX_HEAD_BYTES
from meshlib.transport.protocol.http1_request import SPECIAL
from meshlib.transport.protocol.http2_request import RequestHead, _one_by_one, read_head
from tests.support.shortcuts import NEEDS_SHORTCUTS

PSEUDO = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a?b=c"), (b":authority", b"reviews:9080"))


def head(*headers: tuple[bytes, bytes], pseudo=PSEUDO, tunnels: bool = False):
    return read_head((*pseudo, *headers), tunnels)


def with_(name: bytes, value: bytes | None):
    return tuple((key, value if key == name else old) for key, old in PSEUDO if key != name or value is not None)


def test_pseudo_headers_become_the_request_line_and_host():
    read = head((b"x-request-id", b"One"), (b"te", b"trailers"))
    assert (read.method, read.target, read.authority, read.scheme) == (b"GET", b"/a?b=c", b"reviews:9080", b"http")
    assert read.lines == b"host: reviews:9080\r\nx-request-id: One\r\nte: trailers\r\n"
    assert read.lower == b"\r\nhost: reviews:9080\r\nx-request-id: one\r\nte: trailers\r\n"
    assert read.refused is None
    assert read.length is None


def test_host_stands_in_for_an_authority_that_is_missing():
    read = head((b"host", b"ratings"), pseudo=with_(b":authority", None))
    assert read.refused is None
    assert read.lines == b"host: ratings\r\n"


def test_a_host_that_says_the_same_in_other_case_is_not_written_twice():
    read = head((b"host", b"REVIEWS:9080"))
    assert read.refused is None
    assert read.lines == b"host: reviews:9080\r\n"


def test_cookies_are_one_header_again():
    read = head((b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2"))
    assert read.lines == b"host: reviews:9080\r\nx: y\r\ncookie: a=1; b=2\r\n"


def test_what_belongs_to_a_connection_is_not_passed_on():
    assert head((b"http2-settings", b"AAAA")).lines == b"host: reviews:9080\r\n"


def test_of_te_only_trailers_goes_on_and_in_this_spelling_as_in_envoy():
    assert head((b"te", b"trailers"), (b"x", b"y")).lines == b"host: reviews:9080\r\nte: trailers\r\nx: y\r\n"
    assert head((b"te", b"Trailers"), (b"x", b"y")).lines == b"host: reviews:9080\r\nx: y\r\n"


def test_pseudo_headers_count_as_headers():
    assert head(*[(b"x", b"y")] * 96).refused is None
    assert head(*[(b"x", b"y")] * 97).refused.status == 431


def test_a_client_that_waits_for_100_is_noticed_and_its_wish_not_passed_on():
    read = head((b"expect", b"100-Continue"))
    assert read.expects_continue
    assert read.refused is None
    assert b"expect" not in read.lines


def test_the_length_of_the_body_is_read():
    assert head((b"content-length", b"12")).length == 12


@pytest.mark.parametrize(
    ("headers", "pseudo", "status", "detail"),
    [
        ([(b"host", b"other")], PSEUDO, 400, "authority_and_host_differ"),
        ([], with_(b":path", b"/a#b"), 400, "path_has_fragment"),
        ([], with_(b":path", b"*"), 400, "target_is_not_a_path"),
        ([], with_(b":scheme", b"ftp"), 400, "invalid_scheme"),
        ([], with_(b":method", b"QUERY"), 400, "unknown_method"),
        ([], with_(b":authority", b"a b"), 400, "invalid_host_header"),
        ([(b"expect", b"200-maybe")], PSEUDO, 417, "unknown_expectation"),
        ([(b"expect", b"100-continue")] * 2, PSEUDO, 417, "unknown_expectation"),
        ([(b"content-length", b"+1")], PSEUDO, 400, "invalid_content_length"),
        ([(b"x", b"y")] * 101, PSEUDO, 431, "http2.too_many_headers"),
        ([(b"x", b"y" * 61440)], PSEUDO, 431, "http2.header_list_size_too_large"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(headers, pseudo, status, detail):
    refused = head(*headers, pseudo=pseudo).refused
    assert refused is not None
    assert (refused.status, refused.detail, refused.flag) == (status, detail, "DPE")


def test_the_first_reason_is_the_one_that_is_given():
    refused = head(*[(b"x", b"y")] * 101, (b"expect", b"no"), (b"content-length", b"x")).refused
    assert refused is not None
    assert refused.status == 431


def test_options_may_ask_for_the_server_itself():
    pseudo = ((b":method", b"OPTIONS"), (b":scheme", b"http"), (b":path", b"*"), (b":authority", b"a"))
    read = head(pseudo=pseudo)
    assert read.refused is None
    assert read.target == b"*"


CONNECT = ((b":method", b"CONNECT"), (b":authority", b"db:5432"))
WEBSOCKET = ((b":method", b"CONNECT"), (b":protocol", b"websocket"), *PSEUDO[1:])


@pytest.mark.parametrize("pseudo", [CONNECT, WEBSOCKET])
def test_tunnels_are_refused_unless_asked_for(pseudo):
    refused = head(pseudo=pseudo).refused
    assert refused is not None
    assert refused.status == 405


def test_tunnels_that_are_asked_for():
    read = head(pseudo=CONNECT, tunnels=True)
    assert read.refused is None
    assert (read.method, read.authority, read.target) == (b"CONNECT", b"db:5432", b"")
    read = head(pseudo=WEBSOCKET, tunnels=True)
    assert read.refused is None
    assert (read.protocol, read.target) == (b"websocket", b"/a?b=c")


def test_a_tunnel_to_nowhere_is_refused():
    refused = head(pseudo=(CONNECT[0], (b":authority", b"a b")), tunnels=True).refused
    assert refused is not None
    assert refused.detail == "invalid_host_header"


VALUES = {
    b":method": [b"GET", b"POST", b"CONNECT", b"QUERY", b"OPTIONS"],
    b":scheme": [b"http", b"HTTPS", b"ftp"],
    b":path": [b"/a", b"*", b"no", b"/a#b", b"/" + b"x" * (MAX_HEAD_BYTES - 300)],
    b":authority": [b"reviews:9080", b"a,b", b""],
    b":protocol": [b"websocket"],
    b"host": [b"reviews:9080", b"other"],
    b"te": [b"trailers", b"Trailers"],
    b"expect": [b"100-continue", b"nothing"],
    b"content-length": [b"5", b"x"],
    b"cookie": [b"a=b"],
    b"content-type": [b"application/grpc", b"Application/grpc+proto", b"application/grpc-web", b"x" * 150],
    b"x-any": [b"", b"A"],
}
PAIRS = st.sampled_from(sorted(VALUES)).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(VALUES[name])))


@given(st.permutations(PSEUDO), st.lists(PAIRS, max_size=6), st.booleans())
def test_a_plan_for_a_list_of_names_reads_as_who_looks_at_each_header_does(pseudo, more, tunnels):
    first = {name: value for name, value in more if name.startswith(b":")}
    headers = [(name, first.pop(name, value)) for name, value in pseudo]
    headers += [*first.items(), *((name, value) for name, value in more if not name.startswith(b":"))]
    head, read = read_head(headers, tunnels), _one_by_one(headers, tunnels)
    assert (head.lines, head.lower) == (read.lines, read.lower)
    if head.plan is not None:
        names_and_values = read.lines.replace(b": ", b"").replace(b"\r\n", b"")
        assert head.size == len(names_and_values + head.method + head.target + head.scheme)
        assert head.plan.at["host"] == [name for name, _ in headers].index(b":authority")
    assert set(head.special) == set(read.special)
    for name in RequestHead.__slots__:
        if name not in ("came", "grpc", "kept", "plan", "size", "special"):
            assert getattr(head, name) == getattr(read, name), name
    assert head.grpc in (None, is_grpc(read.lower))


PSEUDO = [(b":method", b"GET"), (b":path", b"/"), (b":scheme", b"http"), (b":authority", b"a")]


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"content-type", b"application/grpc"), (b"te", b"trailers")],
        [(b"content-type", b"Application/GRPC+proto"), (b"x-envoy-a", b"1"), (b"x-envoy-b", b"2")],
        [(b"content-type", b"text/html"), (b"authorization", b"x-envoy-"), (b"content-length", b"3")],
        [(b"content-type", b"text/html"), (b"content-type", b"application/grpc"), (b"x-request-id", b"7")],
        [(b"x-forwarded-proto", b"https"), (b"cookie", b"a=b"), (b"x-forwarded-client-cert", b"By=a")],
    ],
)
@pytest.mark.parametrize("pseudo", [PSEUDO, PSEUDO[:3]])
def test_what_is_special_about_its_lines_is_known_from_its_names(pseudo, fields):
    head = read_head((*pseudo, *fields))
    assert set(head.special) == set(SPECIAL.findall(head.lower))


@pytest.mark.parametrize("target", [b"/", b"/a//b", b"/a.b?c=/d&e=~f", b"/shop.Catalog/GetItem;x=1", b"/a:b@c!d"])
def test_a_head_says_that_no_normalization_changes_its_target(target):
    head = read_head([PSEUDO[0], (b":path", target), *PSEUDO[2:]])
    assert head.refused is None
    assert head.kept is not http2_request.PLAIN
    assert forwarded_path(target, "BASE") == target


@pytest.mark.parametrize(
    "target", [b"/./a", b"/a/../b", b"/.", b"/a%41", b"/a?b=%41", b"/a\\b", b"/a|b", b"/a#b", b"/a b", b"/a\xe9"]
)
def test_a_head_does_not_say_so_of_a_target_that_has_to_be_looked_at(target):
    assert not read_head([PSEUDO[0], (b":path", target), *PSEUDO[2:]]).kept


def test_of_an_authority_that_is_too_long_nothing_is_kept():
    kept = http2_request._names_one.cache_info().currsize
    head = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a" * 50_000)]
    assert read_head(head).refused is not None
    assert http2_request._names_one.cache_info().currsize == kept


@pytest.mark.parametrize("authority", [b"", b"a,b", b"a b"])
def test_what_names_no_authority_is_refused_each_time_whatever_came_before(authority):
    other = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", authority)]
    for head in (other, PSEUDO, other, other, PSEUDO):
        assert (read_head(head).refused is None) is (head is PSEUDO)


def test_the_authority_of_the_last_head_is_not_looked_up_again():
    read_head(PSEUDO)
    looked_up = http2_request._names_one.cache_info()
    assert read_head(PSEUDO).refused is None
    assert http2_request._names_one.cache_info() == looked_up


@NEEDS_SHORTCUTS
def test_of_names_that_are_too_long_nothing_is_kept():
    """Strangers say them, and may say hundreds of others."""
    rest = [(b"x-%d-" % n + b"n" * 500, b"v") for n in range(9)]
    kept, newest = http2_request._plan.cache_info(), http2_request._newest[0]
    read = read_head([*PSEUDO, *rest])
    assert read.refused is None
    assert read.plan is None
    assert (http2_request._plan.cache_info(), http2_request._newest[0]) == (kept, newest)
    assert read_head([*PSEUDO, *rest[:4]]).plan is not None
