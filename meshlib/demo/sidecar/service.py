"""A service of Bookinfo that knows nothing of any mesh: the standard library, and the address of a proxy.

Run by its path: ``python service.py reviews --version v2 --proxy 127.0.0.1:15001``. It says its port in a line of JSON once it
serves, and ends when its standard input closes. ``POST /admin`` tells it more (see ``Handler.do_POST``).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

FORWARDED = ("end-user", "user-agent", "x-request-id", "traceparent", "tracestate", "baggage")
"""Headers that go on with what a service calls for the one that it serves, as Istio asks of applications."""

PAGE_PATIENCE = 3.0
RATINGS_PATIENCE = {"v2": 10.0, "v3": 2.5}
COLOR = {"v2": "black", "v3": "red"}
STARS = {"Reviewer1": 5, "Reviewer2": 4}
TEXTS = {
    "Reviewer1": "A farce that runs like clockwork.",
    "Reviewer2": "Read it aloud, and keep track of the gold chain.",
}
MODES = ("none", "5xx")
SERVICES = ("productpage", "details", "reviews", "ratings", "books")
BOOKS = "books.example.com"
"""Somebody else's, outside of the mesh."""
PORTS = {BOOKS: 80}
LEFT_BY = "x-left-by"
"""What an egress gateway says that it was."""

COUNTING = threading.Lock()

Answer = tuple[int, dict[str, Any]]


class Service:
    """Who this process is, and what it answers. ``proxy``: host and port that its own calls go to; "": they go to those that
    they are for."""

    def __init__(self, name: str, version: str, pod: str, proxy: str) -> None:
        self.name = name
        self.version = version
        self.pod = pod
        self.mode = "none"
        self.at = ""  # where others reach it
        self.proxy = proxy
        self.left_by: dict[str, int] = {}  # how requests came here that have left the mesh

    def call(self, host: str, path: str, headers: dict[str, str], patience: float) -> tuple[Any, dict[str, Any]]:
        """GET from another service: its JSON, or None, and what there is to tell of the call."""
        told: dict[str, Any] = {"service": host, "status": 0, "endpoint": "", "attempts": 1, "flags": "", "error": ""}
        started = time.perf_counter()
        port = PORTS.get(host, 9080)
        proxy, _, its_port = (self.proxy or f"{host}:{port}").rpartition(":")
        connection = http.client.HTTPConnection(proxy, int(its_port), timeout=patience)
        try:
            connection.request("GET", path, headers={**headers, "Host": host if port == 80 else f"{host}:{port}"})
            response = connection.getresponse()
            body = response.read()
            told["status"] = response.status
            told["endpoint"] = response.getheader("x-served-by") or ""
            told["attempts"] = int(response.getheader("x-attempt") or 1)
            if response.status == 200:
                return json.loads(body), told
            told["error"] = body.decode("latin-1")[:300]
        except TimeoutError:
            told.update(flags="DC", error="timed out")  # as the proxy has it: this client has hung up
        except (OSError, http.client.HTTPException, ValueError) as error:
            told["error"] = str(error) or type(error).__name__
        finally:
            connection.close()
            told["ms"] = round((time.perf_counter() - started) * 1000, 2)
        return None, told

    def answer(self, path: str, headers: dict[str, str]) -> Answer:
        """What is served at ``path``."""
        parts = [part for part in path.split("/") if part]
        if path == "/health":
            return 200, {"status": f"{self.name} is healthy", "pod": self.pod}
        if self.mode == "5xx":
            return 503, {"error": "this replica is failing on purpose"}
        if self.name == "details" and parts[:1] == ["details"]:
            return self._details(headers)
        if self.name == "ratings" and parts[:1] == ["ratings"]:
            return 200, {"ratings": STARS, "version": self.version, "pod": self.pod}
        if self.name == "reviews" and parts[:1] == ["reviews"]:
            return 200, self._reviews(headers)
        if self.name == "books" and parts[:1] == ["isbn"]:
            return 200, {"isbn": "1234567890"}
        if self.name == "productpage" and parts[:3] == ["api", "v1", "products"]:
            return self._product(parts[3:], headers)
        return 404, {"error": f"{self.name} has nothing at {path}"}

    def _details(self, headers: dict[str, str]) -> Answer:
        found, told = self.call(BOOKS, "/isbn/0", headers, PAGE_PATIENCE)
        if found is None:
            return 503, {"error": f"{BOOKS} is currently unavailable", "mesh": told}
        facts = {"author": "William Shakespeare", "pages": 200, "isbn": found["isbn"]}
        return 200, {**facts, "version": self.version, "pod": self.pod, "mesh": told}

    def _reviews(self, headers: dict[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = {"version": self.version, "podname": self.pod}
        color = COLOR.get(self.version)
        if color is None:
            return {**found, "reviews": [{"reviewer": who, "text": text} for who, text in TEXTS.items()]}
        ratings, told = self.call("ratings", "/ratings/0", headers, RATINGS_PATIENCE[self.version])
        stars = (ratings or {}).get("ratings", {})
        rated = {
            who: {"stars": stars[who], "color": color} if who in stars else {"error": "no ratings"} for who in TEXTS
        }
        reviews = [{"reviewer": who, "text": text, "rating": rated[who]} for who, text in TEXTS.items()]
        return {**found, "reviews": reviews, "mesh": told}

    def _product(self, parts: list[str], headers: dict[str, str]) -> Answer:
        host, path, tries = ("reviews", "/reviews/0", 2) if parts[1:] == ["reviews"] else ("details", "/details/0", 1)
        calls = []
        for _ in range(tries):
            found, told = self.call(host, path, headers, PAGE_PATIENCE)
            calls.append(told)
            if found is not None:
                return 200, {**found, "calls": calls}
        status = calls[-1]["status"]
        return status if status >= 400 else 500, {"error": f"{host} is currently unavailable", "calls": calls}


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1, connections kept."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    service: Service

    def do_GET(self) -> None:
        headers = {name: value for name in FORWARDED if (value := self.headers.get(name)) is not None}
        if self.service.name == "books":
            self._count()
        self._send(*self.service.answer(urlsplit(self.path).path, headers))

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        asked = parse_qs(url.query)
        mode = asked.get("mode", [self.service.mode])[0]
        if url.path == "/left":
            self._send(200, {"left_by": self.service.left_by})
            return
        if url.path != "/admin" or mode not in MODES:
            self._send(400, {"error": f"POST /admin?mode={'|'.join(MODES)}, ?at=HOST:PORT or ?proxy=HOST:PORT"})
            return
        self.service.mode = mode
        self.service.at = asked.get("at", [self.service.at])[0]
        self.service.proxy = asked.get("proxy", [self.service.proxy])[0]
        self._send(200, {"mode": mode, "at": self.service.at, "proxy": self.service.proxy})

    def _count(self) -> None:
        by = self.headers.get(LEFT_BY) or "nobody"
        with COUNTING:
            self.service.left_by[by] = self.service.left_by.get(by, 0) + 1

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("x-served-by", self.service.at)
        self.send_header("x-attempt", self.headers.get("x-envoy-attempt-count") or "1")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """The proxy has an access log."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def main() -> None:
    """Serve until standard input closes, or the process is told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("--version", default="v1")
    parser.add_argument("--pod", default="")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--at", default="", help="HOST:PORT where others reach it")
    parser.add_argument("--proxy", default="", help="HOST:PORT of the proxy for calls to other services")
    given = parser.parse_args()
    made = Service(given.service, given.version, given.pod or given.service, given.proxy)
    made.at = given.at
    server = Server((given.host, given.port), type("Handler", (Handler,), {"service": made}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(json.dumps({"port": server.server_address[1], "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    while sys.stdin.buffer.read(1024):
        pass
    server.shutdown()


if __name__ == "__main__":
    main()
