"""Access logs over OTLP, end to end: a Telemetry's provider, a call, and what a collector gets."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

import meshlib
from benchmarks.free_ports import free_port
from meshlib.mesh.otlp_logs import CollectorChannel, collector_address
from meshlib.telemetry.access_log.otlp_output import RefusedError
from meshlib.telemetry.partial_success import rejected
from tests.support.servers import EchoServer

pytest.importorskip("opentelemetry.proto.collector.logs.v1.logs_service_pb2")
import grpc

from tests.support.otlp_receiver import OtlpReceiver, plain

RESOURCES = """
apiVersion: meshlib.dev/v1
kind: MeshConfig
metadata: {{name: mesh}}
spec:
  extensionProviders:
  - name: otel
    envoyOtelAls:
      service: {service}
      port: {port}
      logName: my-log
      logFormat: {{text: "%PATH% %RESPONSE_CODE%", labels: {{code: "%RESPONSE_CODE%", missing: "%REQ(X-NO)%"}}}}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: mesh-default, namespace: istio-system}}
spec:
  accessLogging:
  - providers: [{{name: otel}}]
"""


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as made:
        yield made


def test_a_collector_gets_each_line(receiver: OtlpReceiver) -> None:
    port = int(receiver.grpc.rpartition(":")[2])
    with EchoServer("v1") as server:
        mesh = meshlib.Mesh.from_yaml(
            RESOURCES.format(service="127.0.0.1", port=port),
            endpoints={"reviews": f"127.0.0.1:{server.port}"},
            registry=CollectorRegistry(),
            workload=meshlib.Workload("page-v1", labels={"app": "page"}),
        )
        with mesh, mesh.client() as client:
            client.get("http://reviews/a")
            client.get("http://reviews/b")
            assert mesh.flush_access_logs(30)
            assert mesh.status()["access_logs"][0]["written"] == 2
    found = [(each.item.body.string_value, plain(each.item.attributes)) for each in receiver.logs]
    assert found == [("/a 200", {"code": "200", "missing": "-"}), ("/b 200", {"code": "200", "missing": "-"})]
    assert receiver.logs[0].resource["service.name"] == "page-v1.default"
    assert receiver.logs[0].resource["log_name"] == "my-log"
    assert receiver.logs[0].item.time_unix_nano > 1_600_000_000 * 10**9


@pytest.fixture
def channel(receiver: OtlpReceiver) -> Iterator[CollectorChannel]:
    receiver.clear()
    yield CollectorChannel(lambda: receiver.grpc.removeprefix("http://"))
    receiver.clear()


def test_a_collectors_response_comes_back(receiver: OtlpReceiver, channel: CollectorChannel) -> None:
    assert channel(b"", 30.0) == b""
    receiver.reject(2, "too old")
    assert rejected(channel(b"", 30.0)) == (2, "too old")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("UNAVAILABLE", ConnectionError),
        ("RESOURCE_EXHAUSTED", RefusedError),  # it may be too large
        ("DEADLINE_EXCEEDED", ConnectionError),
        ("INVALID_ARGUMENT", RefusedError),
        ("UNAUTHENTICATED", RefusedError),
        ("UNIMPLEMENTED", RefusedError),
        ("INTERNAL", RefusedError),
    ],
)
def test_only_what_otlp_says_is_sent_again(
    receiver: OtlpReceiver, channel: CollectorChannel, code: str, kind: type[Exception]
) -> None:
    receiver.refuse(code=grpc.StatusCode[code])
    with pytest.raises(ConnectionError, match=f"{code}: refused by the test") as raised:
        channel(b"", 30.0)
    assert raised.type is kind


@pytest.mark.parametrize(("what", "kind"), [(b"RetryInfo", ConnectionError), (b"QuotaFailure", RefusedError)])
def test_a_collector_that_says_when_it_has_room_again_is_asked_again(
    receiver: OtlpReceiver, channel: CollectorChannel, what: bytes, kind: type[Exception]
) -> None:
    details = b"\x1a\x2atype.googleapis.com/google.rpc." + what
    receiver.refuse(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details=details)
    with pytest.raises(ConnectionError) as raised:
        channel(b"", 30.0)
    assert raised.type is kind


def test_a_service_that_the_mesh_knows_is_called_at_its_endpoint() -> None:
    mesh = meshlib.Mesh.from_yaml("", endpoints={"collector": "127.0.0.1:4317"}, registry=CollectorRegistry())
    with mesh:
        live = mesh._core.live
        assert collector_address("collector.default.svc.cluster.local", 4317, live) == "127.0.0.1:4317"
        assert collector_address("elsewhere", 4317, live) == "elsewhere:4317"
    assert collector_address("elsewhere", 4317, None) == "elsewhere:4317"


def test_a_collector_that_is_not_there_is_told_with_its_address(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    with caplog.at_level(logging.ERROR, "meshlib"), pytest.raises(ConnectionError, match=f"127.0.0.1:{port}: "):
        CollectorChannel(lambda: f"127.0.0.1:{port}")(b"", 5.0)
