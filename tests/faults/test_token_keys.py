"""Keys of issuers over a real network, through the doors of servers: fetched once by threads and tasks at once, and every way
in which an issuer can fail."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time

import httpx
import pytest

import meshlib
from tests.support.asgi import ask, http_scope
from tests.support.servers import EchoServer
from tests.support.token_bench import request_authentication
from tests.support.tokens import issuer

SIGNER, NEXT = issuer("ES256"), issuer("ES256", "b")
FETCH_FAILED = (401, b"Jwks remote fetch is failed")


class Idp:
    """``answer``: what it does with a request, by default its keys. ``gate``: requests are answered when it is open."""

    def __init__(self) -> None:
        self.answer = lambda handler: handler.answer(200, SIGNER.jwks().encode())
        self.gate = threading.Event()
        self.gate.set()
        self.server = EchoServer(behave=self._behave)

    def _behave(self, handler) -> bool:
        self.gate.wait(30)
        self.answer(handler)
        return True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def asked(self) -> list[str]:
        return [about["path"] for about in self.server.seen]


@pytest.fixture
def idp():
    made = Idp()
    with made.server:
        yield made
        made.gate.set()


class Servers:
    """An ASGI and a WSGI application behind the middleware of one mesh, called without a server."""

    def __init__(self, idp, **rule) -> None:
        self.mesh = meshlib.Mesh.from_resources(
            [request_authentication({"issuer": "idp", "jwksUri": f"{idp.url}/keys", **rule})]
        )
        self.asgi = meshlib.MeshASGIMiddleware(self._asgi, self.mesh)
        self.wsgi = meshlib.MeshWSGIMiddleware(self._wsgi, self.mesh)
        self.client = httpx.Client(transport=httpx.WSGITransport(self.wsgi), base_url="http://shop")

    async def _asgi(self, scope, receive, send):
        content = self.mesh.inbound().request_principal.encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": content})

    def _wsgi(self, environ, start_response):
        assert "HTTP_AUTHORIZATION" not in environ, "the token is taken away"
        start_response("200 OK", [])
        return [self.mesh.inbound().request_principal.encode()]

    @staticmethod
    def token(by=SIGNER, **claims):
        return by.token({"iss": "idp", "sub": "jane", "exp": int(time.time()) + 3600, **claims})

    def thread(self, token):
        response = self.client.get("/", headers={"authorization": f"Bearer {token}"})
        return response.status_code, response.content

    async def task(self, token):
        found = await ask(self.asgi, http_scope("/", (b"authorization", f"Bearer {token}".encode())))
        return found.status, found.body

    def both(self, token=None):
        """What a thread and a task get; the same."""
        token = token or self.token()
        first = self.thread(token)
        assert asyncio.run(self.task(token)) == first
        return first


@pytest.fixture
def servers(idp):
    made = []

    def make(**rule):
        made.append(Servers(idp, **rule))
        return made[-1]

    yield make
    for each in made:
        each.mesh.close()


def test_threads_and_tasks_at_once_fetch_once(idp, servers):
    here = servers()
    idp.gate.clear()
    got = []
    threads = [threading.Thread(target=lambda n=n: got.append(here.thread(here.token(sub=str(n))))) for n in range(10)]

    async def tasks():
        started = [asyncio.create_task(here.task(here.token(sub=f"task {n}"))) for n in range(10)]
        while not idp.asked:
            await asyncio.sleep(0.001)
        idp.gate.set()
        return await asyncio.gather(*started)

    for thread in threads:
        thread.start()
    got += asyncio.run(tasks())
    for thread in threads:
        thread.join(60)
    assert sorted(got) == sorted((200, f"idp/{who}".encode()) for n in range(10) for who in (str(n), f"task {n}"))
    assert idp.asked == ["/keys"]


def stream(handler, *, head, pieces, pause=0.0):
    handler.send_response(200)
    for name, value in head.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.close_connection = True
    for piece in pieces:
        handler.wfile.write(piece)
        time.sleep(pause)


TEN_MB = b" " * 10_000_000
FAULTS = {
    "500": lambda h: h.answer(500, b"canary"),
    "garbage": lambda h: h.answer(200, b"<html>canary</html>"),
    "an empty body": lambda h: h.answer(200, b""),
    "an empty set": lambda h: h.answer(200, b'{"keys":[]}'),
    "10 MB": lambda h: h.answer(200, TEN_MB + SIGNER.jwks().encode()),
    "10 MB of unknown length": lambda h: stream(
        h, head={"connection": "close"}, pieces=[TEN_MB, SIGNER.jwks().encode()]
    ),
    "a body cut short": lambda h: stream(h, head={"content-length": "99999"}, pieces=[SIGNER.jwks().encode()]),
    "compressed": lambda h: h.answer(200, b"\x1f\x8b\x08\x00", content_encoding="gzip"),
    "a redirect to metadata": lambda h: h.answer(302, location="http://169.254.169.254/latest/meta-data"),
    "a redirect to another host": lambda h: h.answer(302, location="http://localhost:1/keys"),
    "a connection that ends": lambda h: h.connection.shutdown(socket.SHUT_RDWR),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_token_is_refused_while_its_keys_cannot_be_had(fault, idp, servers, caplog):
    here = servers()
    idp.answer = FAULTS[fault]
    with caplog.at_level(logging.WARNING, "meshlib.inbound"):
        assert here.thread(here.token()) == FETCH_FAILED
    assert asyncio.run(here.task(here.token())) == FETCH_FAILED
    assert here.client.get("/").status_code == 200, "who brings no token is nobody, and comes in"
    [record] = [r for r in caplog.records if r.name == "meshlib.inbound"]
    assert f"the keys of {idp.url}/keys could not be fetched" in record.getMessage()
    assert "canary" not in caplog.text + json.dumps(here.mesh.status()["token_keys"])
    [status] = here.mesh.status()["token_keys"]
    assert (status["usable"], status["failures"]) == (False, 1)


@pytest.mark.parametrize("hang", ["before the head", "drop by drop"])
def test_an_issuer_that_hangs_is_given_up(hang, idp, servers):
    here = servers(timeout="300ms")
    if hang == "before the head":
        idp.gate.clear()
    else:
        drops = [b" "] * 300
        idp.answer = lambda handler: stream(handler, head={"connection": "close"}, pieces=drops, pause=0.05)
    assert here.thread(here.token()) == FETCH_FAILED
    assert asyncio.run(here.task(here.token())) == FETCH_FAILED


def test_a_name_that_leads_to_link_local_is_not_followed(idp, servers, monkeypatch):
    here = servers(jwksUri="http://metadata.example.com/keys")
    here.mesh._core.names._lookup = lambda name: ("169.254.169.254",)
    assert here.both() == FETCH_FAILED
    [status] = here.mesh.status()["token_keys"]
    assert "169.254.169.254 is a link-local or metadata address" in status["error"]


def test_the_applications_own_connection_to_such_an_address_is_not_used(idp, servers):
    """Nor any other that was not looked at: connections of checks are their own."""
    here = servers()
    with here.mesh.client() as client:
        client.get(f"{idp.url}/warm")
    assert here.thread(here.token()) == (200, b"idp/jane")
    targets = [t for c in here.mesh._core.live.bound.values() for t in c.targets.values()]
    assert sorted(target.guarded for target in targets) == [False, True]


def test_a_reload_keeps_keys_and_tokens(idp, servers):
    here = servers()
    token = here.token()
    assert here.both(token) == (200, b"idp/jane")
    rules = {"issuer": "idp", "jwksUri": f"{idp.url}/keys"}
    here.mesh.apply([request_authentication({**rules, "audiences": ["api"]})])
    assert here.both(token) == (403, b"Audiences in Jwt are not allowed")
    assert here.both(here.token(aud="api")) == (200, b"idp/jane")
    here.mesh.apply([])
    assert here.client.get("/", headers={"x": "garbage"}).status_code == 200
    assert idp.asked == ["/keys"]
