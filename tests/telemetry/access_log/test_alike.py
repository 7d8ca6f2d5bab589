"""The short way to a line of calls that are alike says what the long way says."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.compiler.access_log.format import ISTIO, Operator, parse, parse_json
from meshlib.telemetry.access_log import alike, layouts
from meshlib.telemetry.access_log.alike import AlikeLines, json_alike, text_alike
from meshlib.telemetry.access_log.file_output import FileOutput
from meshlib.telemetry.access_log.line_code import SAME, Form, Kind, Reading, Side
from meshlib.telemetry.access_log.made import MADE, MadeEntry
from meshlib.telemetry.access_log.writer import Writer
from tests.support.access_log import MadeUp
from tests.support.fake_clock import FakeClock
from tests.support.resources import destination_rule, pod, service, to, virtual_service

RESOURCES = [
    service("reviews"),
    pod("reviews", "v1", 9081),
    pod("reviews", "v2", 9082),
    destination_rule("reviews", "v1", "v2"),
    virtual_service(
        "reviews",
        {"name": "old", "match": [{"uri": {"prefix": "/old"}}], "rewrite": {"uri": "/new"}, "route": [to("reviews", "v2")]},
        {"name": "abort", "match": [{"uri": {"prefix": "/abort"}}], "route": [to("reviews", "v1")],
         "fault": {"abort": {"httpStatus": 418, "percentage": {"value": 50}}}},
        {"route": [{**to("reviews", "v1"), "weight": 50}, {**to("reviews", "v2"), "weight": 50}]},
    ),
]  # fmt: skip
FORMATS: list[str | dict[str, object]] = [
    ISTIO,
    "%PATH% 100%% %START_TIME(%s)% %DURATION% %DURATION% %REQ(X-A)% %RESP(X-Envoy-Upstream-Service-Time)%",
    "%REQ(X-A):4% %REQ(Authorization)% %REQ(X-A?X-Request-Id)% %REQ(:PATH):3% %REQ(HOST)% %REQ(:METHOD)% %STREAM_ID%",
    "%REQ(:SCHEME)% %RESP(Content-Length)% %BYTES_RECEIVED% %RESPONSE_FLAGS_LONG% %QUERY_PARAM(token)% %ROUTE_NAME%",
    {},
    {"a": "%START_TIME%", "b": ["%REQ(X-A)%", {"c": "%DURATION% ms, %REQ(X-A)%"}], "n": 3, "t": "%REQ(Authorization)%"},
    {"none": "%REQ(X-None)% %REQ(Referer)%", "first": "%REQ(X-Envoy-Original-Path)%", "a": "%REQ(X-A?:PATH)% %PATH%"},
    {"none": "%REQ(X-None)%", "took": "%RESP(X-Envoy-Upstream-Service-Time)%", "100%": "%RESPONSE_CODE%"},
]

ASKING = (3, 5, 6)
"""Of those the formats for which an entry is asked each time."""


def lines(path: Path, form: str | dict[str, object], seed: int) -> list[str]:
    rng, clock = random.Random(seed), FakeClock()

    def respond(request: httpx.Request) -> httpx.Response:
        clock.advance(rng.random() / 50)
        code = 503 if request.url.path == "/fails" and rng.random() < 0.5 else rng.choice([200, 404])
        return httpx.Response(code, content=b"x" * rng.randrange(30))

    mesh = meshlib.Mesh.from_resources(
        RESOURCES,
        registry=CollectorRegistry(),
        clock=clock,
        seed=seed,
        access_log=path,
        access_log_format="json" if form == {} else form,
    )
    transport = mesh.http_transport(httpx.MockTransport(respond))
    with mesh, httpx.Client(transport=transport, base_url="http://reviews:9080") as client:
        for _ in range(150):
            target = rng.choice(["/a", "/a?token=t&b=%25", "/old/x", "/abort", "/fails", "/a\u00e9%00"])
            headers = rng.choice(
                [
                    {},
                    {"x-a": 'q"\\'},
                    {"x-a": "100%s"},
                    {"authorization": "secret"},
                    {"x-request-id": str(rng.randrange(3))},
                    {"x-envoy-original-path": "/first?token=t", "referer": "http://a/?token=t"},
                ]
            )
            content = rng.choice([None, None, None, b"12345"])
            client.request(rng.choice(["GET", "POST"]), target, headers=headers, content=content)
        assert mesh._core.telemetry.flush_logs(60), "closing waits for a second only"
    return path.read_text().splitlines()


@pytest.mark.parametrize(("form", "asks"), [(form, n in ASKING) for n, form in enumerate(FORMATS)])
def test_both_ways_write_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, asks: bool) -> None:
    entries: list[Any] = []
    init = MadeEntry.__init__
    monkeypatch.setattr(MadeEntry, "__init__", lambda self, *said: (entries.append(said), init(self, *said))[1])
    monkeypatch.setattr(alike, "PLAIN", False)
    short = lines(tmp_path / "short", form, 7)
    assert (len(entries) < 100) is not asks, "most lines are of kinds of calls that were met before"
    monkeypatch.setattr(alike, "PLAIN", True)
    entries.clear()
    assert short == lines(tmp_path / "long", form, 7)
    assert len(short) == 150 <= len(entries)


def test_a_header_of_an_operator_is_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names in a format are data of the function that reads them."""
    monkeypatch.setattr(alike, "PLAIN", False)
    parts = Operator("REQ", 'x"+__import__("os")\\{0}\n'), Operator("DURATION")
    assert text_alike(parts, MADE, lambda _line, _size: None, lambda: 0.0) is not None


def test_kinds_of_calls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "PLAIN", False)
    put: list[Any] = []
    side = Side("    key, started = call, 0.0\n", lambda operator: SAME, "", {}, lambda call, *_: MadeUp(f"/{call}"))
    made = text_alike(parse("%DURATION% %PATH%"), side, lambda unmade, _: put.append(unmade), lambda: 0.0)
    assert made is not None
    for n in range(alike.MOST + 10):
        assert made.write(n, 1.5, None)
    assert len(made._known) <= alike.MOST
    assert put[-1] == f"1500 /{alike.MOST + 9}"
    made.forget()
    assert not made._known


def test_what_comes_once_is_not_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each call is another one, learning costs more than it saves."""
    monkeypatch.setattr(alike, "PLAIN", False)
    put: list[str] = []
    fits = {"/a": True, "/b": False}
    side: Side[str] = Side(
        "    key, started = call, 0.0\n", lambda _: SAME, "", {}, lambda call, *_: MadeUp(call), fits=fits.__getitem__
    )
    made = text_alike(parse("%PATH%"), side, lambda line, _: put.append(line), lambda: 0.0)
    assert made is not None
    assert [made.write(target, 1.0, None) for target in ("/a", "/b", "/b", "/a", "/a", "/b")] == [
        False, False, False, True, True, False,
    ]  # fmt: skip
    assert put == ["/a", "/a"]
    for n in range(alike.MOST + 10):
        made.write(f"/{n}", 1.0, None)
    assert len(made._once) <= alike.MOST
    made.forget()
    assert not made._once
    assert not made.write("/a", 1.0, None)


def test_what_is_nearly_always_there_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "PLAIN", False)
    put: list[Any] = []
    reading = Reading("call", lambda path: path or None, brief="{0}", there=True)
    side: Side[bytes] = Side("    key, started = 1, 0.0\n", lambda _: reading, "", {}, lambda *_: MadeUp())
    made = json_alike(parse_json({"p": "%PATH%"}), side, lambda line, _: put.append(line), lambda: 0.0)
    assert made is not None
    assert made.write(b"/a", 1.0, None)
    assert made.write(b"", 1.0, None)
    assert put[0] == '{"p":"/a"}\n'
    assert put[1][0](put[1]) == '{"p":null}\n'


@pytest.mark.parametrize("number", [0, 7, 999, 1000, -1, -1000, 1 << 70])
def test_numbers_have_their_digits(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "PLAIN", False)
    put: list[str] = []
    side: Side[int] = Side(
        "    key, started = 1, 0.0\n", lambda _: Reading("call", None, Kind.NUMBER), "", {}, lambda *_: MadeUp()
    )
    for made in (
        text_alike(parse("%PATH%"), side, lambda line, _: put.append(line), lambda: 0.0),
        json_alike(parse_json({"n": "%PATH%"}), side, lambda line, _: put.append(line), lambda: 0.0),
    ):
        assert made is not None
        assert made.write(number, 1.0, None)
    assert put == [str(number), f'{{"n":{number}}}\n']


@pytest.mark.parametrize("took", [0.0, 0.2, 0.999, 1.0, 1.5, 999.9, 1000.0, 12345.6, -0.5, -1.0, -7.9, 1e30])
def test_milliseconds_have_no_fraction(took: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "PLAIN", False)
    put: list[str] = []
    readings = {"DURATION": None, "PATH": Reading("call", lambda took: str(int(took)), Kind.TOOK)}
    side: Side[float] = Side(
        "    key, started = 1, 0.0\n", lambda each: readings[each.name], "", {}, lambda *_: MadeUp()
    )
    made = text_alike(parse("%DURATION% %PATH%"), side, lambda line, _: put.append(line), lambda: 0.0)
    assert made is not None
    for _ in range(2):  # as it is met first, and as it is kept
        made.write(took, took / 1e3, None)
    assert put == [f"{int(took / 1e3 * 1e3)} {int(took)}"] * 2


def test_the_time_of_day_is_asked_for_again_in_each_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    """In between it goes on with the monotonic clock; where somebody sets it, a line says so from the next millisecond on."""
    monkeypatch.setattr(alike, "PLAIN", False)
    put: list[str] = []
    asked: list[float] = []
    ahead = 1_700_000_000.0

    def today() -> float:
        asked.append(now + ahead)
        return now + ahead

    side: Side[float] = Side("    key, started = 1, call\n", lambda _: SAME, "", {}, lambda *_: MadeUp())
    made = text_alike(parse("%START_TIME%"), side, lambda line, _: put.append(line), today)
    assert made is not None
    for began, now in ((5.0001, 5.0002), (5.0003, 5.0009), (5.0003, 5.0015), (5.0011, 5.0019)):
        made.write(began, now, None)
    assert len(asked) == 2
    ahead += 3600.0
    for began, now in ((5.0016, 5.0029), (5.0021, 5.0039), (5.0016, 5.004)):
        made.write(began, now, None)
    at = "2023-11-14T{}Z".format
    assert put == [at("22:13:25.000")] * 3 + [at("22:13:25.001")] * 2 + [at("23:13:25.002"), at("23:13:25.001")]


def test_a_short_text_is_cut_where_its_operator_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "PLAIN", False)
    put: list[str] = []
    side: Side[str] = Side(
        "    key, started = 1, 0.0\n", lambda _: Reading("call", None, Kind.SHORT), "", {}, lambda *_: MadeUp()
    )
    made = text_alike(parse("%PATH:4%"), side, lambda line, _: put.append(line), lambda: 0.0)
    assert made is not None
    made.write("127.0.0.1:80", 1.0, None)
    assert put == ["127."]


def test_a_side_that_is_closer_is_asked_first() -> None:
    asked: list[tuple[object, ...]] = []

    def closer(*call: object) -> bool:
        asked.append(call)
        return True

    side: Side[str] = Side(
        "    if call == 'other' and closer(call, ended, traced): return True\n    key, started = 1, 0.0\n",
        lambda _: SAME, "", {}, lambda call, *_: MadeUp(call),
    )  # fmt: skip
    put: list[str] = []
    made = AlikeLines(side, ["-"], Form(str, False), lambda line, _: put.append(line), lambda: 0.0, closer=closer)
    assert made.write("one", 1.0, None)
    assert made.write("other", 2.0, None)
    assert (put, asked) == (["-"], [("other", 2.0, None)])


def test_a_line_goes_to_its_writer_as_if_it_were_put(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a call, where there is room; what has none is dropped, and counted."""
    output, written = Collecting(), 40
    writer: Writer[str] = Writer(output, "a sink", most=4 * written, gather=30.0)
    side: Side[str] = Side(
        "    key, started = 1, 0.0\n", lambda _: Reading("call", None, Kind.SHORT), "", {}, lambda *_: MadeUp()
    )
    made = AlikeLines(side, [Operator("PATH")], Form(str, False), writer.put, lambda: 0.0, writer=writer)
    for n in range(7):
        assert made.write(str(n) * written, 1.0, None)
    assert writer.dropped == 3
    assert writer.flush(30)
    assert output.lines == [str(n) * written for n in range(4)]
    assert (writer.written, writer._held) == (4, 0)
    made.write("after", 1.0, None)
    assert writer.flush(30)
    assert output.lines[4:] == ["after"]
    made.write("its parent's", 1.0, None)
    writer.after_fork()
    made.write("a child's", 1.0, None)
    assert writer.flush(30)
    assert output.lines[5:] == ["a child's"]
    writer.close()


class Collecting:
    """An output that keeps all lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, items: Sequence[str], _stopping: object, /) -> int:
        self.lines += items
        return 0

    def reopen(self) -> None:
        return

    close = after_fork = reopen


def test_what_waits_is_counted_by_its_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a sink is bounded: long headers count as long as they are."""
    monkeypatch.setattr(alike, "PLAIN", False)
    sizes: list[int] = []
    side: Side[bytes] = Side(
        "    key, started = 1, 0.0\n", lambda operator: Reading("call"), "", {}, lambda *_: MadeUp()
    )
    made = text_alike(parse("%REQ(X)% %PATH%"), side, lambda _, size: sizes.append(size), lambda: 0.0)
    assert made is not None
    made.write(b"", 1.0, None)
    made.write(b"x" * 5000, 1.0, None)
    assert sizes[1] - sizes[0] == 2 * 5000


def test_a_line_that_cannot_be_made_is_counted_as_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fails(_unmade: object) -> str:
        raise ValueError("a formatter is broken")

    writer = Writer(FileOutput(str(tmp_path / "log")), "log")
    for item in ("before\n", (fails, "", 1), "after\n"):
        writer.put(item, 10)
    assert writer.flush(5)
    assert (tmp_path / "log").read_text() == "before\nafter\n"
    assert (writer.written, writer.lost) == (2, 1)
    assert "could not be made" in caplog.text
    writer.close()


def served(path: Path, form: str | dict[str, object], seed: int, application: Any) -> list[str]:
    """What is logged of requests that an application serves, most of them with heads that were met before."""
    rng, clock = random.Random(seed), FakeClock()
    mesh = meshlib.Mesh.from_resources(
        [],
        registry=CollectorRegistry(),
        clock=clock,
        seed=seed,
        access_log=path,
        access_log_format="json" if form == {} else form,
    )
    with mesh:
        ask = application(mesh, clock)
        for _ in range(150):
            headers = [("host", "reviews:9080"), ("user-agent", 'a"b')]
            if rng.random() < 0.2:
                headers.append(("x-request-id", f"{rng.random()}\x1b"))
            if rng.random() < 0.2:
                headers.append(("x-forwarded-for", rng.choice(["10.1.2.3", "10.1.2.3, 127.0.0.1"])))
            if rng.random() < 0.2:
                headers.append(("authorization", "secret"))
            target = rng.choice(["/a", "/a", "/a?token=t&b=%25", "/b", "/fails"])
            port = rng.choice([4711, 4712])
            ask(rng.choice(["GET", "POST", "HEAD"]), target, headers, port, rng)
        assert mesh._telemetry_of_servers().flush_logs(60)
    return path.read_text().splitlines()


def by_asgi(mesh: meshlib.Mesh, clock: FakeClock) -> Any:
    now: list[random.Random] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        (rng,) = now
        await receive()
        clock.advance(rng.randrange(1, 30) / 1000)
        if scope["path"] == "/fails":
            raise ValueError("it fails")
        headers = [(b"x-a", b"1"), (b"x-envoy-upstream-service-time", b"9999")]
        await send({"type": "http.response.start", "status": rng.choice([200, 404, 500]), "headers": headers})
        clock.advance(rng.randrange(30) / 1000)
        await send({"type": "http.response.body", "body": b"x" * rng.randrange(9)})

    middleware = meshlib.MeshASGIMiddleware(app, mesh)

    def ask(method: str, target: str, headers: list[tuple[str, str]], port: int, rng: random.Random) -> None:
        path, _, query = target.partition("?")
        body = b"12345" if method == "POST" else b""
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers],
            "client": ("127.0.0.1", port), "server": ("127.0.0.1", 9080),
        }  # fmt: skip

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(_message: Any) -> None:
            return

        now[:] = [rng]
        with contextlib.suppress(ValueError):
            asyncio.run(middleware(scope, receive, send))

    return ask


def by_wsgi(mesh: meshlib.Mesh, clock: FakeClock) -> Any:
    now: list[random.Random] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        (rng,) = now
        clock.advance(rng.randrange(1, 30) / 1000)
        if environ["PATH_INFO"] == "/fails":
            raise ValueError("it fails")
        start_response(rng.choice(["200 OK", "404 Not Found"]), [("x-a", "1")])
        clock.advance(rng.randrange(30) / 1000)
        return [b"x" * rng.randrange(9)]

    middleware = meshlib.MeshWSGIMiddleware(app, mesh)

    def ask(method: str, target: str, headers: list[tuple[str, str]], port: int, rng: random.Random) -> None:
        path, _, query = target.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method, "RAW_URI": target, "PATH_INFO": path, "QUERY_STRING": query, "SCRIPT_NAME": "",
            "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "9080", "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_SOFTWARE": "gunicorn/23.0",
            "REMOTE_ADDR": "127.0.0.1", "REMOTE_PORT": str(port), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(b""),
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers},
        }  # fmt: skip
        now[:] = [rng]
        with contextlib.suppress(ValueError):
            response = middleware(environ, lambda *_: lambda _: None)
            list(response)
            getattr(response, "close", lambda: None)()

    return ask


@pytest.mark.parametrize("application", [by_asgi, by_wsgi])
@pytest.mark.parametrize("form", FORMATS)
def test_both_ways_write_the_same_of_what_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, application: Any
) -> None:
    monkeypatch.setattr(alike, "PLAIN", False)
    monkeypatch.setattr(layouts, "OFTEN", 2)
    short = served(tmp_path / "short", form, 7, application)
    monkeypatch.setattr(alike, "PLAIN", True)
    assert short == served(tmp_path / "long", form, 7, application)
    assert len(short) == 150


@pytest.mark.parametrize("raw", [True, False])
def test_a_value_that_has_to_be_escaped_is_left_to_who_writes(raw: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Escaping takes time for each character, and a stranger says how many there are."""
    monkeypatch.setattr(alike, "PLAIN", False)
    put: list[Any] = []
    side: Side[bytes] = Side(
        "    key, started = 1, 0.0\n", lambda operator: Reading("call"), "", {}, lambda *_: MadeUp(), raw=raw
    )
    made = text_alike(parse('"%REQ(X)%"'), side, lambda line, _: put.append(line), lambda: 0.0)
    assert made is not None
    for value in (b"plain", b'a"b', b"a\nb", b"a\x7fb", b"\xe9", b"a\\b"):
        made.write(value, 1.0, None)
    assert put[0] == (b'"plain"' if raw else '"plain"')
    assert [each[0](each) for each in put[1:]] == [r'"a\"b"', r'"a\nb"', r'"a\x7fb"', r'"\xe9"', r'"a\\b"']
