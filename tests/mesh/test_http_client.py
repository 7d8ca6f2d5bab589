"""A user's httpx client over real servers on loopback, blocking and asyncio, httpx and httpx2."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import sys
import threading

import httpx
import httpx2
import pytest

import meshlib
from benchmarks.free_ports import free_port
from meshlib import errors
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.servers import EchoServer, failing, slow


@pytest.fixture
def servers():
    with EchoServer("v1") as one, EchoServer("v2") as two:
        yield one, two


def reviews(one: int, two: int, *rules: dict, **policy) -> list[dict]:
    return [
        service("reviews"),
        pod("reviews", "v1", one),
        pod("reviews", "v2", two),
        destination_rule("reviews", "v1", "v2", **policy),
        virtual_service("reviews", *(rules or ({"route": [to("reviews", "v1")]},))),
    ]


class Caller:
    """One client of either runtime, with one way to call."""

    def __init__(self, runtime: str, mesh: meshlib.Mesh, **options) -> None:
        self.runtime = runtime
        self.mesh = mesh
        self.options = {"timeout": 30.0, **options}  # httpx's five seconds are short on a busy machine

    def request(self, method: str, url: str, **kwargs) -> httpx.Response:
        if self.runtime == "sync":
            with self.mesh.client(**self.options) as client:
                return client.request(method, url, **kwargs)

        async def go():
            async with self.mesh.async_client(**self.options) as client:
                return await client.request(method, url, **kwargs)

        return asyncio.run(go())

    def get(self, url: str, **kwargs) -> httpx.Response:
        return self.request("GET", url, **kwargs)


@pytest.fixture(params=["sync", "asyncio"])
def runtime(request):
    return request.param


def test_a_call_reaches_the_subset_that_the_rules_name(runtime, servers):
    one, two = servers
    rules = (
        {"match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": [to("reviews", "v2")]},
        {"route": [to("reviews", "v1")]},
    )
    with meshlib.Mesh.from_resources(reviews(one.port, two.port, *rules)) as mesh:
        caller = Caller(runtime, mesh)
        assert caller.get("http://reviews:9080/a").json()["server"] == "v1"
        response = caller.get("http://reviews:9080/a", headers={"end-user": "jason"})
        assert response.json()["server"] == "v2"
        exchange = response.extensions["mesh"]
        assert exchange.resource == "VirtualService/default/reviews"
        assert (exchange.rule, exchange.subset) == (0, "v2")
        assert exchange.host == "reviews.default.svc.cluster.local"
        assert exchange.endpoint == f"127.0.0.1:{two.port}"
        assert [a.status for a in exchange.attempts] == [200]
        assert exchange.flags == ""
        assert exchange.upstream_ms > 0


@pytest.mark.parametrize(
    "url",
    [
        "http://reviews:9080/",
        "http://reviews/",
        "http://reviews.default:9080/",
        "http://reviews.default.svc:9080/",
        "http://reviews.default.svc.cluster.local:9080/",
        "http://REVIEWS.default.svc.cluster.local.:9080/",
    ],
)
def test_every_name_of_a_service_works(servers, url):
    one, two = servers
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh, mesh.client() as client:
        assert client.get(url).json()["server"] == "v1"


def test_the_upstream_sees_the_request_as_it_was_made(runtime, servers):
    one, two = servers
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:
        sent = Caller(runtime, mesh).request(
            "POST", "http://reviews:9080/a%20b?x=1&y=%2F", content=b"hello", headers={"X-Case": "Kept"}
        )
    seen = sent.json()
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/a%20b?x=1&y=%2F", "hello")
    assert seen["headers"]["host"] == "reviews:9080"
    assert seen["headers"]["x-case"] == "Kept"
    assert seen["headers"]["x-envoy-attempt-count"] == "1"


def test_bodies_stream_up_and_down(runtime, servers):
    one, two = servers
    big = b"0123456789" * 200_000

    def behave(handler):
        handler.answer(200, big)
        return True

    one.behave = behave

    def chunks():
        for _ in range(50):
            yield b"z" * 10_000

    async def async_chunks():
        for chunk in chunks():
            yield chunk

    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:
        content = chunks() if runtime == "sync" else async_chunks()
        response = Caller(runtime, mesh).request("POST", "http://reviews:9080/", content=content)
    assert response.content == big
    assert len(one.seen[0]["body"]) == 500_000


def test_a_compressed_body_is_decoded_and_can_be_read_raw(servers):
    one, two = servers
    packed = gzip.compress(b"hello " * 100)
    one.behave = lambda handler: handler.answer(200, packed, content_encoding="gzip") or True
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh, mesh.client() as client:
        assert client.get("http://reviews:9080/").text == "hello " * 100
        with client.stream("GET", "http://reviews:9080/") as response:
            assert b"".join(response.iter_raw()) == packed


def test_connections_are_kept_alive(servers):
    one, two = servers
    ports = set()
    one.behave = lambda handler: ports.add(handler.client_address[1])
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh, mesh.client() as client:
        for _ in range(10):
            client.get("http://reviews:9080/")
    assert len(ports) == 1


def test_max_requests_per_connection_is_kept(servers):
    one, two = servers
    ports = []
    one.behave = lambda handler: ports.append(handler.client_address[1])
    policy = {"connectionPool": {"http": {"maxRequestsPerConnection": 3}}}
    with meshlib.Mesh.from_resources(reviews(one.port, two.port, **policy)) as mesh, mesh.client() as client:
        for _ in range(9):
            client.get("http://reviews:9080/")
    assert sorted(ports.count(p) for p in set(ports)) == [3, 3, 3]


# -- failures: httpx's own exceptions, with the mesh's story -----------------------------------------------------------


def test_a_dead_upstream_raises_connect_error_after_retries(runtime):
    port = free_port()
    with meshlib.Mesh.from_resources(reviews(port, port)) as mesh:
        with pytest.raises(httpx.ConnectError) as caught:
            Caller(runtime, mesh).get("http://reviews:9080/x")
    error = caught.value
    assert isinstance(error, errors.ConnectFailed)
    assert error.exchange.flags == "UF,URX"
    assert len(error.exchange.attempts) == 3
    assert str(error).startswith("GET http://reviews:9080/x: no connection to 127.0.0.1")
    assert "VirtualService/default/reviews http[0]" in str(error)


def test_respond_answers_what_envoy_would_for_a_dead_upstream(runtime):
    port = free_port()
    with meshlib.Mesh.from_resources(reviews(port, port)) as mesh:
        response = Caller(runtime, mesh, local_replies="respond").get("http://reviews:9080/x")
    assert response.status_code == 503
    assert response.text == (
        "upstream connect error or disconnect/reset before headers. "
        "retried and the latest reset reason: remote connection failure"
    )
    assert response.extensions["mesh"].flags == "UF,URX"


def test_a_route_timeout_raises_read_timeout_or_answers_504(runtime, servers):
    one, two = servers
    one.behave = slow(1.5)
    resources = reviews(one.port, two.port, {"route": [to("reviews", "v1")], "timeout": "100ms"})
    with meshlib.Mesh.from_resources(resources) as mesh:
        with pytest.raises(httpx.ReadTimeout) as caught:
            Caller(runtime, mesh).get("http://reviews:9080/")
        assert isinstance(caught.value, errors.UpstreamTimeout)
        assert caught.value.exchange.flags == "UT"
        response = Caller(runtime, mesh, local_replies="respond").get("http://reviews:9080/")
        assert (response.status_code, response.text) == (504, "upstream request timeout")


def test_the_callers_own_timeout_raises_read_timeout_in_both_modes(runtime, servers):
    one, two = servers
    one.behave = slow(1.5)
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:
        for mode in ("raise", "respond"):
            with pytest.raises(httpx.ReadTimeout) as caught:
                Caller(runtime, mesh, local_replies=mode, timeout=0.1).get("http://reviews:9080/")
            assert caught.value.exchange.flags == "DC"


@pytest.mark.parametrize("mode", ["raise", "respond"])
def test_what_a_policy_answers_is_a_response_in_both_modes(runtime, mode, servers):
    one, two = servers
    rule = {
        "route": [to("reviews", "v1")],
        "fault": {"abort": {"httpStatus": 418, "percentage": {"value": 100}}},
    }
    with meshlib.Mesh.from_resources(reviews(one.port, two.port, rule)) as mesh:
        response = Caller(runtime, mesh, local_replies=mode).get("http://reviews:9080/")
    assert (response.status_code, response.text) == (418, "fault filter abort")
    assert response.headers["content-type"] == "text/plain"


def test_unknown_hosts_pass_through_to_dns(runtime, servers):
    one, two = servers
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:
        response = Caller(runtime, mesh).get(f"http://localhost:{two.port}/direct")
        assert response.json()["server"] == "v2"
        assert response.extensions["mesh"].host == "PassthroughCluster"
        with pytest.raises(httpx.ConnectError, match="was not found"):
            Caller(runtime, mesh).get("http://no-such-host.invalid/")


def test_a_bad_local_replies_mode_is_refused():
    with meshlib.Mesh.from_resources([]) as mesh, pytest.raises(ValueError, match="'raise' or 'respond'"):
        mesh.http_transport(local_replies="no")


def test_a_closed_mesh_refuses_calls_clearly(servers):
    one, two = servers
    mesh = meshlib.Mesh.from_resources(reviews(one.port, two.port))
    client = mesh.client()
    client.get("http://reviews:9080/")
    mesh.close()
    mesh.close()
    with pytest.raises(errors.MeshClosed, match="closed"):
        client.get("http://reviews:9080/")


# -- other transports and modules --------------------------------------------------------------------------------------


def test_inner_gets_the_endpoints_address_and_the_mesh_authority(runtime):
    seen = []

    def answer(request):
        seen.append((str(request.url), request.headers["host"], request.read()))
        return httpx.Response(200, json={"ok": True})

    with meshlib.Mesh.from_resources(reviews(1, 2)) as mesh:
        response = Caller(runtime, mesh, transport=httpx.MockTransport(answer)).request(
            "POST", "http://reviews:9080/a?b=c", content=b"body"
        )
    assert response.json() == {"ok": True}
    assert seen == [("http://127.0.0.1:1/a?b=c", "reviews:9080", b"body")]


def test_policies_count_for_inner_transports_too(runtime):
    answers = [503, httpx.ConnectError("refused"), 200]

    def answer(request):
        made = answers.pop(0)
        if isinstance(made, Exception):
            raise made
        return httpx.Response(made)

    rule = {"route": [to("reviews", "v1")], "retries": {"attempts": 3, "retryOn": "5xx"}}
    with meshlib.Mesh.from_resources(reviews(1, 2, rule)) as mesh:
        response = Caller(runtime, mesh, transport=httpx.MockTransport(answer)).get("http://reviews:9080/")
    assert response.status_code == 200
    assert [a.failure or a.status for a in response.extensions["mesh"].attempts] == [503, "connect_failed", 200]


def test_wsgi_and_asgi_applications_can_be_the_upstream():
    def wsgi(environ, start_response):
        start_response("200 OK", [("content-type", "text/plain")])
        return [environ["HTTP_HOST"].encode()]

    async def asgi(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": dict(scope["headers"])[b"host"]})

    with meshlib.Mesh.from_resources(reviews(1, 2)) as mesh:
        assert (
            Caller("sync", mesh, transport=httpx.WSGITransport(wsgi)).get("http://reviews:9080/").text == "reviews:9080"
        )
        assert (
            Caller("asyncio", mesh, transport=httpx.ASGITransport(asgi)).get("http://reviews:9080/").text
            == "reviews:9080"
        )


def test_respx_mocks_keep_working_through_inner():
    import respx

    with meshlib.Mesh.from_resources(reviews(1, 2)) as mesh, respx.mock:
        respx.get("http://127.0.0.1:1/x").respond(json={"mocked": True})
        with httpx.Client(transport=mesh.http_transport(inner=httpx.HTTPTransport())) as client:
            assert client.get("http://reviews:9080/x").json() == {"mocked": True}


HTTPX2 = pytest.mark.parametrize(
    "client_of_httpx2",
    [
        lambda mesh: httpx2.Client(transport=mesh.http_transport()),
        lambda mesh: mesh.client(module=httpx2),
    ],
    ids=["transport", "client"],
)


@HTTPX2
def test_httpx2_works_just_as_well(servers, client_of_httpx2):
    one, two = servers
    dead = free_port()
    with meshlib.Mesh.from_resources(reviews(one.port, dead)) as mesh:
        with client_of_httpx2(mesh) as client:
            response = client.get("http://reviews:9080/")
            assert isinstance(response, httpx2.Response)
            assert response.json()["server"] == "v1"
            mesh.apply(reviews(dead, dead))
            with pytest.raises(httpx2.ConnectError) as caught:
                client.get("http://reviews:9080/")
            assert isinstance(caught.value, errors.ConnectFailed)
            assert caught.value.exchange.flags == "UF,URX"
            assert caught.value.request.url == "http://reviews:9080/"


@pytest.mark.parametrize("runtime", ["threads", "asyncio"])
@pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_client_of_either_module_streams_uploads_and_redirects(module, runtime):
    with EchoServer("v1") as server, meshlib.Mesh.from_resources(reviews(server.port, server.port)) as mesh:
        if runtime == "threads":
            with mesh.client(module=module, headers={"x-mine": "1"}) as client:
                assert isinstance(client, module.Client)
                with client.stream("POST", "http://reviews:9080/up", content=iter([b"a", b"b"])) as response:
                    assert isinstance(response, module.Response)
                    body = b"".join(response.iter_bytes())
            assert response.elapsed.total_seconds() >= 0
        else:

            async def go():
                async def pieces():
                    yield b"a"
                    yield b"b"

                async with mesh.async_client(module=module, headers={"x-mine": "1"}) as client:
                    assert isinstance(client, module.AsyncClient)
                    async with client.stream("POST", "http://reviews:9080/up", content=pieces()) as response:
                        assert isinstance(response, module.Response)
                        return b"".join([piece async for piece in response.aiter_bytes()])

            body = asyncio.run(go())
    seen = json.loads(body)
    assert (seen["method"], seen["path"], seen["body"]) == ("POST", "/up", "ab")
    assert seen["headers"]["x-mine"] == "1"


async def test_httpx2_works_just_as_well_on_asyncio(servers):
    one, two = servers
    async with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:
        async with httpx2.AsyncClient(transport=mesh.async_http_transport()) as client:
            assert (await client.get("http://reviews:9080/")).json()["server"] == "v1"


# -- runtimes ------------------------------------------------------------------------------------------------------------


def test_one_mesh_serves_many_event_loops_one_after_another_and_at_once(servers):
    one, two = servers
    results = []
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:
        transport = mesh.async_http_transport()

        async def go(calls):
            async with httpx.AsyncClient(transport=transport) as client:
                for _ in range(calls):
                    results.append((await client.get("http://reviews:9080/")).json()["server"])

        for _ in range(5):
            asyncio.run(go(3))
        threads = [threading.Thread(target=lambda: asyncio.run(go(20))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == ["v1"] * 135


async def test_many_calls_at_once_on_one_loop(servers):
    one, two = servers
    async with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh, mesh.async_client() as client:
        answers = await asyncio.gather(*(client.get(f"http://reviews:9080/{n}") for n in range(200)))
    assert [a.json()["path"] for a in answers] == [f"/{n}" for n in range(200)]


def test_max_connections_of_one_lets_calls_wait_and_refuses_beyond_the_line(servers):
    one, two = servers
    one.behave = slow(0.3)
    pool = {"tcp": {"maxConnections": 1}, "http": {"http1MaxPendingRequests": 1}}
    statuses = []
    with meshlib.Mesh.from_resources(reviews(one.port, two.port, connectionPool=pool)) as mesh, mesh.client() as client:

        def call():
            response = client.get("http://reviews:9080/")
            statuses.append((response.status_code, response.headers.get("x-envoy-overloaded")))

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [(200, None), (200, None), (503, "true")]
        assert mesh.status()["clusters"][0]["connections_in_use"] == 0


def test_import_of_meshlib_brings_no_heavy_module():
    import subprocess

    code = "import sys, httpx; before = set(sys.modules); import meshlib; print(sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(loaded.replace("'", '"')) == ["meshlib", "meshlib.distribution"]


def test_a_failing_endpoint_is_ejected_and_shown_in_status(servers):
    one, two = servers
    one.behave = failing(503)
    policy = {"outlierDetection": {"consecutive5xxErrors": 2, "maxEjectionPercent": 100}}
    resources = reviews(one.port, two.port, {"route": [to("reviews")]}, **policy)
    with meshlib.Mesh.from_resources(resources, seed=3) as mesh, mesh.client() as client:
        statuses = [client.get("http://reviews:9080/").status_code for _ in range(40)]
        assert statuses.count(503) == 2
        (cluster,) = mesh.status()["clusters"]
        by_address = {e["address"]: e for e in cluster["endpoints"]}
        assert by_address[f"127.0.0.1:{one.port}"]["ejected"]
        assert by_address[f"127.0.0.1:{one.port}"]["ejected_for"] > 20
        assert cluster["events"][0]["trigger"] == "consecutive 5xx"


def test_cookies_work_as_in_any_httpx_client(runtime, servers):
    one, two = servers
    one.behave = lambda handler: handler.answer(200, b"", set_cookie="session=abc; Path=/") or True
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:
        with mesh.client(cookies={"mine": "1"}) as client:
            client.get("http://reviews:9080/")
            assert dict(client.cookies) == {"mine": "1", "session": "abc"}
            client.get("http://reviews:9080/")
            client.cookies = {"fresh": "2"}
            client.get("http://reviews:9080/")
    sent = [seen["headers"].get("cookie") for seen in one.seen]
    assert sent == ["mine=1", "mine=1; session=abc", "fresh=2"]


def test_a_hundred_event_loops_leave_no_trace(servers):
    one, two = servers
    with meshlib.Mesh.from_resources(reviews(one.port, two.port)) as mesh:

        async def go():
            async with mesh.async_client() as client:
                await client.get("http://reviews:9080/")

        for _ in range(100):
            asyncio.run(go())
        assert len(mesh._core.loops) == 1


def test_ever_new_hosts_do_not_grow_the_mesh(servers, monkeypatch):
    from meshlib.transport.runtimes import targets

    one, _ = servers
    monkeypatch.setattr(targets, "MAX_TARGETS", 10)
    with meshlib.Mesh.from_resources([]) as mesh, mesh.client() as client:
        for n in range(1, 40):
            with contextlib.suppress(httpx.ConnectError):
                client.get(f"http://127.0.0.{n}:{one.port}/")
        (cluster,) = mesh._core.live.bound.values()
        assert len(cluster.targets) <= 10
        assert mesh._core.upstream.idle_connections() <= 10
