"""An attempt through somebody else's httpx transport: what that one is asked, and what its responses and exceptions come to."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import httpx
import httpx2
import pytest

from meshlib.engine.outcome import Failure
from meshlib.transport.httpx.inner import AsyncInner, SyncInner
from meshlib.transport.httpx.request import HttpxRequest
from meshlib.transport.protocol.http1 import BodyFailed
from meshlib.transport.protocol.request_body import ReplayBody


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def module(request):
    return request.param


def attempt(module, body=None, timeout=None, target=None, **more):
    """The second one, to 10.0.0.1:8080."""
    request = HttpxRequest(module.Request("POST", "http://reviews:9080/a?b=1", **more), body)
    if target is not None:
        request.target = target
    endpoint = SimpleNamespace(endpoint=SimpleNamespace(address="10.0.0.1", port=8080))
    return SimpleNamespace(call=SimpleNamespace(request=request), endpoint=endpoint, timeout=timeout, attempt=2)


def asked(module, effect, verbatim=False):
    """The request that the transport behind gets."""
    seen = []

    def handler(request):
        seen.append(request)
        return module.Response(204)

    outcome = SyncInner(module.MockTransport(handler), module, verbatim).send(effect)
    assert (outcome.failure, outcome.status) == (None, 204)
    return seen[0]


def raising(error):
    def handler(_request):
        raise error

    return handler


def test_it_is_asked_for_the_endpoint_in_the_name_of_the_mesh_host(module):
    request = asked(module, attempt(module, body=b"abc", content=b"abc"))
    assert str(request.url) == "http://10.0.0.1:8080/a?b=1"
    assert (request.headers["host"], request.headers["x-envoy-attempt-count"]) == ("reviews:9080", "2")
    assert request.content == b"abc"


def test_one_that_dials_by_itself_gets_the_url_as_it_was_written(module):
    assert str(asked(module, attempt(module), verbatim=True).url) == "http://reviews:9080/a?b=1"


def test_what_a_rewrite_put_beyond_ascii_is_percent_encoded(module):
    assert asked(module, attempt(module, target=b"/caf\xe9 x")).url.raw_path == b"/caf%E9%20x"


@pytest.mark.parametrize(("callers", "policys", "told"), [(None, 2.0, 2.0), (1.0, 2.0, 1.0), (3.0, 2.0, 2.0)])
def test_the_smaller_of_the_callers_and_the_policys_time_is_told(module, callers, policys, told):
    extensions = {"timeout": {"connect": 5.0, "read": callers}}
    request = asked(module, attempt(module, timeout=policys, extensions=extensions))
    assert request.extensions["timeout"] == {"connect": 5.0, "read": told}


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("ConnectTimeout", Failure.CONNECT_TIMEOUT),
        ("PoolTimeout", Failure.POOL_TIMEOUT),
        ("WriteTimeout", Failure.WRITE_TIMEOUT),
        ("ReadTimeout", Failure.TIMEOUT),
        ("ConnectError", Failure.CONNECT_FAILED),
        ("ProxyError", Failure.CONNECT_FAILED),
        ("UnsupportedProtocol", Failure.INVALID_REQUEST),
        ("RemoteProtocolError", Failure.PROTOCOL_ERROR),
        ("ReadError", Failure.RESET),
    ],
)
async def test_its_exceptions_are_failures(module, name, failure):
    error = getattr(module, name)("told")
    behind = module.MockTransport(raising(error))
    for outcome in (
        SyncInner(behind, module).send(attempt(module)),
        await AsyncInner(behind, module).send(attempt(module)),
    ):
        assert (outcome.failure, outcome.detail, outcome.error) == (failure, "told", error)


def test_a_body_that_is_not_as_declared_or_raises_is_the_callers_doing(module):
    inner = SyncInner(module.MockTransport(lambda _: module.Response(200)), module)
    headers = {"content-length": "2"}
    long = attempt(module, ReplayBody(iter([b"ab", b"c"])), headers=headers)
    assert inner.send(long).failure is Failure.INVALID_REQUEST

    def source():
        yield b"a"
        raise LookupError("gone")

    outcome = inner.send(attempt(module, ReplayBody(source()), headers={"transfer-encoding": "chunked"}))
    assert outcome.failure is Failure.REQUEST_BODY_FAILED
    assert isinstance(outcome.error, LookupError)


async def test_a_response_that_is_cut_says_how(module):
    class Cut(module.SyncByteStream, module.AsyncByteStream):
        def __iter__(self):
            yield b"a"
            raise module.ReadError("cut")

        async def __aiter__(self):
            for piece in self:
                yield piece

    class Behind(module.BaseTransport, module.AsyncBaseTransport):
        def handle_request(self, _request):
            return module.Response(200, stream=Cut())

        async def handle_async_request(self, _request):
            return module.Response(200, stream=Cut())

    body = SyncInner(Behind(), module).send(attempt(module)).body
    with pytest.raises(BodyFailed, match="cut") as raised:
        list(body)
    assert raised.value.failure is Failure.RESET
    body = (await AsyncInner(Behind(), module).send(attempt(module))).body
    with pytest.raises(BodyFailed, match="cut"):
        [piece async for piece in body]


async def test_on_a_loop_a_head_that_does_not_come_in_time_is_waited_for_no_longer(module):
    class Silent(module.AsyncBaseTransport):
        async def handle_async_request(self, _request):
            await asyncio.Event().wait()

    outcome = await AsyncInner(Silent(), module).send(attempt(module, timeout=0))
    assert outcome.failure is Failure.TIMEOUT
    assert "within 0 s" in outcome.detail
