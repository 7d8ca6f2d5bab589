"""``meshlib serve`` under load while its certificate rotates and its authority changes in three steps: nobody fails, and
afterwards the old authority's callers are refused, with their old sessions too. Short here; MESHLIB_FAULTS=1 makes it 180
rotations on every kind of server."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import pytest

from meshlib.mesh import Mesh
from meshlib.security.authority import Authority
from meshlib.serving.wsgi_application import WsgiApplication
from tests.serving.test_http_server import peer_authentication
from tests.support.identities import World
from tests.support.mesh_server import SECONDS, MeshServer, tells

LONG = os.environ.get("MESHLIB_FAULTS") == "1"
ROTATIONS = 180 if LONG else 12


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    body = json.dumps({"length": len(environ["wsgi.input"].read())}).encode()
    start_response("200 OK", [("content-length", str(len(body)))])
    return [body]


KINDS: list[tuple[Any, dict[str, Any]]] = [
    (tells, {"loop": "uvloop", "http": "httptools"}),
    (lambda: WsgiApplication(wsgi, 8), {"loop": "asyncio", "http": "h11"}),
]
if LONG:
    KINDS += [
        (tells, {"loop": "asyncio", "http": "h11"}),
        (tells, {"loop": "asyncio", "http": "httptools"}),
        (tells, {"loop": "uvloop", "http": "h11"}),
    ]


class Load:
    """Callers that keep their connection, and callers that make one for each request; each takes the context of the moment
    for a new connection. A request on a kept connection that the server has closed meanwhile is sent once more, as clients
    do (httpx does not)."""

    def __init__(self, port: int, context: Callable[[], ssl.SSLContext]) -> None:
        self._url = f"https://127.0.0.1:{port}/"
        self._context = context
        self._stop = threading.Event()
        self.said: Counter[str] = Counter()
        self.using: dict[int, object] = {}
        self._threads = [
            threading.Thread(target=self._run, args=(keeps,), daemon=True) for keeps in (True, True, False)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, keeps: bool) -> None:
        client, fresh, made = None, True, None
        while not self._stop.is_set():
            now = self._context()
            if client is not None and made is not now:  # its certificate has rotated: a new connection for what comes
                client.close()
                client = None
            if client is None:
                made = now
                client, fresh = httpx.Client(verify=made, timeout=SECONDS, trust_env=False), True
            try:
                said = str(client.get(self._url).status_code)
            except httpx.HTTPError as error:
                said = "closed meanwhile" if keeps and not fresh else f"{type(error).__name__}: {error}"
            self.said[said] += 1
            self.using[threading.get_ident()] = made
            fresh = False
            if not keeps or said != "200":
                client.close()
                client = None
        if client is not None:
            client.close()

    def wait_for_more(self, requests: int) -> None:
        """Until so many more were served."""
        wanted = self.said["200"] + requests
        for _ in range(int(SECONDS / 0.005)):
            if self.said["200"] >= wanted:
                return
            threading.Event().wait(0.005)
        raise AssertionError(f"they are not served any more: {dict(self.said)}")

    def wait_until_all_use(self, context: ssl.SSLContext) -> None:
        """Until each caller has been served with this one."""
        for _ in range(int(SECONDS / 0.005)):
            if [each is context for each in list(self.using.values())] == [True] * len(self._threads):
                return
            threading.Event().wait(0.005)
        raise AssertionError(f"not all have rotated: {dict(self.said)}")

    def end(self) -> dict[str, int]:
        """What was said beside 200."""
        self._stop.set()
        for thread in self._threads:
            thread.join(SECONDS)
        return {said: count for said, count in self.said.items() if said not in ("200", "closed meanwhile")}


def session_of(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> tuple[bytes, Any]:
    """What is responded (b"": nothing) and the session."""
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as plain:
            with context.wrap_socket(plain, server_hostname="reviews", session=session) as tls:
                tls.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                return tls.recv(1000), tls.session
    except OSError:
        return b"", None


@pytest.mark.fault
@pytest.mark.parametrize(
    ("app", "settings"), KINDS, ids=[f"{i}-{s['loop']}-{s['http']}" for i, (_, s) in enumerate(KINDS)]
)
def test_nobody_fails_while_certificates_and_authorities_change(app: Any, settings: dict[str, str]) -> None:
    if settings["loop"] == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed: rotations are not tried on it")
    world = World(of_a_mesh=True)
    world.rotate()
    old, new = world.root, Authority.root("cluster.local", world.now)
    caller = [world.client()]
    with Mesh.from_resources([peer_authentication("STRICT")], identity=world.identity) as mesh:
        application = app if app is tells else app()
        with MeshServer(application, mesh, keep_alive=3600, **settings) as server:
            old_contexts = []
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                context = world.client(old, old, new)
                context.minimum_version = context.maximum_version = version
                old_contexts.append(context)
            load = Load(server.port, lambda: caller[0])
            load.wait_for_more(3)
            for number in range(ROTATIONS):
                world.rotate()
                caller[0] = world.client()
                if number == ROTATIONS // 2:  # resources are read again in the middle
                    mesh.apply([peer_authentication("STRICT")])
                load.wait_for_more(1)
            world.rotate(old, new)  # first both are trusted, here and there
            caller[0] = world.client(old, old, new)
            load.wait_for_more(3)
            world.root = new  # then everybody signs by the new one
            caller[0] = world.client(new, old, new)
            world.rotate(old, new)
            sessions = [session_of(server.port, context) for context in old_contexts]
            assert all(said.startswith(b"HTTP/1.1 200") for said, _ in sessions), "the old one still counts"
            load.wait_until_all_use(caller[0])
            assert load.said["closed meanwhile"] == 0, "a rotation that keeps the root closes no connection"
            world.rotate(new)  # then the old one is dropped
            load.wait_for_more(3)
            for context, (_, session) in zip(old_contexts, sessions, strict=True):
                assert session_of(server.port, context, session)[0] == b"", "an old session resumes"
                assert session_of(server.port, context)[0] == b"", "the old authority is believed"
            assert load.end() == {}


@pytest.mark.fault
def test_a_drain_ends_what_kept_connections_have_asked() -> None:
    world = World(of_a_mesh=True)
    world.rotate()
    with Mesh.from_resources([peer_authentication("STRICT")], identity=world.identity) as mesh:
        with MeshServer(tells, mesh, keep_alive=3600) as server:
            asked, said = threading.Barrier(5, timeout=SECONDS), Counter[str]()

            def call() -> None:
                with httpx.Client(verify=world.client(), timeout=SECONDS, trust_env=False) as client:
                    url = f"https://127.0.0.1:{server.port}"
                    client.get(f"{url}/")
                    asked.wait(60)
                    said[str(client.get(f"{url}/sleep").status_code)] += 1

            threads = [threading.Thread(target=call) for _ in range(4)]
            for thread in threads:
                thread.start()
            asked.wait(60)
            server.begin_to_stop()
            for thread in threads:
                thread.join(SECONDS)
            assert said == {"200": 4}
