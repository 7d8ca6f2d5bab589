"""examples/proxy: every command line of the manifests is one that ``meshlib proxy`` takes, and their ports agree."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshlib.cli.proxy import proxy
from meshlib.proxy.options import Given, ProxyOptions, checked

EXAMPLES = Path(__file__).parents[2] / "examples" / "proxy"


def understood(arguments: list[str]) -> ProxyOptions:
    """As the command reads them, without beginning anything."""
    found = proxy.make_context("proxy", list(arguments)).params
    return checked(
        Given(
            found["configs"] or ("mesh/",),  # MESHLIB_CONFIG has it
            found["outbound"],
            found["inbound"],
            found["apps"],
            found["app_ports"],
            found["gateways"],
            found["all_gateways"],
            found["gateway_ports"],
            admin=found["admin"] or "",
            health=found["health"] or "",
            workers=found["workers"],
            drain=found["drain"],
        )
    )


def containers(name: str) -> list[dict[str, Any]]:
    spec = next(yaml.safe_load_all((EXAMPLES / name).read_text()))["spec"]["template"]["spec"]
    return [each for each in (*spec.get("initContainers", ()), *spec["containers"]) if each["name"] == "meshlib-proxy"]


@pytest.mark.parametrize("name", ["sidecar.yaml", "daemonset.yaml", "gateway.yaml"])
def test_the_arguments_of_a_manifest_are_options_and_its_probes_ask_the_port_for_them(name: str) -> None:
    (container,) = containers(name)
    options = understood(container["args"])
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert options.health is not None
    assert ports["health"] == options.health.port == 15021
    assert options.health.for_others, "a kubelet calls from outside the pod"
    assert container["readinessProbe"]["httpGet"] == {"path": "/healthz/ready", "port": "health"}
    assert {each["name"] for each in container["env"]} >= {"MESHLIB_CONFIG", "MESHLIB_LABELS", "MESHLIB_NAMESPACE"}
    assert container["securityContext"]["runAsNonRoot"]


@pytest.mark.parametrize("name", ["sidecar.yaml", "daemonset.yaml", "gateway.yaml"])
def test_a_pod_has_more_time_to_end_than_its_proxy_takes(name: str) -> None:
    spec = next(yaml.safe_load_all((EXAMPLES / name).read_text()))["spec"]["template"]["spec"]
    (container,) = containers(name)
    assert spec["terminationGracePeriodSeconds"] > understood(container["args"]).drain + 5


def test_the_unit_begins_what_it_has_checked() -> None:
    text = (EXAMPLES / "meshlib-proxy.service").read_text()
    starts = re.findall(r"^ExecStart(Pre)?=/usr/bin/meshlib proxy (.*)$", text, re.M)
    assert [pre for pre, _ in starts] == ["Pre", ""]
    checks, begins = (understood([each for each in shlex.split(line) if each != "--check"]) for _, line in starts)
    assert (checks.configs, checks.outbound) == (begins.configs, begins.outbound)
    assert "Type=notify" in text
    assert float(re.findall(r"^TimeoutStopSec=(\d+)$", text, re.M)[0]) > begins.drain + 5


def test_the_image_begins_a_proxy_of_a_user_that_is_not_root() -> None:
    text = (EXAMPLES / "Dockerfile").read_text()
    arguments = json.loads(re.findall(r"^CMD (.*)$", text, re.M)[0])
    assert understood(arguments).outbound
    assert re.findall(r"^USER (\d+)", text, re.M) == ["1337"]


def test_the_gateway_listens_where_its_service_sends_to_and_selects_itself() -> None:
    deployment, front, gateway = yaml.safe_load_all((EXAMPLES / "gateway.yaml").read_text())
    (container,) = containers("gateway.yaml")
    options = understood(container["args"])
    assert options.gateways is not None
    targets = {port["port"]: port["targetPort"] for port in front["spec"]["ports"]}
    assert {number: place.port for number, place in options.gateway_ports.items()} == targets
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert front["spec"]["selector"].items() <= labels.items()
    given = {each["name"]: each.get("value") for each in container["env"]}
    assert given["MESHLIB_LABELS"] == ",".join(f"{key}={value}" for key, value in labels.items())
    assert gateway["spec"]["selector"].items() <= labels.items()
    (secret,) = [each for each in container["volumeMounts"] if each["name"] == "tls"]
    tls = gateway["spec"]["servers"][1]["tls"]
    assert tls["serverCertificate"] == f"{secret['mountPath']}/tls.crt"
