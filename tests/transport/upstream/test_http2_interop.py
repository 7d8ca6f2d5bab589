"""HTTP/2 with servers that are not ours and not on h2: gRPC's C core, Envoy, and nghttpd where it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent import futures

import pytest

from benchmarks.free_ports import free_port
from meshlib.transport.upstream.target import Target
from tests.differential.envoy_process import cluster, envoy
from tests.support.h2_runtimes import Call, Loop, Threads
from tests.support.servers import EchoServer


@pytest.fixture(params=[Threads, Loop], ids=["threads", "asyncio"])
def runtime(request):
    made = request.param()
    yield made
    made.close()


@pytest.fixture(scope="module")
def grpc_port():
    grpc = pytest.importorskip("grpc")

    class Echo(grpc.GenericRpcHandler):
        def service(self, details):
            if details.method == "/test.Echo/Unary":
                return grpc.unary_unary_rpc_method_handler(lambda request, context: request)
            if details.method == "/test.Echo/Stream":
                return grpc.stream_stream_rpc_method_handler(lambda requests, context: requests)
            return None

    server = grpc.server(
        futures.ThreadPoolExecutor(8), handlers=[Echo()], options=[("grpc.max_receive_message_length", -1)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait(60)


def message(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


HEADERS = [(b"content-type", b"application/grpc"), (b"te", b"trailers")]


def test_a_grpc_server_answers_with_trailers(runtime, grpc_port):
    target = Target("127.0.0.1", grpc_port, http2=True)
    for size in (0, 10, 3_000_000):
        call = Call(
            b"/test.Echo/Unary", method=b"POST", headers=HEADERS, body=message(bytes(size)), limits={"head": 10.0}
        )
        result = runtime.call(target, call)
        assert (result.outcome.status, result.data) == (200, message(bytes(size)))
        assert (b"grpc-status", b"0") in result.outcome.trailers


def test_a_grpc_error_without_body_is_a_head_alone(runtime, grpc_port):
    target = Target("127.0.0.1", grpc_port, http2=True)
    result = runtime.call(target, Call(b"/test.Echo/Nothing", method=b"POST", headers=HEADERS, body=message(b"")))
    assert (result.outcome.status, result.data) == (200, b"")
    assert (b"grpc-status", b"12") in result.outcome.headers


def test_a_grpc_stream_of_many_messages_comes_back(runtime, grpc_port):
    target = Target("127.0.0.1", grpc_port, http2=True)
    messages = [message(b"%d" % number * 100) for number in range(500)]
    calls = [
        Call(b"/test.Echo/Stream", method=b"POST", headers=HEADERS, body=messages, limits={"head": 10.0})
        for _ in range(5)
    ]
    for result in runtime.many(target, calls):
        assert result.data == b"".join(messages)
        assert result.outcome.trailers[0] == (b"grpc-status", b"0")


@pytest.mark.differential
def test_an_envoy_passes_calls_on(runtime):
    with (
        EchoServer() as backend,
        envoy([{"match": {"prefix": "/"}, "route": {"cluster": "a"}}], [cluster("a", [backend.port])]) as client,
    ):
        target = Target("127.0.0.1", client.base_url.port, http2=True)
        for body in (None, b"x" * 300_000, [b"y" * 10_000] * 30):
            method = b"GET" if body is None else b"POST"
            result = runtime.call(target, Call(b"/a?b", method=method, body=body, headers=[(b"Cookie", b"a=1; b=2")]))
            about = json.loads(result.data)
            assert (about["method"], about["path"]) == (method.decode(), "/a?b")
            assert about["headers"]["host"] == "reviews:9080"
            assert about["headers"]["cookie"] == "a=1; b=2"
            assert about["body"].encode() == (b"".join(body) if isinstance(body, list) else body or b"")
        results = runtime.many(target, [Call(b"/%d" % number) for number in range(50)])
        assert [json.loads(result.data)["path"] for result in results] == [f"/{number}" for number in range(50)]
        assert runtime.upstream.idle_connections() == 1


@pytest.mark.skipif(shutil.which("nghttpd") is None, reason="nghttpd is not installed")
def test_nghttpd_serves_a_file(runtime, tmp_path):
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    port = free_port()
    command = ["nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", str(tmp_path), str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            target = Target("127.0.0.1", port, http2=True)
            assert runtime.until(lambda: runtime.call(target, Call(b"/file")).outcome.failure is None)
            assert runtime.call(target, Call(b"/file")).data == bytes(1_000_000)
        finally:
            process.terminate()
