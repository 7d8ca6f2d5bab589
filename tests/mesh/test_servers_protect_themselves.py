"""Limits, sizes, shedding and faults at ASGI and WSGI servers: what their callers get."""

from __future__ import annotations

import asyncio
import io
import random
import threading
from typing import Any

import pytest
from anyio.to_thread import current_default_thread_limiter
from starlette.concurrency import run_in_threadpool

import meshlib
from meshlib.workload import Workload
from tests.support.asgi import Served, ask, body, http_scope, responds
from tests.support.fake_clock import FakeClock
from tests.support.inbound import envoy_filter, fault_patch
from tests.support.protection import REVIEWS, protection
from tests.support.rate_limits import bucket, insert, local

ONE = {"requests": 1, "per": "1m", "key": {"header": "x-api-key"}}


def asgi(*resources: dict[str, Any], app: Any = None, **options: Any) -> tuple[Served, Any]:
    served = Served(*resources, workload=REVIEWS, **{"clock": FakeClock(), **options})
    return served, meshlib.MeshASGIMiddleware(app or responds(), served.mesh)


def wsgi(app: Any, *resources: dict[str, Any], **environ: Any) -> tuple[int, dict[str, str], bytes]:
    """One request to a WSGI application behind a mesh of its own, or the one that is given."""
    mesh = (
        resources[0]
        if isinstance(resources[0], meshlib.Mesh)
        else meshlib.Mesh.from_resources(resources, workload=REVIEWS)
    )
    got: list[Any] = []
    made = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/",
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "SERVER_NAME": "a",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "a",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(b""),
        "wsgi.errors": io.StringIO(),
        **environ,
    }
    pieces = meshlib.MeshWSGIMiddleware(app, mesh)(made, lambda status, headers, *_: got.append((status, headers)))
    data = b"".join(pieces)
    if hasattr(pieces, "close"):
        pieces.close()
    status, headers = got[-1]
    return int(status[:3]), dict(headers), data


def answers(environ: Any, start: Any) -> list[bytes]:
    data = environ["wsgi.input"].read()
    start("200 OK", [("content-type", "text/plain")])
    return [b"%d" % len(data)]


# -- rate limits ------------------------------------------------------------------------------------------------------


def test_an_asgi_caller_is_told_when_to_come_back():
    served, app = asgi(protection(rateLimits=[ONE], xRateLimitHeaders=True))

    async def twice() -> None:
        key = (b"x-api-key", b"k1")
        first, second = await ask(app, http_scope("/", key)), await ask(app, http_scope("/", key))
        assert (first.status, first.headers[b"x-ratelimit-remaining"]) == (200, b"0")
        assert (second.status, second.body) == (429, b"local_rate_limited")
        assert second.headers[b"retry-after"] == b"60"
        assert second.headers[b"x-envoy-ratelimited"] == b"true"
        assert second.headers[b"x-ratelimit-limit"] == b"1, 1;w=60"
        assert (await ask(app, http_scope("/", (b"x-api-key", b"k2")))).status == 200

    asyncio.run(twice())
    assert served.counted() == [("200", "-"), ("200", "-"), ("429", "RL")] or sorted(served.counted()) == [
        ("200", "-"),
        ("200", "-"),
        ("429", "RL"),
    ]


def test_a_wsgi_caller_likewise():
    with meshlib.Mesh.from_resources([protection(rateLimits=[ONE])], workload=REVIEWS, clock=FakeClock()) as mesh:
        assert wsgi(answers, mesh)[0] == 200
        status, headers, data = wsgi(answers, mesh)
    assert (status, data) == (429, b"local_rate_limited")
    assert {k.lower(): v for k, v in headers.items()}["retry-after"] == "60"


def test_a_local_ratelimit_of_an_envoy_filter_acts_at_asgi():
    config = local(bucket(2), response_headers_to_add=[{"header": {"key": "x-local", "value": "true"}}])
    served, app = asgi(envoy_filter("f", insert(config)))

    async def thrice() -> list[Any]:
        return [await ask(app) for _ in range(3)]

    found = asyncio.run(thrice())
    assert [client.status for client in found] == [200, 200, 429]
    assert found[2].headers[b"x-local"] == b"true"


# -- sizes ------------------------------------------------------------------------------------------------------------


async def reads_all(_scope: Any, receive: Any, send: Any) -> None:
    """An application that reads its body first."""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        more = message.get("more_body", False)
    await responds()(_scope, receive, send)


@pytest.mark.parametrize(
    ("length", "pieces", "status"),
    [(b"5", [b"12345"], 200), (b"6", [], 413), (None, [b"123", b"45"], 200), (None, [b"123", b"456"], 413)],
)
def test_an_asgi_body_that_is_too_large_gets_413_also_while_it_streams(length, pieces, status):
    _, app = asgi(protection(maxBodyBytes=5), app=reads_all)
    headers = [] if length is None else [(b"content-length", length)]
    says = [body(piece, index < len(pieces) - 1) for index, piece in enumerate(pieces)]
    assert asyncio.run(ask(app, http_scope("/", *headers, method="POST"), *says)).status == status


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"CONTENT_LENGTH": "5", "wsgi.input": io.BytesIO(b"12345")}, 200),
        ({"CONTENT_LENGTH": "6", "wsgi.input": io.BytesIO(b"123456")}, 413),
        ({"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True, "wsgi.input": io.BytesIO(b"12345")}, 200),
        (
            {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True, "wsgi.input": io.BytesIO(b"123456")},
            413,
        ),
    ],
)
def test_a_wsgi_body_that_is_too_large_gets_413(environ, status):
    found = wsgi(answers, protection(maxBodyBytes=5), **environ)
    assert found[0] == status
    if status == 200:
        assert found[2] == b"5"


def test_a_header_that_is_too_large_gets_431():
    _, app = asgi(protection(maxHeaderBytes=200))
    assert asyncio.run(ask(app, http_scope("/", (b"x", b"y" * 300)))).status == 431
    assert wsgi(answers, protection(maxHeaderBytes=200), HTTP_X="y" * 300)[0] == 431


# -- too much to do ---------------------------------------------------------------------------------------------------


class Blockable(asyncio.SelectorEventLoop):
    """A loop whose time is moved on by hand, as a handler that blocks it does."""

    blocked = 0.0

    def time(self) -> float:
        return super().time() + self.blocked


def test_a_loop_that_handlers_block_sheds_load_and_recovers():
    async def blocks(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/block":
            loop.blocked += 20.0
        await responds()(scope, receive, send)

    _, app = asgi(protection(loadShedding={"maxLag": "10s"}), app=blocks)

    async def served() -> list[int]:
        found = [(await ask(app, http_scope(path))).status for path in ("/", "/block", "/", "/healthz")]
        for _ in range(5):  # each time a window
            loop.blocked += 0.15
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return [*found, (await ask(app)).status]

    with asyncio.Runner(loop_factory=Blockable) as runner:
        loop: Any = runner.get_loop()
        assert runner.run(served()) == [200, 200, 503, 200, 200]


def test_starlettes_threads_that_all_are_busy_shed_load_and_recover():
    clock = FakeClock()
    began, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        assert go_on.wait(30)

    async def endpoint(scope: Any, receive: Any, send: Any) -> None:
        await run_in_threadpool(hold if scope["path"] == "/hold" else int)
        await responds()(scope, receive, send)

    served, app = asgi(protection(loadShedding={"maxQueueTime": "1s"}), app=endpoint, clock=clock)

    async def statuses() -> None:
        current_default_thread_limiter().total_tokens = 1
        first = asyncio.create_task(ask(app, http_scope("/hold")))
        await asyncio.to_thread(began.wait, 30)
        second = asyncio.create_task(ask(app, http_scope("/waits")))
        await asyncio.sleep(0)
        clock.advance(1.5)
        asked = asyncio.create_task(ask(app))
        await asyncio.sleep(0)
        healthy = asyncio.create_task(ask(app, http_scope("/healthz")))
        await asyncio.sleep(0)
        go_on.set()
        assert [each.status for each in await asyncio.gather(first, second, healthy)] == [200] * 3
        assert (await asked).status == 503, "somebody stood in line for so long"
        clock.advance(0.3)
        assert (await ask(app)).status == 200

    asyncio.run(statuses())
    assert served.mesh.problems == []
    served.mesh.close()


def test_a_server_that_does_not_tell_of_its_threads_is_a_notice_of_the_configuration_in_force(caplog):
    shedding = protection(loadShedding={"maxQueueTime": "1s"})
    with meshlib.Mesh.from_resources([shedding], workload=REVIEWS) as mesh:
        for _ in range(3):
            assert wsgi(answers, mesh)[0] == 200
        (problem,) = mesh.problems
        assert (problem.code, problem.severity) == ("queue-time-unknown", "notice")
        assert problem.path == "spec.inbound.loadShedding.maxQueueTime"
        assert "does not tell how long requests wait for a thread" in problem.message
        mesh.apply([shedding])
        assert mesh.problems == [], "until somebody meets it again"
        wsgi(answers, mesh)
        assert len(mesh.problems) == 1
        mesh.apply([protection(loadShedding={"maxLag": "1s"})])
        wsgi(answers, mesh)
        assert mesh.problems == []
    assert len([each for each in caplog.records if "queue-time-unknown" in each.getMessage()]) == 1


def test_asgi_requests_cancelled_at_any_moment_leave_no_slot():
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        await responds()(scope, receive, send)

    limited = protection(maxConcurrent=20, rateLimits=[{"requests": 1_000_000}])
    served, app = asgi(limited, app=slow)
    rng = random.Random(3)

    async def storm() -> None:
        for _ in range(40):
            tasks = [asyncio.create_task(ask(app)) for _ in range(25)]
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert (await ask(app)).status == 200

    asyncio.run(storm())
    assert served.mesh._core.inbound.protection.status()["active"] == 0


# -- faults -----------------------------------------------------------------------------------------------------------

ABORT = envoy_filter("f", fault_patch(abort={"http_status": 418, "percentage": {"numerator": 100}}))
DELAY = envoy_filter("f", fault_patch(delay={"fixed_delay": "2s", "percentage": {"numerator": 100}}))


def test_faults_are_injected_into_http_as_envoy_does():
    served, app = asgi(ABORT)
    found = asyncio.run(ask(app))
    assert (found.status, found.body) == (418, b"fault filter abort")
    assert served.counted() == [("418", "FI")]
    status, _, data = wsgi(answers, ABORT)
    assert (status, data) == (418, b"fault filter abort")


def test_a_delay_is_slept_by_the_meshs_clock_before_the_application():
    clock = FakeClock()
    served, app = asgi(DELAY, clock=clock)
    assert asyncio.run(ask(app)).status == 200
    assert clock.slept == [2.0]
    assert served.counted() == [("200", "DI")]


def test_a_workload_that_is_not_selected_is_left_alone():
    other = Workload("other", labels={"app": "other"})
    served = Served(envoy_filter("f", insert(local(bucket(0))), labels={"app": "reviews"}), workload=other)
    assert asyncio.run(ask(meshlib.MeshASGIMiddleware(responds(), served.mesh))).status == 200
