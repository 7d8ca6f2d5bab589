"""What is said of proxies: tracing and the environment."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.compile import Compiler, compile_snapshot
from meshlib.compiler.telemetry.proxies import ProxyDefaults
from meshlib.policy.telemetry_settings import CustomTag, TracingSettings
from meshlib.problems import Severity
from meshlib.resources.loader import load_objects, load_text
from tests.support.mesh_config import mesh_config
from tests.support.telemetry import OURS, said, telemetry, told

HOST_TAG = {"customTags": {"host": {"environment": {"name": "HOST", "defaultValue": "none"}}}}


def defaults(tracing: dict[str, Any] | None = None, **rest: Any) -> dict[str, Any]:
    return mesh_config(defaultConfig={**({"tracing": tracing} if tracing is not None else {}), **rest})


def proxy_config(
    name: str, namespace: str = "default", labels: dict[str, str] | None = None, **env: str
) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "ProxyConfig",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "environmentVariables": env,
            **({"selector": {"matchLabels": labels}} if labels else {}),
        },
    }


def deployment(text: str, name: str = "orders-v1") -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"template": {"metadata": {"annotations": {"proxy.istio.io/config": text}}}},
    }


def spans(*resources: dict[str, Any]) -> TracingSettings:
    return told(*resources).client.tracing


def host(*resources: dict[str, Any]) -> CustomTag:
    (tag,) = spans(*resources, telemetry(tracing=[HOST_TAG])).custom_tags
    return tag


def test_nothing_is_said_where_there_is_nothing():
    assert ProxyDefaults().known((CustomTag("a", "environment", "A"),)) == (CustomTag("a", "environment", "A"),)


def test_tracing_of_the_default_config():
    found = spans(
        defaults(
            {
                "sampling": 12.5,
                "maxPathTagLength": 32,
                "enableIstioTags": False,
                "customTags": {"a": {"literal": {"value": "x"}}, "b": {"header": {"name": "X-B"}}},
            }
        )
    )
    assert (found.sampling, found.max_tag_length, found.istio_tags) == (12.5, 32, False)
    assert found.custom_tags == (CustomTag("a", "literal", "x"), CustomTag("b", "header", "x-b"))


def test_a_telemetry_counts_before_it():
    found = spans(
        defaults({"sampling": 10, "customTags": {"a": {"literal": {"value": "x"}}}}),
        telemetry(tracing=[{"randomSamplingPercentage": 20}]),
    )
    assert found.sampling == 20
    assert found.custom_tags == (CustomTag("a", "literal", "x"),), "of tags it says nothing"


def test_a_sampling_of_zero_says_nothing_and_one_above_a_hundred_is_one():
    assert spans(defaults({"sampling": 0})).sampling is None
    assert spans(defaults({"sampling": 200})).sampling == 1
    assert spans(defaults({"sampling": "50"})).sampling == 50, "protobuf reads a number in quotes"


def test_the_annotation_of_the_workloads_own_deployment_counts_before_the_default_config():
    config = defaults({"sampling": 10, "maxPathTagLength": 32})
    found = spans(config, deployment("tracing:\n  sampling: 42\n"))
    assert (found.sampling, found.max_tag_length) == (42, 32)
    assert spans(config, deployment("tracing: {sampling: 42}", name="another")).sampling == 10


def test_the_annotation_of_its_pod():
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "orders-v1", "annotations": {"proxy.istio.io/config": '{"tracing": {"sampling": 7}}'}},
    }
    assert spans(pod).sampling == 7


def test_the_environment_of_a_proxy_counts_before_the_programs():
    assert host() == CustomTag("host", "environment", "HOST", "none")
    config = defaults(proxyMetadata={"HOST": "mesh"})
    assert host(config) == CustomTag("host", "literal", "mesh")
    assert host(config, proxy_config("root", "istio-system", HOST="root")).value == "root"
    root, wide = proxy_config("root", "istio-system", HOST="root"), proxy_config("wide", HOST="wide")
    assert host(config, wide, root).value == "wide"
    assert host(config, wide, root, deployment("proxyMetadata: {HOST: annotated}")).value == "annotated"
    mine = proxy_config("mine", labels={"app": "orders"}, HOST="mine")
    assert host(config, mine, wide, root, deployment("proxyMetadata: {HOST: annotated}")).value == "mine"
    assert host(proxy_config("other", labels={"app": "other"}, HOST="other")).value == "HOST"
    assert host(proxy_config("elsewhere", "shop", HOST="shop")).value == "HOST"


def test_an_annotation_that_cannot_be_read_is_told_with_its_place():
    text = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders-v1}
spec:
  template:
    metadata:
      annotations:
        proxy.istio.io/config: "tracing: {sampling: many}"
"""
    (problem,) = said(text)
    assert (problem.code, problem.file, problem.line) == ("bad-annotation", "mesh.yaml", 2)
    assert "sampling" in problem.message
    for broken in ("tracing: [", "just text"):
        resources = load_objects([deployment(broken)]).resources
        assert [p.code for p in compile_snapshot(resources, OURS).problems] == ["bad-annotation"]


def test_a_misspelt_field_of_tracing_is_no_silence():
    snapshot = compile_snapshot(
        load_objects([deployment("tracing: {samplin: 10, zipkin: {address: z:1}}")]).resources, OURS
    )
    (problem,) = snapshot.problems
    assert problem.code == "bad-annotation"
    assert "tracing.samplin" in problem.message
    text = """
apiVersion: meshlib.dev/v1
kind: MeshConfig
metadata: {name: mesh, namespace: istio-system}
spec:
  defaultConfig:
    tracing: {zipkin: {address: "z:1"}, samplin: 10}
"""
    (problem,) = load_text(text, "mesh.yaml").problems
    assert (problem.code, problem.line, problem.hint) == ("unknown-field", 7, "did you mean sampling?")
    (problem,) = load_text(text.replace("samplin: 10", "sampling: 10") + "    concurency: 2\n", "mesh.yaml").problems
    assert (problem.code, problem.line, problem.hint) == ("unknown-field", 8, "did you mean concurrency?")


def test_a_misspelt_setting_in_an_annotation_is_told_and_the_others_count():
    text = "concurency: 2\nholdApplicationUntilProxyStarts: true\nnosuchthing: 1\ntracing: {sampling: 10}"
    snapshot = compile_snapshot(load_objects([deployment(text)]).resources, OURS)
    assert [(p.code, p.severity, p.message, p.hint) for p in snapshot.problems] == [
        (
            "bad-annotation",
            Severity.WARNING,
            f"the annotation proxy.istio.io/config has an unknown field '{name}'",
            hint,
        )
        for name, hint in [("concurency", "did you mean concurrency?"), ("nosuchthing", "")]
    ]
    assert snapshot.telemetry.client.tracing.sampling == 10


@pytest.mark.parametrize("given", ["mesh", "annotation"])
def test_more_than_a_hundred_percent_are_told_to_be_one(given):
    tracing = {"sampling": 300}
    resource = defaults(tracing) if given == "mesh" else deployment("tracing: {sampling: 300}")
    snapshot = compile_snapshot(load_objects([resource]).resources, OURS)
    (problem,) = snapshot.problems
    assert problem.code == "bad-sampling"
    assert "300 is more than 100 %: as in istiod, 1 % of the requests are traced" in problem.message


def test_a_change_of_the_annotation_is_compiled_anew():
    compiler = Compiler(OURS)
    for percent in (5, 6):
        resources = load_objects([deployment(f"tracing: {{sampling: {percent}}}")]).resources
        assert compiler.compile(resources).telemetry.client.tracing.sampling == percent


def test_a_secret_in_an_annotation_is_not_shown():
    text = deployment("tracing: {sampling: many, lightstep: {accessToken: s3cret}}")
    snapshot = compile_snapshot(load_objects([text]).resources, OURS)
    assert "s3cret" not in " ".join(map(str, snapshot.problems))
    assert load_text("", "x").errors == []
