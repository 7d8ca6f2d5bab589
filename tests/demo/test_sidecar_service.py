"""A service of Bookinfo that knows nothing of any mesh: what it imports, and what it makes of what its proxy gives it."""

from __future__ import annotations

import ast
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from meshlib.demo.sidecar import service
from meshlib.demo.sidecar.child import SERVICE
from meshlib.demo.sidecar.service import FORWARDED, Service


def test_it_imports_the_standard_library_and_nothing_else():
    tree = ast.parse(SERVICE.read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.fixture
def proxy():
    """In the place of one: ``replies`` are given one after another, ``seen`` is what was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.seen.append((self.path, dict(self.headers)))
            status, body, headers = server.replies.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.replies, server.seen = [], []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(60)


def service_of(proxy, name="productpage", version="v1"):
    return Service(name, version, f"{name}-{version}", f"127.0.0.1:{proxy.server_address[1]}")


def test_its_calls_go_to_the_proxy_by_the_name_of_the_host(proxy):
    proxy.replies = [(200, b'{"version": "v1"}', {"x-served-by": "127.0.0.1:7", "x-attempt": "2"})]
    status, body = service_of(proxy).answer("/api/v1/products/0", {"end-user": "jason"})
    [(path, headers)] = proxy.seen
    assert (path, headers["Host"], headers["end-user"]) == ("/details/0", "details:9080", "jason")
    [call] = body["calls"]
    assert (status, body["version"], call["endpoint"], call["attempts"]) == (200, "v1", "127.0.0.1:7", 2)


def test_reviews_are_asked_for_twice(proxy):
    proxy.replies = [(503, b"no healthy upstream", {}), (200, b'{"version": "v2"}', {})]
    status, body = service_of(proxy).answer("/api/v1/products/0/reviews", {})
    assert (status, [call["status"] for call in body["calls"]]) == (200, [503, 200])
    proxy.replies = [(503, b"no healthy upstream", {})] * 2
    status, body = service_of(proxy).answer("/api/v1/products/0/reviews", {})
    assert (status, body["calls"][1]["error"]) == (503, "no healthy upstream")


def test_a_service_that_loses_patience_has_hung_up(proxy, monkeypatch):
    monkeypatch.setattr(service, "PAGE_PATIENCE", 0.05)
    go_on = threading.Event()

    class Late(list):
        def pop(self, _at):
            go_on.wait(20)
            return 200, b"{}", {}

    proxy.replies = Late()
    status, body = service_of(proxy).answer("/api/v1/products/0", {})
    go_on.set()
    assert (status, body["calls"][0]["flags"], body["calls"][0]["status"]) == (500, "DC", 0)


@pytest.mark.parametrize(("version", "color"), [("v2", "black"), ("v3", "red")])
def test_reviews_have_stars_when_ratings_have_some(proxy, version, color):
    proxy.replies = [(200, b'{"ratings": {"Reviewer1": 5, "Reviewer2": 4}}', {}), (500, b"fault filter abort", {})]
    reviews = service_of(proxy, "reviews", version)
    assert [each["rating"] for each in reviews.answer("/reviews/0", {})[1]["reviews"]] == [
        {"stars": 5, "color": color},
        {"stars": 4, "color": color},
    ]
    assert {"error": "no ratings"} in [each["rating"] for each in reviews.answer("/reviews/0", {})[1]["reviews"]]


def test_a_replica_that_is_told_to_fails_and_looks_alive(proxy):
    ratings = service_of(proxy, "ratings")
    assert ratings.answer("/ratings/0", {})[0] == 200
    ratings.mode = "5xx"
    assert (ratings.answer("/ratings/0", {})[0], ratings.answer("/health", {})[0]) == (503, 200)
    assert ratings.answer("/elsewhere", {})[0] == 503


def test_what_goes_on_is_what_istio_asks_applications_for():
    assert {"x-request-id", "traceparent", "end-user"} <= set(FORWARDED)
