"""Real servers around the middleware: gunicorn (sync; gthread with TLS, preloaded) and waitress, at their edges."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import waitress

import meshlib
from tests.support import wsgi_served
from tests.support.eventually import eventually
from tests.support.fake_clock import FakeClock
from tests.support.gunicorn_server import connected, exchange, get, gunicorn
from tests.support.protection import protection
from tests.support.spiffe import Authority

PRODUCTPAGE = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage"
SERVERS = ("gunicorn sync", "gunicorn gthread", "waitress")

HOOKS = """
import io
from tests.support import wsgi_served

def ssl_context(conf, default_ssl_context_factory):
    def keep_name(sock, name, _context):
        sock.server_hostname = name

    context = default_ssl_context_factory()
    context.sni_callback = keep_name
    return context

def when_ready(server):  # the mesh has served before it is forked
    answered = []
    told = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": io.BytesIO()}
    wsgi_served.app(told, lambda status, headers: answered.append(status))
    assert answered == ["200 OK"], answered
"""


class Running:
    def __init__(
        self, kind: str, port: int, context: ssl.SSLContext | None = None, known: ssl.SSLContext | None = None
    ) -> None:
        self.kind, self.port, self.anonymous, self.known = kind, port, context, known

    def send(self, sent: bytes, context: ssl.SSLContext | None = None, name: str = "127.0.0.1") -> tuple[int, bytes]:
        return exchange(self.port, sent, context or self.anonymous, name)

    def told(self, sent: bytes = get("/"), **more: Any) -> dict[str, Any]:
        status, body = self.send(sent, **more)
        assert status == 200, (status, body)
        found: dict[str, Any] = json.loads(body)
        return found


@contextlib.contextmanager
def in_thread(app: Any = wsgi_served.app, threads: int = 2) -> Iterator[Any]:
    """waitress, in this process."""
    server: Any = waitress.create_server(app, host="127.0.0.1", port=0, threads=threads)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.trigger.pull_trigger(server.close)
        server.task_dispatcher.shutdown()
        thread.join(60)


@pytest.fixture(scope="module", params=SERVERS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    if request.param == "waitress":
        with in_thread() as server:
            yield Running(request.param, int(server.effective_port))
        return
    if request.param == "gunicorn sync":
        with gunicorn() as port:
            yield Running(request.param, port)
        return
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority()
    (folder / "ca.pem").write_bytes(authority.pem)
    contexts = []
    for name in ("127.0.0.1", PRODUCTPAGE):
        key, certificate = authority.issue(name)
        (folder / "chain.pem").write_bytes(key + certificate)
        context = ssl.create_default_context(cadata=authority.pem.decode())
        context.check_hostname = False
        contexts.append(context)
        if name == "127.0.0.1":
            (folder / "server.pem").write_bytes(key + certificate)
        else:
            context.load_cert_chain(folder / "chain.pem")
    (folder / "hooks.py").write_text(HOOKS)
    tls = [f"--certfile={folder}/server.pem", f"--ca-certs={folder}/ca.pem", f"--cert-reqs={ssl.CERT_OPTIONAL}"]
    with gunicorn("--worker-class=gthread", "--threads=2", "--preload", f"--config={folder}/hooks.py", *tls) as port:
        yield Running(request.param, port, *contexts)


def test_the_connection_is_known_as_far_as_the_server_tells(running: Running) -> None:
    told = running.told()
    assert (told["principal"], told["mutual"], told["source_ip"]) == ("", False, "127.0.0.1")
    assert told["port"] == running.port
    assert told["secure"] is (running.anonymous is not None)
    assert told["local_ip"] == ("" if running.kind == "waitress" else "127.0.0.1")
    if running.known is not None:
        told = running.told(context=running.known, name="shop.example")
        assert (told["principal"], told["mutual"], told["sni"]) == (PRODUCTPAGE, True, "shop.example")


@pytest.mark.parametrize(
    "target",
    [
        "/secret",
        "/%73ecret",
        "//secret",
        "/./secret",
        "/a/../secret",
        "/a/%2e%2e/secret",
        "/secret?x",
        "/;a/../secret",
        "/%2fsecret",
    ],
)
def test_what_is_forbidden_is_served_in_no_spelling(running: Running, target: str) -> None:
    status, body = running.send(get(target))
    assert status == 403, body
    assert body == b"RBAC: access denied"
    assert running.told()["served"] == 0


@pytest.mark.parametrize(
    "sent",
    [
        get("http://other.example/secret"),
        get("http://other.example/"),
        get("/a#b"),
        get("/secret#b"),
        get("/%00"),
        get("/%ff"),
        get("shop.example:80"),
        get("/", "Host: other.example"),
        get("/", host="shop.example,other.example"),
        get("/", host="eve@shop.example"),
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        get("/", "Content-Length: 3", "Content-Length: 4"),
        get("/", "X-Role : eve"),
        get("/", "X-Role: a\x00b"),
        b"GET /secret  HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : shop.example\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_400(running: Running, sent: bytes) -> None:
    assert running.send(sent)[0] == 400


def test_the_authority_of_a_target_may_be_its_host(running: Running) -> None:
    assert running.told(get("http://shop.example/x"))["path"] == "/x"
    assert running.send(get("http://shop.example/secret"))[0] == 403


def test_a_folded_header_is_refused_or_read_whole(running: Running) -> None:
    status, _ = running.send(get("/", "X-Role: ", " eve"))
    assert status == (403 if running.kind == "waitress" else 400)


def test_a_body_of_two_lengths_is_400_or_has_the_one_that_counts(running: Running) -> None:
    sent = get("/", "Content-Length: 3", "Transfer-Encoding: chunked", method="POST") + b"5\r\nabcde\r\n0\r\n\r\n"
    status, body = running.send(sent)
    if running.kind == "waitress":  # which reads the chunks, and tells their length
        assert (status, json.loads(body)["body"]) == (200, "abcde")
    else:
        assert status == 400
    whole = get("/", "Transfer-Encoding: chunked", method="POST") + b"5\r\nabcde\r\n0\r\n\r\n"
    assert running.told(whole)["body"] == "abcde"


def test_a_name_with_an_underscore_is_nobodys_header(running: Running) -> None:
    assert running.send(get("/", "X-Role: eve"))[0] == 403
    assert running.send(get("/", "X_Role: eve"))[0] in (
        200,
        400,
    )  # gunicorn and waitress drop it: the application sees none


def test_identity_is_nothing_that_a_client_can_send(running: Running) -> None:
    names = (
        "X-Forwarded-Client-Cert",
        "X-Meshlib-Principal",
        "Meshlib.Testing.Caller",
        "Gunicorn.Socket",
        "SSL-Client-Cert",
    )
    assert running.told(get("/", *(f"{name}: URI={PRODUCTPAGE}" for name in names)))["principal"] == ""


def test_files_heads_and_failures_end_as_they_do(running: Running) -> None:
    assert running.send(get("/file")) == (200, b"12345")
    status, body = running.send(get("/", method="HEAD"))
    assert (status, body) == (200, b"")
    assert running.send(get("/secret", method="HEAD")) == (403, b"")
    before = running.told()["results"].get("500 -", 0)
    assert running.send(get("/raise"))[0] == 500
    # another of its threads may respond before this one has counted
    assert eventually(lambda: running.told()["results"].get("500 -", 0) == before + 1)


def test_a_client_that_goes_away_amid_a_response_has_got_its_status(running: Running) -> None:
    before = running.told()["results"].get("200 DC", 0)
    with connected(running.port, running.anonymous) as sock:
        sock.sendall(get("/endless"))
        assert sock.recv(1000)
    # the server hears of it while it writes, or a worker would be busy for ever: the next responses say so
    for _ in range(1000):
        if running.told()["results"].get("200 DC", 0) > before:
            break
    else:
        pytest.fail("a client has left, and nobody has noticed")


def test_a_mesh_that_has_served_before_the_fork_serves_after_it(running: Running) -> None:
    told = running.told()
    assert told["nobody"] is False
    if running.kind != "waitress":
        assert told["pid"] != os.getpid()
    assert eventually(lambda: running.told()["results"].get("200 -", 0) > told["results"].get("200 -", 0))


# -- the line for threads ---------------------------------------------------------------------------------------------


def test_waitress_sheds_load_while_requests_stand_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, held, go_on = FakeClock(), threading.Event(), threading.Event()
    monkeypatch.setattr("waitress.channel.time", clock)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/hold":
            held.set()
            assert go_on.wait(60)
        start_response("200 OK", [("content-length", "0")])
        return []

    shedding = protection(loadShedding={"maxQueueTime": "1s"})
    with meshlib.Mesh.from_resources([shedding], clock=clock) as mesh:
        with in_thread(meshlib.MeshWSGIMiddleware(app, mesh), threads=1) as server, ThreadPoolExecutor() as pool:
            port = int(server.effective_port)
            first = pool.submit(exchange, port, get("/hold"))
            assert held.wait(60)
            second = pool.submit(exchange, port, get("/waits"))
            while not server.task_dispatcher.queue:
                threading.Event().wait(0.001)
            clock.advance(2.0)
            go_on.set()
            assert first.result()[0] == 200
            assert second.result()[0] == 503
            clock.advance(0.3)
            assert exchange(port, get("/"))[0] == 200
        assert mesh.problems == []


@pytest.mark.parametrize(
    ("worker", "status", "noticed"),
    [(["--worker-class=gthread", "--threads=1"], 503, 0), ([], 200, 1)],
    ids=["gthread", "sync"],
)
def test_gunicorn_sheds_load_where_it_has_threads_and_says_so_where_it_has_none(
    worker: list[str], status: int, noticed: int
) -> None:
    with gunicorn(*worker, app="tests.support.wsgi_held:app") as port:

        def asked(target: str) -> int:
            return exchange(port, get(target))[0]

        # five seconds pass while it is served: whoever looks how long the line is stands there meanwhile
        assert asked("/?seconds=5") == 200
        found = [asked("/healthz"), asked("/"), asked("/healthz?seconds=1")]
        assert found == [200, status, 200]
        assert asked("/") == 200
        told = json.loads(exchange(port, get("/healthz"))[1])
    assert len(told) == noticed
    for problem in told:
        assert problem.startswith("queue-time-unknown: spec.inbound.loadShedding.maxQueueTime")
