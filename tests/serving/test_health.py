"""What a server says of its own state, to whom, and never in the place of its application."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask

from meshlib.serving.health import Front, has_route, nothing


async def asked(
    app: Any, path: str = "/healthz", method: str = "GET", kind: str = "http", version: str = "1.1"
) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    await app({"type": kind, "path": path, "method": method, "http_version": version}, receive, send)
    return sent


async def application(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"connection", b"keep-alive"), (b"x-own", b"1")]
    await send({"type": "http.response.start", "status": 299, "headers": headers})
    await send({"type": "http.response.body", "body": b"own"})


def front(path: str = "/healthz", why: str = "") -> Front:
    return Front(application, path, lambda: why)


async def test_it_is_ok_or_says_why_not() -> None:
    head, body = await asked(front())
    assert (head["status"], body["body"]) == (200, b"ok\n")
    head, body = await asked(front(why="no certificate yet"))
    assert (head["status"], body["body"]) == (503, b"no certificate yet\n")


async def test_head_has_no_body_and_its_length() -> None:
    head, body = await asked(front(), method="HEAD")
    assert (head["status"], body["body"]) == (200, b"")
    assert (b"content-length", b"3") in head["headers"]


@pytest.mark.parametrize(
    ("path", "method"), [("/healthz/", "GET"), ("/Healthz", "GET"), ("/healthz", "POST"), ("", "GET")]
)
async def test_everything_else_is_the_applications(path: str, method: str) -> None:
    head, _ = await asked(front(), path, method)
    assert head["status"] == 299


async def test_without_a_path_nobody_is_told() -> None:
    head, _ = await asked(front(path=""))
    assert head["status"] == 299


async def test_while_it_drains_it_is_not_ready_and_responses_end_their_connection() -> None:
    draining = front()
    draining.draining = True
    head, body = await asked(draining)
    assert (head["status"], body["body"]) == (503, b"draining\n")
    head, _ = await asked(draining, "/own")
    assert head["headers"] == [(b"x-own", b"1"), (b"connection", b"close")]
    head, _ = await asked(draining, "/own", version="2")
    assert (b"connection", b"close") not in head["headers"], "HTTP/2 has no such header"


async def test_the_port_of_health_alone_has_nothing_else() -> None:
    alone = Front(nothing, "/healthz", lambda: "")
    assert (await asked(alone))[0]["status"] == 200
    assert (await asked(alone, "/own"))[0]["status"] == 404
    assert (await asked(alone, kind="websocket"))[0]["type"] == "websocket.close"


def test_an_application_with_a_route_of_its_own_is_known() -> None:
    fast, flask = FastAPI(), Flask("shop")
    assert (has_route(fast, "/healthz"), has_route(flask, "/healthz")) == (False, False)
    fast.get("/healthz")(lambda: "own")
    flask.get("/healthz")(lambda: "own")
    assert (has_route(fast, "/healthz"), has_route(flask, "/healthz")) == (True, True)
    assert (has_route(fast, "/livez"), has_route(flask, "/livez")) == (False, False)


def test_a_route_that_takes_every_path_is_one_of_its_own() -> None:
    fast = FastAPI()
    fast.get("/{path:path}")(lambda path: path)
    mounted = FastAPI()
    mounted.mount("/", FastAPI())
    assert has_route(fast, "/healthz")
    assert has_route(mounted, "/healthz")


def test_a_post_route_is_none_for_get() -> None:
    fast, flask = FastAPI(), Flask("shop")
    fast.post("/healthz")(lambda: "own")
    flask.post("/healthz")(lambda: "own")
    assert (has_route(fast, "/healthz"), has_route(flask, "/healthz")) == (False, False)


def test_of_other_applications_nobody_can_tell() -> None:
    assert has_route(application, "/healthz") is None
    inner = type("Wrapper", (), {"app": application})()
    assert has_route(inner, "/healthz") is None
    around = type("Wrapper", (), {"app": FastAPI()})()
    assert has_route(around, "/healthz") is False
