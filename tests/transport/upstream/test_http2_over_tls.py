"""HTTP/2 upstreams in both runtimes, over TLS: what ALPN chooses, and certificates."""

from __future__ import annotations

import dataclasses
import ssl

import pytest
import trustme

from meshlib.engine.outcome import Failure
from meshlib.transport.upstream.target import Target
from tests.support.evil_server import OK, EvilServer
from tests.support.h2_runtimes import Call


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def server_context(authority, *protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("reviews.test").configure_cert(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@pytest.fixture
def client_context(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_over_tls_http2_is_negotiated(runtime, serve, authority, client_context):
    tls = {"tls": client_context, "server_hostname": "reviews.test"}
    server, target = serve(tls=server_context(authority, "h2", "http/1.1"), target=tls)
    data = bytes(i % 251 for i in range(500_000))
    server.answer = lambda peer, request: peer.respond(request, bytes(request.body))
    results = runtime.many(target, [Call(method=b"POST", body=data) for _ in range(20)])
    assert all(result.data == data for result in results)
    assert results[0].outcome.http_version == b"HTTP/2"
    assert server.connections == 1
    assert server.requests[0].header(b":scheme") == b"https"


@pytest.mark.parametrize("protocols", [("http/1.1",), ()])
def test_a_server_that_chooses_http1_is_spoken_to_in_http1(runtime, authority, client_context, protocols):
    with EvilServer([OK], tls=server_context(authority, *protocols)) as server:
        target = Target("127.0.0.1", server.port, tls=client_context, server_hostname="reviews.test", http2=True)
        for _ in range(3):
            result = runtime.call(target, Call())
            assert (result.data, result.outcome.http_version) == (b"ok", b"HTTP/1.1")
        assert server.connections == 1
        results = runtime.many(target, [Call() for _ in range(10)])
        assert all(result.data == b"ok" for result in results)
        runtime.close()


def test_without_http2_only_http1_is_offered(runtime, authority, client_context):
    chosen = []
    context = server_context(authority, "h2", "http/1.1")

    def note(sock) -> None:
        chosen.append(sock.selected_alpn_protocol())
        sock.sendall(OK)

    with EvilServer([note], tls=context) as server:
        target = Target("127.0.0.1", server.port, tls=client_context, server_hostname="reviews.test")
        both = dataclasses.replace(target, http2=True)  # the same context, at the same time
        assert runtime.call(target, Call()).data == b"ok"
        assert chosen == ["http/1.1"]
        assert runtime.call(both, Call(limits={"head": 60.0})).outcome.failure is Failure.PROTOCOL_ERROR
        runtime.upstream.close_idle()
        assert runtime.call(target, Call()).data == b"ok"
        assert chosen == ["http/1.1", "h2", "http/1.1"]
        runtime.close()


def test_a_certificate_that_is_not_trusted_is_connect_failed(runtime, serve, authority):
    tls = {"tls": ssl.create_default_context(), "server_hostname": "reviews.test"}
    _, target = serve(tls=server_context(authority, "h2"), target=tls)
    outcome = runtime.call(target, Call()).outcome
    assert outcome.failure is Failure.CONNECT_FAILED
    assert "not trusted" in outcome.detail


def test_a_certificate_without_the_right_name_is_connect_failed(runtime, serve, authority, client_context):
    tls = {"tls": client_context, "server_hostname": "reviews.test", "subject_alt_names": ("other.test",)}
    _, target = serve(tls=server_context(authority, "h2"), target=tls)
    outcome = runtime.call(target, Call()).outcome
    assert outcome.failure is Failure.CONNECT_FAILED
    assert "wants one of other.test" in outcome.detail
