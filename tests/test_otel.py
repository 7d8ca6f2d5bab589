"""The extra ``otel``: spans sent to a collector in the background, bounded, and what is lost is counted. The collector may be
down, slow or refusing for as long as it likes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry, generate_latest

import meshlib
from benchmarks.free_ports import free_port
from meshlib import otel
from meshlib.errors import MeshError
from meshlib.telemetry.dropped import dropped
from tests.support.fake_clock import FakeClock
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.servers import EchoServer

CLOCK = {"delay": 3600.0}
"""Nothing is sent because time passes: only a full batch, a flush or the end."""


@pytest.fixture(scope="module")
def collector():
    with OtlpReceiver() as made:
        yield made


@pytest.fixture
def receiver(collector):
    collector.clear()
    return collector


@pytest.fixture(autouse=True)
def nothing_dropped():
    dropped.after_fork()
    yield
    dropped.after_fork()


class Collector(SpanExporter):
    """In the place of a network: hangs, refuses, raises or takes."""

    def __init__(self, does="takes"):
        self.does = does
        self.batches = []
        self.called, self.released = threading.Event(), threading.Event()

    def export(self, spans):
        self.batches.append(len(spans))
        self.called.set()
        if self.does == "hangs":
            self.released.wait(60)
        if self.does == "raises":
            raise RuntimeError("no collector")
        return SpanExportResult.SUCCESS if self.does in ("takes", "hangs") else SpanExportResult.FAILURE

    def shutdown(self):
        self.released.set()


def provider_of(collector, **options):
    provider = TracerProvider()
    batches = otel.CountedBatches(collector, **{**CLOCK, **options})
    provider.add_span_processor(batches)
    return provider, batches


def calls(mesh, count, clock=None, pause=0.0):
    with mesh.client(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client:
        for _ in range(count):
            assert client.get("http://reviews.example/").status_code == 200
            if clock is not None:
                clock.advance(pause)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_the_spans_of_a_call_arrive_with_what_the_mesh_knows(receiver, scheme):
    url = receiver.http if scheme == "http" else receiver.grpc.replace("http", "grpc")
    provider = otel.tracer_provider(url, service="productpage", headers={"x-tenant": "shop"})
    with meshlib.Mesh.from_resources([], tracer_provider=provider, registry=CollectorRegistry()) as mesh:
        calls(mesh, 1)
    provider.shutdown()
    receiver.wait_for(lambda there: len(there.spans) == 2)
    attempt, call = sorted(receiver.spans, key=lambda span: "meshlib.attempt" not in span.attributes)
    assert (call.resource["service.name"], call.scope, call.name) == ("productpage", "meshlib", "GET")
    assert attempt.item.parent_span_id == call.item.span_id
    assert receiver.headers[0]["x-tenant"] == "shop"
    assert dropped.counts() == {}


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("collector:4318", "is not the URL of an OTLP receiver"),
        ("", "is not the URL of an OTLP receiver"),
        ("ftp://collector", "is not the URL of an OTLP receiver"),
        ("http://collector:x", "is not the URL of an OTLP receiver"),
        ("http://collector:4317", "use grpc://, or port 4318"),
    ],
)
def test_what_is_no_receiver_is_refused_at_once(endpoint, says):
    with pytest.raises(MeshError, match=says):
        otel.tracer_provider(endpoint)


def test_the_password_of_an_endpoint_is_not_shown():
    with pytest.raises(MeshError) as caught:
        otel.tracer_provider("ftp://user:canary@collector")
    assert "canary" not in str(caught.value)


def test_a_collector_that_hangs_for_ten_minutes_holds_no_call_and_memory_stays_bounded():
    collector, clock = Collector("hangs"), FakeClock()
    provider, batches = provider_of(collector, max_waiting=100, max_batch=50)
    registry = CollectorRegistry()
    with meshlib.Mesh.from_resources([], tracer_provider=provider, registry=registry, clock=clock) as mesh:
        calls(mesh, 25)
        assert collector.called.wait(30), "the first batch is on its way, and stays there"
        calls(mesh, 600, clock, 1.0)
        assert batches.waiting == 100
        lost = (25 + 600) * 2 - 50 - 100
        assert mesh.status()["telemetry"]["dropped"] == {"spans_queue_full": lost}
        assert 'kind="spans_queue_full"' in generate_latest(registry).decode()
    assert collector.batches == [50]
    collector.released.set()
    provider.shutdown()


@pytest.mark.parametrize("does", ["refuses", "raises"])
def test_what_a_collector_does_not_take_is_counted_and_fails_no_call(does):
    collector = Collector(does)
    provider, batches = provider_of(collector)
    with meshlib.Mesh.from_resources([], tracer_provider=provider, registry=CollectorRegistry()) as mesh:
        calls(mesh, 3)
        provider.force_flush()
        assert mesh.status()["telemetry"]["dropped"] == {"spans_export_failed": 6}
        assert batches.waiting == 0
        collector.does = "takes"
        calls(mesh, 1)
        provider.force_flush()
        assert mesh.status()["telemetry"]["dropped"] == {"spans_export_failed": 6}
    provider.shutdown()


def test_a_receiver_that_refuses_and_one_that_is_not_there_lose_spans_and_nothing_else(receiver):
    receiver.refuse(400)
    for url in (receiver.http, f"http://127.0.0.1:{free_port()}"):
        provider = otel.tracer_provider(url, timeout=1, **CLOCK)
        with meshlib.Mesh.from_resources([], tracer_provider=provider, registry=CollectorRegistry()) as mesh:
            calls(mesh, 2)
        provider.shutdown()
    assert dropped.counts() == {"spans_export_failed": 8}
    assert receiver.spans == []


def test_a_collector_that_hangs_at_the_end_holds_the_process_for_a_few_seconds_only(monkeypatch):
    collector, clock = Collector("hangs"), FakeClock()
    monkeypatch.setattr(otel, "now", clock.monotonic)
    provider, batches = provider_of(collector, max_waiting=100, max_batch=10)
    tracer = provider.get_tracer("t")
    for _ in range(10):
        tracer.start_span("x").end()
    assert collector.called.wait(30)
    for _ in range(90):
        tracer.start_span("x").end()
    batches._exporter.closing()
    clock.advance(otel.GRACE + 1)
    collector.released.set()  # as its timeout does
    provider.force_flush()
    assert collector.batches == [10]
    assert dropped.counts() == {"spans_export_failed": 90}
    provider.shutdown()


def test_spans_that_are_not_sampled_take_no_room():
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    collector = Collector()
    provider = TracerProvider(sampler=ALWAYS_OFF)
    batches = otel.CountedBatches(collector, **CLOCK)
    provider.add_span_processor(batches)
    with provider.get_tracer("t").start_as_current_span("x"):
        assert batches.waiting == 0
    provider.shutdown()
    assert collector.batches == []


def test_a_forked_child_sends_its_own_spans_and_counts_its_own_losses():
    collector = Collector()
    provider, batches = provider_of(collector, max_waiting=4, max_batch=4)
    tracer = provider.get_tracer("t")
    for _ in range(3):
        tracer.start_span("parents").end()
    dropped.add("spans_queue_full", 7)
    pid = os.fork()
    if pid == 0:
        try:
            right = batches.waiting == 0 and dropped.counts() == {}
            tracer.start_span("child's").end()
            provider.force_flush()
            right = right and collector.batches == [1]
        finally:
            os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert batches.waiting == 3
    provider.shutdown()


PROGRAM = """
    import sys
    import meshlib, meshlib.otel
    from tests.support.resources import pod, service

    provider = meshlib.otel.tracer_provider(sys.argv[2], service="program", delay=3600)
    mesh = meshlib.Mesh.from_resources([service("echo"), pod("echo", "v1", int(sys.argv[1]))], tracer_provider=provider)
    client = mesh.client(timeout=30)
    assert client.get("http://echo:9080/whole").status_code == 200
    # the head has come, the body is never read: such a call is only noted, and recorded at the end at the latest
    response = client.stream("GET", "http://echo:9080/dropped").__enter__()
    response.stream._stream = None
    del response
"""


def test_a_process_that_ends_without_close_sends_all_its_spans(receiver):
    def long(handler):
        if handler.path != "/dropped":
            return False
        handler.send_response(200)
        handler.send_header("content-length", str(1 << 20))
        handler.end_headers()
        handler.wfile.write(b"x")
        handler.wfile.flush()
        return True

    with EchoServer(behave=long) as server:
        made = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), str(server.port), receiver.http],
            timeout=120, check=False, capture_output=True, text=True,
        )  # fmt: skip
    assert made.returncode == 0, made.stderr
    paths = [span.attributes["url.full"].rpartition("/")[2] for span in receiver.spans]
    assert sorted(paths) == ["dropped", "dropped", "whole", "whole"]
    [call] = [s for s in receiver.spans if s.attributes["url.full"].endswith("dropped") and s.name == "GET"]
    assert call.item.end_time_unix_nano >= call.item.start_time_unix_nano > 0


def test_spans_are_drawn_as_a_tree():
    from tests.support.spans import Kept

    kept = Kept()
    with meshlib.Mesh.from_resources([], tracer_provider=kept.provider, registry=CollectorRegistry()) as mesh:
        calls(mesh, 1)
    first, call, attempt = otel.tree(kept.spans).splitlines()
    assert first == f"trace {kept.calls[0].context.trace_id:032x}"
    assert call.startswith("unknown_service:python client GET 200")
    assert attempt.startswith("`-- unknown_service:python client GET attempt 1 ->")


def test_files_of_opentelemetry_that_another_package_has_replaced_are_said_with_the_remedy(monkeypatch):
    from opentelemetry.proto.common.v1 import common_pb2

    monkeypatch.delattr(common_pb2, "InstrumentationScope")  # as in xds-protos
    for name in [each for each in sys.modules if each.startswith("opentelemetry.exporter.otlp")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MeshError, match="pip install --force-reinstall --no-deps opentelemetry-proto"):
        otel.exporter_to("http://localhost:4318", None, 1.0)
