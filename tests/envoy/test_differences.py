"""What Envoy does not do of what the resources ask."""

from __future__ import annotations

from pathlib import Path

import meshlib
from meshlib.envoy.configuration import configuration
from meshlib.envoy.differences import differences
from meshlib.problems import Problem, Severity

MESH = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.test]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
---
"""
RESILIENCE = """
apiVersion: meshlib.dev/v1
kind: ResiliencePolicy
metadata: {name: reviews}
spec: {host: reviews.test, bulkhead: {maxConcurrent: 5}, hedging: {delay: 50ms}}
"""
TLS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews.test, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
"""


TCP_RULES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews.test], tcp: [{route: [{destination: {host: reviews.test}}]}]}
"""


def said(folder: Path, more: str, mesh: str = MESH, *, transparent: bool = False, spans: bool = False) -> list[Problem]:
    (folder / "all.yaml").write_text(mesh + more)
    with meshlib.Mesh.from_path(folder / "all.yaml", watch=False) as mesh:
        live = mesh._core.live
        assert live is not None
        made = configuration(live.snapshot, [("127.0.0.1", 15001)], transparent=transparent)
        return differences(
            live.snapshot, mesh._configuration.resources, made.unreachable, transparent=transparent, spans=spans
        )


def test_what_istio_says_is_done(tmp_path: Path) -> None:
    assert said(tmp_path, "") == []


def test_a_resilience_policy_is_named_field_by_field_where_it_stands(tmp_path: Path) -> None:
    found = said(tmp_path, RESILIENCE)
    assert {each.path.rpartition(".")[2] for each in found} == {"bulkhead", "hedging"}
    assert {(Path(each.file).name, each.line, each.severity) for each in found} == {("all.yaml", 12, Severity.WARNING)}


def test_a_cluster_to_which_no_call_is_made_is_said_with_its_destination_rule(tmp_path: Path) -> None:
    (found,) = said(tmp_path, TLS)
    assert found.line == 12
    assert "no call is made to outbound|80||reviews.test" in found.message


def test_rules_of_connections_act_where_connections_are_led_to_the_port(tmp_path: Path) -> None:
    tcp = MESH.replace("http, protocol: HTTP", "tcp, protocol: TCP") + TCP_RULES
    assert ["tcp rules" in problem.message for problem in said(tmp_path, "", tcp)] == [True]
    assert said(tmp_path, "", tcp, transparent=True) == []


def test_spans_that_are_sent_are_no_difference(tmp_path: Path) -> None:
    telemetry = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: spans, namespace: default}
spec: {tracing: [{randomSamplingPercentage: 5}]}
"""
    (found,) = said(tmp_path, telemetry)
    assert "no spans are sent: --otlp says where to" in found.message
    assert said(tmp_path, telemetry, spans=True) == []
