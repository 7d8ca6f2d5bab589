"""A response whose body came with its head is httpx's own in all that can be seen of it, and is read without its iterators."""

from __future__ import annotations

import asyncio
import copy
import gc
import gzip
import json
import pickle
import subprocess
import sys
import weakref

import httpx
import httpx2
import pytest

import meshlib
from meshlib.transport.httpx.dialect import dialect
from meshlib.transport.httpx.response import LONGEST_VALUES, MOST_HEADS
from tests.support.resources import pod, service
from tests.support.servers import EchoServer
from tests.support.shortcuts import NEEDS_SHORTCUTS

pytestmark = pytest.mark.slow

MODULES = pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])


def whole(handler, status, body, *headers):
    """Head and body in one piece."""
    lines = [
        f"HTTP/1.1 {status} Said",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    handler.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
    return True


ANSWERS = {
    "/gzip": (200, gzip.compress(b"hello"), ("Content-Encoding", "gzip")),
    "/redirect": (302, b"", ("Location", "/x")),
    "/cookie": (200, b"hello", ("Set-Cookie", "a=b")),
    "/latin": (200, b"h\xe9", ("Content-Type", "text/plain; charset=latin-1"), ("X-Name", "\xe9")),
    "/json": (200, b'{"a": 1}', ("Content-Type", "application/json")),
    "/empty": (200, b""),
    "/error": (503, b"no"),
    "/large": (200, b"x" * 300_000),
}


def behave(handler):
    return whole(handler, *ANSWERS.get(handler.path, (200, b"hello")))


PATHS = ("/", "/gzip", "/redirect", "/cookie", "/latin", "/json", "/empty", "/error", "/large", "/")


@pytest.fixture
def server():
    with EchoServer("v1") as made:
        made.behave = behave
        yield made


@pytest.fixture
def mesh(server):
    with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", server.port)]) as made:
        yield made


def facts(response):
    """All that can be seen."""
    again, copied = pickle.loads(pickle.dumps(response)), copy.copy(response)
    assert (again.content, again.status_code, again.headers) == (
        response.content,
        response.status_code,
        response.headers,
    )
    assert type(again) is type(copied) is type(response).__mro__[-2]
    return {
        "status": response.status_code,
        "headers": [pair for pair in response.headers.raw if pair[0].lower() not in (b"date", b"server")],
        "encoding of headers": response.headers.encoding,
        "content": response.content,
        "text": response.text,
        "encoding": response.encoding,
        "closed": response.is_closed,
        "consumed": response.is_stream_consumed,
        "downloaded": response.num_bytes_downloaded,
        "took time": response.elapsed.total_seconds() > 0,
        "history": [each.status_code for each in response.history],
        "next": response.next_request and response.next_request.url.path,
        "url": response.url.path,
        "method": response.request.method,
        "version": response.http_version,
        "reason": response.reason_phrase,
        "cookies": sorted(response.cookies.items()),
        "copied": (copied.content, copied.is_closed, copied.extensions, copied.headers == response.headers),
        "links": response.links,
        "pieces": [list(response.iter_bytes(2))[:3], list(response.iter_text())[:3], list(response.iter_lines())[:3]],
        "shown": repr(response),
    }


def bare(module, server, **more):
    return module.Client(base_url=f"http://127.0.0.1:{server.port}", **more)


def ours(module, mesh, **more):
    return module.Client(transport=mesh.http_transport(module=module), base_url="http://reviews:9080", **more)


@MODULES
def test_read_by_the_client_it_is_as_httpxs_own(module, server, mesh):
    with bare(module, server) as theirs, ours(module, mesh) as mine:
        for path in PATHS:
            assert facts(mine.get(path)) == facts(theirs.get(path))
        assert facts(mine.get("/redirect", follow_redirects=True)) == facts(
            theirs.get("/redirect", follow_redirects=True)
        )
        assert dict(mine.cookies) == dict(theirs.cookies) == {"a": "b"}


def test_the_meshs_own_client_gets_the_same(server, mesh):
    with bare(httpx, server) as theirs, mesh.client(base_url="http://reviews:9080") as mine:
        for path in PATHS:
            assert facts(mine.get(path)) == facts(theirs.get(path))
        assert dict(mine.cookies) == dict(theirs.cookies) == {"a": "b"}


@MODULES
async def test_on_a_loop_it_is_as_httpxs_own(module, server, mesh):
    transport = mesh.async_http_transport(module=module)
    async with (
        module.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as theirs,
        module.AsyncClient(transport=transport, base_url="http://reviews:9080") as mine,
    ):
        for path in PATHS:
            assert facts(await mine.get(path)) == facts(await theirs.get(path))


STREAMED = {
    "raw": lambda r: (list(r.iter_raw(2)), r.num_bytes_downloaded),
    "bytes": lambda r: list(r.iter_bytes()),
    "text": lambda r: list(r.iter_text()),
    "lines": lambda r: list(r.iter_lines()),
    "read, then read": lambda r: (r.read(), r.read(), r.content, list(r.iter_bytes(3))),
    "raw, then read": lambda r: (list(r.iter_raw()), r.read()),
    "closed, then read": lambda r: (r.close(), r.read()),
    "read, then raw": lambda r: (r.read(), list(r.iter_raw())),
    "content": lambda r: r.content,
    "one piece": lambda r: next(r.iter_bytes(1)),
    "read on a loop": lambda r: asyncio.run(r.aread()),
    "elapsed before": lambda r: r.elapsed,
}


@MODULES
@pytest.mark.parametrize("how", STREAMED)
@pytest.mark.parametrize("path", ["/", "/gzip", "/empty"])
def test_streamed_it_is_as_httpxs_own(module, server, mesh, how, path):
    def seen(client):
        with client.stream("GET", path) as response:
            try:
                found = STREAMED[how](response)
            except Exception as error:
                found = (type(error).__name__, str(error))
        # httpx's own transports hand out a body in other pieces
        return found, response.is_closed, response.is_stream_consumed

    with bare(module, server) as theirs, ours(module, mesh) as mine:
        assert seen(mine) == seen(theirs)


@MODULES
def test_who_comes_between_is_not_passed_by(module, mesh):
    class Shouting(module.SyncByteStream):
        def __init__(self, stream):
            self._stream = stream

        def __iter__(self):
            return (piece.upper() for piece in self._stream)

        def close(self):
            self._stream.close()

    class Between(module.BaseTransport):
        def __init__(self, change):
            self.inner, self.change = mesh.http_transport(module=module), change

        def handle_request(self, request):
            response = self.inner.handle_request(request)
            self.change(response)
            return response

    def shout(response):
        response.stream = Shouting(response.stream)

    def compressed(response):
        response.headers["content-encoding"] = "gzip"

    def others(response):
        response.headers = module.Headers([("content-encoding", "gzip")] * len(response.headers))

    def get(change):
        with module.Client(transport=Between(change)) as client:
            return client.get("http://reviews:9080/").content

    assert get(shout) == b"HELLO"
    for change in (compressed, others):
        with pytest.raises(module.DecodingError):
            get(change)
    hooked = module.Client(transport=mesh.http_transport(module=module), event_hooks={"response": [shout]})
    assert hooked.get("http://reviews:9080/").content == b"HELLO"


@MODULES
def test_headers_of_one_response_are_not_anothers(module, mesh):
    with ours(module, mesh) as client:
        first = client.get("/")
        first.headers["x-mine"] = "1"
        first.headers.pop("content-length")
        second = client.get("/")
        assert "x-mine" not in second.headers
        assert second.headers["content-length"] == "5"


def test_heads_that_are_all_different_are_not_kept_for_ever(mesh, server):
    server.behave = lambda handler: whole(handler, 200, b"hello", ("X-Id", handler.path[1:]))
    transport = mesh.http_transport()
    with httpx.Client(transport=transport) as client:
        for number in range(700):
            assert client.get(f"http://reviews:9080/{number}").headers["x-id"] == str(number)
        for _ in range(200):
            assert client.get("http://reviews:9080/same").headers["x-id"] == "same"
        before = len(dialect(httpx).responses._of_head)
        assert before <= MOST_HEADS
        client.get(f"http://reviews:9080/{'x' * LONGEST_VALUES}")
        assert len(dialect(httpx).responses._of_head) == before


@NEEDS_SHORTCUTS
@pytest.mark.parametrize("own", [True, False], ids=["mesh.client()", "httpx.Client"])
def test_no_cycle_is_left_for_the_garbage_collector(mesh, own):
    with mesh.client() if own else httpx.Client(transport=mesh.http_transport()) as client:
        client.get("http://reviews:9080/")
        gc.collect()
        gc.disable()
        try:
            response = client.get("http://reviews:9080/")
            gone = weakref.ref(response)
            del response
            assert gone() is None
        finally:
            gc.enable()


@NEEDS_SHORTCUTS
@MODULES
def test_what_is_at_hand_is_read_without_httpxs_iterators(module, mesh, monkeypatch):
    """Fails when httpx renames what tells that nobody has come between: reading is right then, and slow."""
    with ours(module, mesh) as client:
        monkeypatch.setattr(module.Response, "iter_raw", lambda *_: pytest.fail("httpx's own way"))
        assert client.get("/").content == b"hello"


def test_a_whole_body_is_no_less_json(mesh):
    with mesh.client() as client:
        assert client.get("http://reviews:9080/json").json() == json.loads('{"a": 1}')


WITHOUT_MESHLIB = """
import pickle, sys
sys.modules["meshlib"] = None  # importing it fails
for response in pickle.load(sys.stdin.buffer):
    assert not [name for name in sys.modules if name.startswith("meshlib.")]
    print(type(response).__name__, response.status_code, ascii(response.text), response.request.url)
"""


@MODULES
def test_a_pickle_is_read_where_there_is_no_meshlib(module, mesh):
    with ours(module, mesh) as own, mesh.client(base_url="http://reviews:9080") as client:
        responses = [each.get("/latin") for each in (own, own, client, client)]
    for protocol in (0, pickle.HIGHEST_PROTOCOL):
        ended = subprocess.run(
            [sys.executable, "-c", WITHOUT_MESHLIB],
            input=pickle.dumps(responses, protocol),
            capture_output=True,
        )
        assert ended.returncode == 0, ended.stderr.decode()
        assert ended.stdout.decode().splitlines() == ["Response 200 'h\\xe9' http://reviews:9080/latin"] * 4
