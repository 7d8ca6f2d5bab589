"""MeshConfig: what it changes for analysis."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from meshlib.cli.main import main
from tests.support.analysis import expect

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec:
  hosts: [db.example]
  resolution: DNS
  ports:
  - {number: 5432, name: sql, protocol: TCP}
---
"""
LOGS = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: logs}
spec:
  accessLogging:
  - filter: {expression: response.code >= 400}
---
"""


def config_map(*lines: str, name: str = "istio") -> str:
    mesh = "\n".join(f"    {line}" for line in lines)
    return f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}, namespace: istio-system}}
data:
  mesh: |
{mesh}
---
"""


ALLOCATES = (
    "defaultConfig:",
    "  proxyMetadata:",
    '    ISTIO_META_DNS_CAPTURE: "true"',
    '    ISTIO_META_DNS_AUTO_ALLOCATE: "true"',
)


def test_proxies_that_allocate_addresses():
    expect(ENTRY + config_map(*ALLOCATES), "IST0134")
    marked = ENTRY.replace("TCP}", "TCP}  # IST0134")
    expect(marked + config_map(*ALLOCATES[:3]), "IST0134")
    expect(marked + config_map(*ALLOCATES, name="another"), "IST0134")


def test_default_providers_of_access_logs():
    expect(LOGS + config_map("defaultProviders: {accessLogging: [envoy]}"), "IST0157")
    expect(LOGS.replace("400}", "400}  # IST0157") + config_map("defaultProviders: {tracing: [a]}"), "IST0157")


def test_the_root_namespace_is_for_the_whole_mesh():
    text = """
apiVersion: v1
kind: Pod
metadata: {name: cart, labels: {app: cart}}
spec: {containers: [{name: cart}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: one, namespace: mesh-root}
spec:
  selector: {matchLabels: {app: cart}}  # IST0127
---
"""
    expect(text, "IST0127")
    expect(text.replace("  # IST0127", "") + config_map("rootNamespace: mesh-root"), "IST0127")


def test_lightstep_providers():
    text = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: traces}
spec:
  tracing:
  - providers:
    - name: steps  # IST0002
    - name: other
---
"""
    providers = "extensionProviders: [{name: steps, lightstep: {service: a, port: 1}}, {name: other, zipkin: {}}]"
    expect(text + config_map(providers), "IST0002")
    expect(text.replace("  # IST0002", ""), "IST0002")


def test_whatever_the_config_map_holds():
    for junk in (
        "[]",
        "rootNamespace: [a]",
        "extensionProviders: [1, {}]",
        "defaultConfig: {proxyMetadata: []}",
        "a: [",
    ):
        expect(ENTRY.replace("TCP}", "TCP}  # IST0134") + config_map(junk), "IST0134")


def test_a_file_of_its_own(tmp_path: Path):
    mesh, config = tmp_path / "mesh.yaml", tmp_path / "config.yaml"
    mesh.write_text(ENTRY)
    config.write_text("\n".join(ALLOCATES))
    run = CliRunner().invoke
    assert "IST0134" in run(main, ["analyze", str(mesh)]).output
    assert "IST0134" not in run(main, ["analyze", str(mesh), "--meshConfigFile", str(config)]).output
    config.write_text("a: [")
    assert run(main, ["analyze", str(mesh), "--meshConfigFile", str(config)]).exit_code == 1
    assert run(main, ["analyze", str(mesh), "--meshConfigFile", str(tmp_path / "none")]).exit_code == 64
