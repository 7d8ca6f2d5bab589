"""An HTTP request at its application: everything goes by untouched, is counted, and ends once, however it ends."""

from __future__ import annotations

import asyncio

import pytest

from meshlib.transport.asgi.middleware import MeshASGIMiddleware
from tests.support.asgi import DISCONNECT, Client, Served, ask, body, http_scope, responds

START = {"type": "http.response.start", "status": 200, "headers": [(b"x", b"1")]}
EARLY_HINT = {"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]}


@pytest.fixture
def served():
    made = Served()
    yield made
    made.mesh.close()


def wrapped(served, app):
    return MeshASGIMiddleware(app, served.mesh)


def chunk(data: bytes, more: bool = True):
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_a_stream_both_ways_goes_by_piece_by_piece_as_it_is(served):
    pieces = [body(b"abc", True), body(b"", True), body(b"de")]
    order: list[str] = []

    async def app(scope, receive, send):
        await send(dict(START))
        while True:
            message = await receive()
            order.append(f"in {message['body'].decode()}")
            await send(chunk(message["body"], message["more_body"]))
            order.append("out")
            if not message["more_body"]:
                return

    client = await ask(wrapped(served, app), http_scope(method="POST"), *pieces)
    assert order == ["in abc", "out", "in ", "out", "in de", "out"]
    assert client.got == [START, chunk(b"abc"), chunk(b""), chunk(b"de", False)]
    assert served.counted() == [("200", "-")]
    assert served.sample("istio_request_bytes_sum") == len("POST/hostshop.test") + 5
    assert served.sample("istio_response_bytes_sum") == len("x1") + 5


async def test_interim_responses_and_trailers_go_by_and_the_trailers_end_the_response(served):
    ends: list[int] = []

    async def app(scope, receive, send):
        for message in (
            EARLY_HINT,
            {**START, "trailers": True},
            chunk(b"a", False),
            {"type": "http.response.trailers", "headers": [(b"t", b"1")], "more_trailers": True},
            {"type": "http.response.trailers", "headers": [(b"u", b"2")]},
        ):
            await send(dict(message))
            ends.append(len(served.counted()))

    client = await ask(wrapped(served, app))
    assert [m["type"].rpartition(".")[2] for m in client.got] == ["early_hint", "start", "body", "trailers", "trailers"]
    assert ends == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("kind", ["pathsend", "zerocopysend"])
async def test_a_body_that_the_server_takes_from_a_file_is_as_long_as_the_head_says(served, kind):
    async def app(scope, receive, send):
        await send({**START, "headers": [(b"content-length", b"1000")]})
        await send({"type": f"http.response.{kind}", "path": "/x", "file": 3})

    await ask(wrapped(served, app))
    assert served.counted() == [("200", "-")]
    assert served.sample("istio_response_bytes_sum") == len("content-length1000") + 1000


async def test_head_is_counted_without_the_body_that_is_not_sent(served):
    client = await ask(wrapped(served, responds(data=b"12345")), http_scope(method="HEAD"))
    assert client.got[1]["body"] == b"12345", "what is not sent of it is the server's affair"
    assert served.sample("istio_response_bytes_sum") == 0


async def test_a_response_is_over_with_its_last_byte_and_not_with_what_the_application_does_then(served):
    began, go = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        await responds()(scope, receive, send)
        began.set()
        await go.wait()
        raise RuntimeError("a background task")

    task = asyncio.create_task(ask(wrapped(served, app)))
    await began.wait()
    assert served.counted() == [("200", "-")]
    go.set()
    with pytest.raises(RuntimeError, match="a background task"):
        await task
    assert served.counted() == [("200", "-")]


async def test_send_may_be_called_from_another_task(served):
    async def app(scope, receive, send):
        await asyncio.create_task(responds()(scope, receive, send))

    await ask(wrapped(served, app))
    assert served.counted() == [("200", "-")]
    assert served.mesh.inbound() is None


class TestApplicationsThatFail:
    async def test_before_the_head_it_is_a_500(self, served):
        async def app(scope, receive, send):
            raise ValueError("oops")

        with pytest.raises(ValueError, match="oops"):
            await ask(wrapped(served, app))
        assert served.counted() == [("500", "-")]

    async def test_after_the_head_the_status_stays_and_the_stream_was_broken(self, served):
        async def app(scope, receive, send):
            await send(dict(START))
            raise ValueError("oops")

        with pytest.raises(ValueError, match="oops"):
            await ask(wrapped(served, app))
        assert served.counted() == [("200", "UC")]

    async def test_without_a_response_it_is_a_500(self, served):
        async def app(scope, receive, send):
            pass

        await ask(wrapped(served, app))
        assert served.counted() == [("500", "-")]

    async def test_with_half_a_response_it_is_broken(self, served):
        async def app(scope, receive, send):
            await send(dict(START))
            await send(chunk(b"a"))

        await ask(wrapped(served, app))
        assert served.counted() == [("200", "UC")]

    async def test_more_than_a_response_is_the_servers_to_refuse(self, served):
        async def app(scope, receive, send):
            await responds()(scope, receive, send)
            await responds(status=500)(scope, receive, send)

        client = await ask(wrapped(served, app))
        assert len(client.got) == 4
        assert served.counted() == [("200", "-")]


class TestClientsThatGoAway:
    """Wherever the application is: before its response, amid it, and when the server only tells it of the last byte."""

    @pytest.mark.parametrize(("version", "flag"), [("1.1", "DC"), ("2", "DR")])
    @pytest.mark.parametrize("head", [False, True])
    async def test_the_application_hears_of_it_and_leaves(self, served, version, flag, head):
        async def app(scope, receive, send):
            if head:
                await send(dict(START))
            assert await receive() == DISCONNECT

        await ask(wrapped(served, app), http_scope(http_version=version), DISCONNECT)
        assert served.counted() == [("200" if head else "0", flag)]

    async def test_the_application_hears_of_it_and_raises(self, served):
        async def app(scope, receive, send):
            await receive()
            raise RuntimeError("ClientDisconnect")

        with pytest.raises(RuntimeError):
            await ask(wrapped(served, app), None, DISCONNECT)
        assert served.counted() == [("0", "DC")]

    async def test_the_application_hears_of_it_and_sends_all_the_same(self, served):
        async def app(scope, receive, send):
            await receive()
            await responds()(scope, receive, send)

        await ask(wrapped(served, app), None, DISCONNECT)
        assert served.counted() == [("200", "DC")]

    async def test_a_server_that_raises_at_send_tells_it(self, served):
        class Gone(Client):
            async def send(self, message):
                if message["type"] == "http.response.body":
                    raise BrokenPipeError
                await super().send(message)

        client = Gone()
        with pytest.raises(BrokenPipeError):
            await wrapped(served, responds())(http_scope(), client.receive, client.send)
        assert served.counted() == [("200", "DC")]

    async def test_a_disconnect_after_the_whole_response_is_none(self, served):
        async def app(scope, receive, send):
            await responds()(scope, receive, send)
            assert await receive() == DISCONNECT

        await ask(wrapped(served, app), None, DISCONNECT)
        assert served.counted() == [("200", "-")]

    async def test_a_disconnect_that_a_server_tells_while_it_sends_the_last_byte_is_none(self, served):
        """As to a task that listens for one beside the response (Starlette's StreamingResponse has one)."""

        class Suspends(Client):
            async def send(self, message):
                for _ in range(5):
                    await asyncio.sleep(0)
                await super().send(message)

        async def app(scope, receive, send):
            await send(dict(START))
            ending = asyncio.create_task(send(chunk(b"a", False)))
            await asyncio.sleep(0)
            assert await receive() == DISCONNECT
            await ending

        client = Suspends(DISCONNECT)
        await wrapped(served, app)(http_scope(), client.receive, client.send)
        assert served.counted() == [("200", "-")]

    @pytest.mark.parametrize("at", range(6))
    async def test_cancelled_at_any_await(self, served, at):
        """The task of the request is cancelled at its ``at``-th await, be it the application's, the server's or the mesh's."""
        steps = 0
        reached = asyncio.Event()

        async def step():
            nonlocal steps
            steps += 1
            if steps - 1 == at:
                reached.set()
                await asyncio.Event().wait()

        class Slow(Client):
            async def receive(self):
                await step()
                return body(b"x")

            async def send(self, message):
                await step()
                await super().send(message)

        async def app(scope, receive, send):
            await step()
            await receive()
            await send(dict(START))
            await step()
            await send(chunk(b"a", False))
            await step()

        client = Slow()
        task = asyncio.create_task(wrapped(served, app)(http_scope(), client.receive, client.send))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (
            served.counted()
            == [[("0", "DC")], [("0", "DC")], [("200", "DC")], [("200", "DC")], [("200", "DC")], [("200", "-")]][at]
        )
        assert served.mesh.inbound() is None

    async def test_a_request_that_is_dropped_is_noted_and_counted_later(self, served):
        async def app(scope, receive, send):
            await receive()

        client = Client()
        coroutine = wrapped(served, app)(http_scope(), client.receive, client.send)
        coroutine.send(None)
        coroutine.close()
        assert served.counted() == [("0", "DC")]


class TestGrpc:
    """gRPC behind an ASGI server: its status is in trailers, or in the head of a response without a body."""

    HEADERS = ((b"content-type", b"application/grpc"),)

    async def test_the_status_is_in_the_trailers(self, served):
        async def app(scope, receive, send):
            await send({**START, "trailers": True})
            await send(chunk(b"a", False))
            await send({"type": "http.response.trailers", "headers": [(b"grpc-status", b"5")]})

        await ask(wrapped(served, app), http_scope("/a.B/C", *self.HEADERS, method="POST"))
        assert served.sample("istio_requests_total", grpc_response_status="5", request_protocol="grpc") == 1

    @pytest.mark.parametrize(("headers", "wanted"), [([(b"grpc-status", b"7")], "7"), ([], "2")])
    async def test_the_status_is_in_the_head_or_unknown(self, served, headers, wanted):
        await ask(wrapped(served, responds(headers=headers, data=b"")), http_scope("/a.B/C", *self.HEADERS))
        assert served.sample("istio_requests_total", grpc_response_status=wanted) == 1


class TestRequestsThatAreTooLong:
    """``maxBodyBytes`` of a ResiliencePolicy, where no Content-Length has said so."""

    @pytest.fixture
    def limited(self):
        policy = {
            "apiVersion": "meshlib.dev/v1",
            "kind": "ResiliencePolicy",
            "metadata": {"name": "in", "namespace": "default"},
            "spec": {"inbound": {"maxBodyBytes": 4}},
        }
        made = Served(policy)
        yield made
        made.mesh.close()

    async def test_the_client_is_told_and_the_application_takes_it_for_gone(self, limited):
        heard = []

        async def app(scope, receive, send):
            heard.extend([await receive(), await receive(), await receive()])
            await responds(400)(scope, receive, send)
            raise RuntimeError("ClientDisconnect")

        client = await ask(wrapped(limited, app), http_scope(method="POST"), body(b"abc", True), body(b"def", True))
        assert (client.status, client.body) == (413, b"Payload Too Large")
        assert heard == [body(b"abc", True), DISCONNECT, DISCONNECT]
        assert len(client.got) == 2
        assert limited.counted() == [("413", "-")]

    async def test_amid_a_response_it_is_broken_off(self, limited):
        async def app(scope, receive, send):
            await send(dict(START))
            assert await receive() == DISCONNECT

        client = await ask(wrapped(limited, app), http_scope(method="POST"), body(b"abcdef", True))
        assert client.got == [START]
        assert limited.counted() == [("200", "UC")]
