"""What upstreams do wrong: the exact exception or answer, in both runtimes, and the connection never used again."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import httpx
import pytest
import trustme

import meshlib
from meshlib import errors
from tests.support.evil_server import OK, EvilServer, bytewise
from tests.support.resources import destination_rule, pod, service, to, virtual_service


class Runtime:
    """The same calls, blocking or asyncio, over one client that stays open."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._loop = asyncio.new_event_loop() if name == "asyncio" else None

    def open(self, mesh: meshlib.Mesh, **options):
        self.mesh = mesh
        self.client = mesh.client(**options) if self._loop is None else mesh.async_client(**options)

    def request(self, method: str, path: str = "/", **kwargs) -> httpx.Response:
        made = self.client.request(method, f"http://reviews:9080{path}", **kwargs)
        return made if self._loop is None else self._loop.run_until_complete(made)

    def get(self, path: str = "/", **kwargs) -> httpx.Response:
        return self.request("GET", path, **kwargs)

    def close(self) -> None:
        if self._loop is None:
            self.client.close()
        else:

            async def end() -> None:
                await self.client.aclose()
                self.mesh._core.loop_upstream().close()
                await asyncio.sleep(0.01)

            self._loop.run_until_complete(end())
            self._loop.close()


@pytest.fixture(params=["sync", "asyncio"])
def runtime(request):
    made = Runtime(request.param)
    yield made
    made.close()


@pytest.fixture
def serve(runtime):
    """A mesh whose only endpoint is an evil server with these plans."""
    opened = []

    def start(*plans, policy=None, rule=None, tls=None, options=None, read_body=True) -> EvilServer:
        server = EvilServer(*plans, tls=tls, read_body=read_body).__enter__()
        resources = [service("reviews"), pod("reviews", "v1", server.port)]
        if policy:
            resources.append(destination_rule("reviews", **policy))
        if rule:
            resources.append(virtual_service("reviews", {"route": [to("reviews")], **rule}))
        mesh = meshlib.Mesh.from_resources(resources)
        runtime.open(mesh, **(options or {}))
        opened.append((server, mesh))
        return server

    yield start
    for server, mesh in opened:
        server.__exit__()
        mesh.close()


BROKEN_HEADS = {
    "not HTTP at all": b"SSH-2.0-OpenSSH\r\n\r\n",
    "a version that is not 1.1": b"HTTP/3.7 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a space before the colon": b"HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok",
    "a bad header name": b"HTTP/1.1 200 OK\r\nb\x00d: 1\r\ncontent-length: 2\r\n\r\nok",
    "content-length that is no number": b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
    "length and chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a head of 70 KB": b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\n\r\n",
    "an endless head": b"HTTP/1.1 200 OK\r\n" + b"x: " + b"a" * 200_000,
    "101 headers": b"HTTP/1.1 200 OK\r\n" + b"x: 1\r\n" * 100 + b"content-length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("name", list(BROKEN_HEADS))
def test_an_answer_that_is_not_proper_http_raises_remote_protocol_error(runtime, serve, name):
    server = serve([BROKEN_HEADS[name]], [OK])
    with pytest.raises(httpx.RemoteProtocolError) as caught:
        runtime.request("POST", content=b"x")
    assert isinstance(caught.value, errors.UpstreamReset)
    assert caught.value.exchange.flags == "UPE"
    assert runtime.get().text == "ok"
    assert server.connections == 2  # the broken connection is never used again


def test_respond_answers_502_for_an_answer_that_is_not_http(runtime, serve):
    serve([b"garbage\r\n\r\n"], options={"local_replies": "respond"})
    response = runtime.get()
    assert response.status_code == 502
    assert "protocol error" in response.text


def test_a_connection_closed_without_an_answer_raises_remote_protocol_error(runtime, serve):
    serve(["close"], [OK])
    with pytest.raises(httpx.RemoteProtocolError, match="closed the connection without a response") as caught:
        runtime.request("POST", content=b"x")
    assert caught.value.exchange.flags == "UC"
    assert runtime.get().text == "ok"


def test_a_reset_connection_raises_remote_protocol_error(runtime, serve):
    serve(["reset"], [OK])
    with pytest.raises(httpx.RemoteProtocolError, match="the connection broke|without a response"):
        runtime.request("POST", content=b"x")
    assert runtime.get().text == "ok"


def test_a_head_cut_in_the_middle_raises_remote_protocol_error(runtime, serve):
    serve([b"HTTP/1.1 200 OK\r\ncontent-le", "close"], [OK])
    with pytest.raises(httpx.RemoteProtocolError):
        runtime.request("POST", content=b"x")
    assert runtime.get().text == "ok"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\n",
    ],
)
def test_a_body_cut_in_the_middle_raises_while_reading(runtime, serve, head):
    server = serve([head + b"half", 0.05, "close"], [OK])
    with pytest.raises(httpx.RemoteProtocolError, match="in the middle of the response") as caught:
        runtime.get()
    assert caught.value.exchange.flags == "UC"
    assert runtime.get().text == "ok"
    assert server.connections == 2


def test_a_bad_chunk_raises_while_reading(runtime, serve):
    serve([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", 0.05, b"zz\r\n"], [OK])
    with pytest.raises(httpx.RemoteProtocolError):
        runtime.get()
    assert runtime.get().text == "ok"


def test_bytes_after_the_answer_poison_the_connection(runtime, serve):
    server = serve([OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"], [OK])
    assert runtime.get().text == "ok"
    assert runtime.get().text == "ok"
    assert server.connections == 2


def test_bytes_that_come_while_idle_poison_the_connection(runtime, serve):
    server = serve([OK, 0.05, b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"], [OK])
    assert runtime.get().text == "ok"
    server.wait(1)
    if runtime._loop is not None:
        runtime._loop.run_until_complete(asyncio.sleep(0.01))
    assert runtime.get().text == "ok"
    assert server.connections == 2


def test_a_kept_alive_connection_that_the_server_closed_is_not_used(runtime, serve):
    server = serve([OK, 0.02, "close"], [OK])
    assert runtime.get().text == "ok"
    server.wait(1)
    if runtime._loop is not None:
        runtime._loop.run_until_complete(asyncio.sleep(0.01))
    response = runtime.request("POST", content=b"once")
    assert response.text == "ok"
    assert len(response.extensions["mesh"].attempts) == 1
    assert server.connections == 2


def test_a_kept_alive_connection_closed_as_it_is_reused_is_replaced_for_a_get(runtime, serve):
    server = serve([OK], ["close"], [OK])
    assert runtime.get().text == "ok"
    response = runtime.get()
    assert response.text == "ok"
    assert response.extensions["mesh"].flags == ""
    assert (server.connections, len(server.requests)) == (2, 3)


def test_and_is_an_error_for_a_post_which_must_not_run_twice(runtime, serve):
    server = serve([OK], ["close"], [OK])
    assert runtime.get().text == "ok"
    with pytest.raises(httpx.RemoteProtocolError):
        runtime.request("POST", content=b"pay")
    assert len(server.requests) == 2


def test_connection_close_is_obeyed(runtime, serve):
    server = serve([b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"])
    runtime.get()
    runtime.get()
    assert server.connections == 2


def test_http_1_0_without_keep_alive_is_closed(runtime, serve):
    server = serve([b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"])
    response = runtime.get()
    assert (response.text, response.http_version) == ("ok", "HTTP/1.0")
    runtime.get()
    assert server.connections == 2


def test_a_body_without_length_ends_with_the_connection(runtime, serve):
    server = serve([b"HTTP/1.1 200 OK\r\n\r\nhello", 0.02, b" world", "close"])
    assert runtime.get().text == "hello world"
    assert runtime.get().text == "hello world"
    assert server.connections == 2


def test_interim_answers_are_passed_over(runtime, serve):
    serve([b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", 0.01, b"HTTP/1.1 100 Continue\r\n\r\n" + OK])
    response = runtime.get()
    assert (response.status_code, response.text, "link" in response.headers) == (200, "ok", False)


@pytest.mark.parametrize("status", [204, 304])
def test_answers_that_have_no_body_end_with_their_head(runtime, serve, status):
    server = serve([b"HTTP/1.1 %d X\r\netag: 1\r\n\r\n" % status])
    for _ in range(3):
        assert runtime.get().content == b""
    assert server.connections == 1


def test_an_answer_to_head_has_no_body_whatever_its_length_says(runtime, serve):
    server = serve([b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n"], [OK])
    response = runtime.request("HEAD")
    assert (response.headers["content-length"], response.content) == ("5000", b"")
    assert runtime.get().text == "ok"
    assert server.connections == 1


def test_an_answer_in_packets_of_one_byte_is_the_same_answer(runtime, serve):
    head = b"HTTP/1.1 201 Made\r\nx-a: 1\r\nx-a: 2\r\ntransfer-encoding: chunked\r\n\r\n"
    answer = head + b"3\r\nabc\r\n1\r\nd\r\n0\r\nt: r\r\n\r\n"
    serve(bytewise(answer), bytewise(OK))
    response = runtime.get()
    assert (response.status_code, response.reason_phrase, response.text) == (201, "Made", "abcd")
    assert response.headers.get_list("x-a") == ["1", "2"]
    assert runtime.get().text == "ok"


def test_header_bytes_are_passed_on_as_they_are(runtime, serve):
    serve([b"HTTP/1.1 200 OK\r\nX-MiXed: caf\xe9\r\ncontent-length: 0\r\n\r\n"])
    assert (b"X-MiXed", b"caf\xe9") in runtime.get().headers.raw


# -- time -------------------------------------------------------------------------------------------------------------


def test_a_stalled_head_is_cut_by_the_routes_timeout_and_the_connection_dropped(runtime, serve):
    server = serve([b"HTTP/1.1 200 OK\r\n", 60.0], [OK], rule={"timeout": "1s"})
    with pytest.raises(httpx.ReadTimeout) as caught:
        runtime.get()
    assert caught.value.exchange.flags == "UT"
    assert runtime.get().text == "ok"
    assert server.connections == 2


def test_a_stalled_body_is_cut_by_the_routes_timeout(runtime, serve):
    serve([b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", 60.0], rule={"timeout": "700ms"})
    with pytest.raises(httpx.ReadTimeout, match="the route's timeout passed in the middle of the response"):
        runtime.get()


def test_a_stalled_body_is_cut_by_the_callers_read_timeout(runtime, serve):
    serve([b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", 60.0])
    with pytest.raises(httpx.ReadTimeout, match="read timeout"):
        runtime.get(timeout=httpx.Timeout(30, read=0.5))


def test_a_body_that_trickles_is_not_cut_by_the_callers_read_timeout(runtime, serve):
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"
    pauses = (0.3, 3.0, 12.0)  # a busy machine may be late: then all goes slower
    serve(*([head, pause, b"a", pause, b"b", pause, b"c", pause, b"d"] for pause in pauses))
    for pause in pauses:
        with contextlib.suppress(httpx.ReadTimeout):
            assert runtime.get(timeout=httpx.Timeout(60, read=3.5 * pause)).text == "abcd"
            return
    raise AssertionError("it was cut")


# -- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x", b"a\r\nevil: 1")],
        [(b"x", b"a\nb")],
        [(b"x", b"a\x00b")],
        [(b"bad name", b"1")],
        [(b"", b"1")],
    ],
)
def test_a_request_that_cannot_be_written_safely_is_refused_before_anything_is_sent(runtime, serve, headers):
    server = serve([OK])
    with pytest.raises(httpx.LocalProtocolError) as caught:
        runtime.get(headers=headers)
    assert isinstance(caught.value, errors.InvalidRequest)
    assert server.requests == []


def test_an_early_answer_ends_the_upload_and_the_connection(runtime, serve):
    big = b"x" * 200_000
    sent = []

    def chunks():
        for _ in range(200):
            sent.append(1)
            yield big

    async def async_chunks():
        for chunk in chunks():
            yield chunk
            await asyncio.sleep(0)

    server = serve([b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig", 0.3], [OK], read_body=False)
    response = runtime.request("POST", content=chunks() if runtime.name == "sync" else async_chunks())
    assert (response.status_code, response.text) == (413, "big")
    assert len(sent) < 200
    assert runtime.get().text == "ok"
    assert server.connections == 2


def test_expect_100_continue_waits_for_the_servers_word(runtime, serve):
    def go_on(conn):
        conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        while len(body) < 4:
            body += conn.recv(100)
        conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n" + body)

    server = serve([go_on])
    response = runtime.request("POST", content=b"body", headers={"expect": "100-continue"})
    assert response.text == "body"
    assert b"body" not in server.requests[0]


def test_expect_100_continue_takes_a_final_answer_without_sending_the_body(runtime, serve):
    server = serve([b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n"], [OK])
    response = runtime.request("POST", content=b"secret", headers={"expect": "100-continue"})
    assert response.status_code == 401
    assert b"secret" not in server.requests[0]
    assert runtime.get().text == "ok"
    assert server.connections == 2


def test_a_failing_body_of_the_caller_raises_what_it_raised(runtime, serve):
    class Broken(Exception):
        pass

    def chunks():
        yield b"one"
        raise Broken

    async def async_chunks():
        yield b"one"
        raise Broken

    serve([OK])
    with pytest.raises(Broken):
        runtime.request("POST", content=chunks() if runtime.name == "sync" else async_chunks())
    assert runtime.get().text == "ok"


def test_a_streamed_body_is_replayed_for_a_retry_while_it_is_remembered(runtime, serve):
    def chunks():
        yield b"a" * 10
        yield b"b" * 10

    async def async_chunks():
        for chunk in chunks():
            yield chunk

    fail = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
    server = serve([fail], [OK], rule={"retries": {"attempts": 2, "retryOn": "5xx"}})
    response = runtime.request("POST", content=chunks() if runtime.name == "sync" else async_chunks())
    assert response.text == "ok"
    bodies = [request.partition(b"\r\n\r\n")[2] for request in server.requests]
    assert bodies[0] == bodies[1] == b"a\r\n" + b"a" * 10 + b"\r\na\r\n" + b"b" * 10 + b"\r\n0\r\n\r\n"


def test_a_streamed_body_beyond_one_mebibyte_is_not_retried(runtime, serve):
    def chunks():
        for _ in range(20):
            yield b"a" * 100_000

    async def async_chunks():
        for chunk in chunks():
            yield chunk

    fail = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
    server = serve([fail], [OK], rule={"retries": {"attempts": 2, "retryOn": "5xx"}})
    response = runtime.request("POST", content=chunks() if runtime.name == "sync" else async_chunks())
    assert (response.status_code, len(server.requests)) == (503, 1)


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority, tmp_path):
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def test_tls_simple_with_a_ca_file_verifies_the_server(runtime, serve, authority, ca_file):
    policy = {"tls": {"mode": "SIMPLE", "caCertificates": ca_file, "sni": "reviews.test"}}
    serve([OK], policy=policy, tls=server_context(authority, "reviews.test"))
    assert runtime.get().text == "ok"
    assert runtime.get().text == "ok"


def test_a_certificate_for_another_name_fails_the_connection(runtime, serve, authority, ca_file):
    policy = {"tls": {"mode": "SIMPLE", "caCertificates": ca_file, "sni": "reviews.test"}}
    serve([OK], policy=policy, tls=server_context(authority, "other.test"))
    with pytest.raises(httpx.ConnectError, match="not trusted") as caught:
        runtime.get()
    assert isinstance(caught.value, errors.ConnectFailed)


def test_a_certificate_of_an_unknown_authority_fails_the_connection(runtime, serve, authority):
    serve([OK], policy={"tls": {"mode": "SIMPLE"}}, tls=server_context(authority, "reviews"))
    with pytest.raises(httpx.ConnectError, match="not trusted"):
        runtime.get()


def test_subject_alt_names_decide_instead_of_the_host_name(runtime, serve, authority, ca_file):
    good = {"tls": {"mode": "SIMPLE", "caCertificates": ca_file, "subjectAltNames": ["other.test"]}}
    serve([OK], policy=good, tls=server_context(authority, "other.test"))
    assert runtime.get().text == "ok"


def test_a_server_without_any_of_the_subject_alt_names_is_refused(runtime, serve, authority, ca_file):
    bad = {"tls": {"mode": "SIMPLE", "caCertificates": ca_file, "subjectAltNames": ["reviews.test"]}}
    serve([OK], policy=bad, tls=server_context(authority, "reviews.test.evil"))
    with pytest.raises(httpx.ConnectError, match="wants one of reviews.test"):
        runtime.get()


def test_plaintext_where_tls_is_expected_fails_the_connection(runtime, serve, ca_file):
    serve([OK], policy={"tls": {"mode": "SIMPLE", "caCertificates": ca_file}})
    with pytest.raises(httpx.ConnectTimeout) as caught:
        runtime.get(timeout=httpx.Timeout(5, connect=0.2))
    assert isinstance(caught.value, httpx.ConnectError)
    assert caught.value.exchange.flags == "UF,URX"
