"""Lines of requests that go straight, read without asking them: they are those of the long way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.telemetry.access_log import alike, layouts
from meshlib.telemetry.access_log.alike import AlikeLines
from meshlib.transport.asgi.lines import PLACED
from meshlib.transport.asgi.peer import SNI
from tests.support.fake_clock import FakeClock
from tests.support.shortcuts import NEEDS_SHORTCUTS
from tests.telemetry.access_log.test_layouts import LITERALS, OPERATORS

MORE = [
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "REQUESTED_SERVER_NAME",
    "DOWNSTREAM_LOCAL_ADDRESS",
]
TEXTS = st.lists(st.tuples(LITERALS, st.sampled_from(OPERATORS + MORE)), min_size=6, max_size=9).map(
    lambda parts: "".join([f"{literal}%{operator}%" for literal, operator in parts])
)
FORMS = st.one_of(TEXTS, st.lists(st.sampled_from(OPERATORS + MORE), min_size=6).map(lambda names: {
    "all": [f"%{name}%" for name in names]
}))  # fmt: skip
REQUESTS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "GET", "POST", "HEAD"]),
        "path": st.sampled_from(["/a", "/b", "/\u00e9", "/\x22"]),
        "query": st.sampled_from([b"", b"", b"token=t&b=%25"]),
        "value": st.sampled_from([b"1", b"", b'a"b', b"\xe9"]),
        "others": st.sampled_from(
            [(), (b"authorization",), (b"X-A",), (b"x-a", b"x-a"), (b"x-forwarded-for",), (b"x-b",)]
        ),
        "client": st.sampled_from([("127.0.0.1", 4711), ("::1", 4712), ["127.0.0.1", 4711], None]),
        "server": st.sampled_from([("127.0.0.1", 9080), ("127.0.0.2", 80), None]),
        "version": st.sampled_from(["1.1", "1.1", "2", None]),
        "name": st.sampled_from([None, None, "reviews"]),
        "status": st.sampled_from([200, 200, 404]),
        "body": st.sampled_from([b"", b"12345"]),
    }
)


def scope_of(asked: dict[str, Any], n: int) -> dict[str, Any]:
    headers = [(b"host", b"reviews:9080"), (b"x-a", asked["value"]), (b"x-request-id", b"%d" % n)]
    found: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0"}, "method": asked["method"], "scheme": "http", "path": asked["path"],
        "raw_path": asked["path"].encode(), "query_string": asked["query"], "root_path": "",
        "headers": [*headers, *[(name, b"10.1.2.3") for name in asked["others"]]],
    }  # fmt: skip
    for key, name in (("client", "client"), ("server", "server"), ("version", "http_version")):
        if asked[key] is not None:
            found[name] = asked[key]
    if asked["name"]:
        found["extensions"] = {"tls": {SNI: asked["name"]}}
    return found


def lines(path: Path, form: Any, requests: list[dict[str, Any]], plain: bool) -> str:
    clock = FakeClock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alike, "PLAIN", plain)
        patch.setattr(layouts, "OFTEN", 2)
        mesh = meshlib.Mesh.from_resources(
            [], registry=CollectorRegistry(), clock=clock, access_log=path, access_log_format=form
        )
        with mesh:
            asyncio.run(served(mesh, clock, requests))
            assert mesh.flush_access_logs()
    text = path.read_text()
    path.unlink()
    return text


async def served(mesh: meshlib.Mesh, clock: FakeClock, requests: list[dict[str, Any]]) -> None:
    now: list[dict[str, Any]] = [{}]

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        clock.advance(0.0004)
        await send({"type": "http.response.start", "status": now[0]["status"], "headers": [(b"x-a", b"1")]})
        clock.advance(0.0013)
        await send({"type": "http.response.body", "body": now[0]["body"]})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": now[0]["body"], "more_body": False}

    async def send(_message: Any) -> None:
        return

    middleware = meshlib.MeshASGIMiddleware(app, mesh)
    for n, asked in enumerate(requests):
        now[0] = asked
        await middleware(scope_of(asked, n), receive, send)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(form=FORMS, requests=st.lists(REQUESTS, min_size=1, max_size=4))
def test_a_line_is_that_of_the_long_way(tmp_path: Path, form: Any, requests: list[dict[str, Any]]) -> None:
    again = [each for each in requests for _ in range(6)]
    short = lines(tmp_path / "log", form, again, False)
    assert short == lines(tmp_path / "log", form, again, True)
    assert short


ASKED: dict[str, Any] = {
    "method": "GET", "path": "/a", "query": b"", "value": b"1", "others": (), "client": ("127.0.0.1", 4711),
    "server": ("127.0.0.1", 9080), "version": "1.1", "name": None, "status": 200, "body": b"",
}  # fmt: skip
OTHERS: list[dict[str, Any]] = [
    {"method": "HEAD"}, {"path": "/\u00e9"}, {"query": b"token=t&b=c"}, {"value": b""}, {"value": b'"'}, {"others": (b"x-b",)},
    {"others": (b"x-a",)}, {"others": (b"X-A",)}, {"others": (b"x-forwarded-for",)}, {"client": ("::1", 1)}, {"client": None},
    {"server": ("127.0.0.2", 80)}, {"server": None}, {"version": "2"}, {"name": "reviews"}, {"status": 404}, {"body": b"12345"},
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS, ids=repr)
def test_what_differs_in_one_thing_is_told_apart(tmp_path: Path, other: dict[str, Any]) -> None:
    requests = [ASKED, ASKED, ASKED, {**ASKED, **other}] * 4
    form = {name: f"%{name}%" for name in OPERATORS + MORE}
    short = lines(tmp_path / "log", form, requests, False)
    assert short.splitlines() == lines(tmp_path / "log", form, requests, True).splitlines()
    assert short.count("\n") == len(requests)


@NEEDS_SHORTCUTS
def test_requests_with_the_names_of_many_are_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    init = AlikeLines.__init__

    def counted(self: Any, side: Any, *args: Any) -> None:
        init(self, side, *args)
        if side is PLACED:
            write = self.write
            self.write = lambda *said: made.append(said) or write(*said)

    monkeypatch.setattr(AlikeLines, "__init__", counted)
    text = lines(tmp_path / "log", "%REQ(X-Request-Id)%", [ASKED] * 300, False)
    assert text == "".join([f"{n}\n" for n in range(300)])
    assert len(made) > 200
