"""``proxyHeaders`` and the retries of what a proxy hands to its application."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.compile import compile_snapshot
from meshlib.compiler.mesh_settings import MeshSettings
from meshlib.policy.forwarded_client_cert import CertDetails, ForwardClientCert
from meshlib.policy.retry import NO_RETRY, parse_retry_on
from meshlib.policy.sidecar_headers import DEFAULT
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.mesh_config import mesh_config

REVIEWS = Workload("reviews-v1", labels={"app": "reviews"})


def settings(*resources: dict[str, Any]) -> MeshSettings:
    result = load_objects(list(resources))
    assert not result.errors, result.errors
    return compile_snapshot(result.resources, REVIEWS).inbound.default.mesh


def with_headers(**said: Any) -> dict[str, Any]:
    return mesh_config(defaultConfig={"proxyHeaders": said})


def annotated(text: str, name: str = "reviews-v1") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": {"proxy.istio.io/config": text}},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    }


def test_without_a_word_a_sidecar_appends_who_its_caller_is_and_calls_itself_istio_envoy():
    assert settings().proxy_headers == settings(mesh_config()).proxy_headers == DEFAULT
    assert DEFAULT.client_cert is ForwardClientCert.APPEND_FORWARD
    assert (DEFAULT.server, DEFAULT.debug) == ("istio-envoy", True)
    assert DEFAULT.details == CertDetails(subject=True, cert=False, chain=False, dns=True, uri=True)


@pytest.mark.parametrize("mode", ForwardClientCert)
def test_each_mode_by_its_name(mode):
    assert settings(with_headers(forwardedClientCert=mode.value)).proxy_headers.client_cert is mode


def test_a_mode_by_its_number_and_the_one_that_says_nothing():
    assert settings(with_headers(forwardedClientCert=4)).proxy_headers.client_cert is ForwardClientCert.SANITIZE_SET
    assert settings(with_headers(forwardedClientCert="UNDEFINED")).proxy_headers == DEFAULT


def test_a_mode_that_does_not_exist_is_an_error_in_the_resource():
    assert load_objects([with_headers(forwardedClientCert="FORWARD")]).errors


def test_details_count_each_by_itself():
    found = settings(with_headers(setCurrentClientCertDetails={"subject": False, "cert": True})).proxy_headers.details
    assert found == CertDetails(subject=False, cert=True, chain=False, dns=True, uri=True)


def test_headers_that_a_proxy_may_leave_out():
    off = {"disabled": True}
    found = settings(with_headers(server=off, envoyDebugHeaders=off)).proxy_headers
    assert (found.server, found.debug) == ("", False)
    assert settings(with_headers(server={"value": "shop"})).proxy_headers.server == "shop"
    assert (found.request_id, found.attempt_count) == (True, True)
    found = settings(with_headers(requestId=off, attemptCount=off)).proxy_headers
    assert (found.debug, found.request_id, found.attempt_count) == (True, False, False)


def test_an_annotation_may_turn_on_again_what_mesh_config_has_turned_off():
    off = {"disabled": True}
    on = annotated("proxyHeaders: {requestId: {disabled: false}}")
    found = settings(with_headers(requestId=off, attemptCount=off), on).proxy_headers
    assert (found.request_id, found.attempt_count) == (True, False)


@pytest.mark.parametrize(("said", "expected"), [({"enabled": True}, True), ({"enabled": False}, False), ({}, False)])
def test_x_forwarded_host_is_off_until_it_is_enabled(said, expected):
    assert settings(with_headers(xForwardedHost=said)).proxy_headers.forwarded_host is expected


def test_the_annotation_of_the_workloads_own_pod_counts_before_mesh_config():
    mesh = with_headers(forwardedClientCert="SANITIZE", server={"value": "mesh"})
    pod = annotated("proxyHeaders: {forwardedClientCert: SANITIZE_SET}")
    found = settings(mesh, pod).proxy_headers
    assert (found.client_cert, found.server) == (ForwardClientCert.SANITIZE_SET, "mesh")
    assert settings(pod).proxy_headers.client_cert is ForwardClientCert.SANITIZE_SET
    other = annotated("proxyHeaders: {forwardedClientCert: SANITIZE_SET}", "ratings-v1")
    assert settings(mesh, other).proxy_headers.client_cert is ForwardClientCert.SANITIZE


def test_what_an_application_has_not_seen_is_sent_to_it_again_twice():
    found = settings().inbound_retry
    assert (found.attempts, found.retry_on) == (2, parse_retry_on("reset-before-request"))


def test_retries_to_the_application_are_mesh_configs_to_say():
    assert settings(mesh_config(defaultInboundHttpRetryPolicy={})).inbound_retry == NO_RETRY
    said = {"attempts": 5, "retryOn": "connect-failure,503", "backoff": "1s"}
    found = settings(mesh_config(defaultInboundHttpRetryPolicy=said)).inbound_retry
    assert (found.attempts, found.retry_on, found.backoff_base) == (5, parse_retry_on("connect-failure,503"), 1.0)


def test_gateways_say_which_port_a_client_has_come_to_where_they_are_told_to():
    assert not settings().proxy_headers.forwarded_port
    assert settings(with_headers(xForwardedPort={"enabled": True})).proxy_headers.forwarded_port
    found = settings(
        with_headers(xForwardedPort={"enabled": True}), annotated("proxyHeaders: {xForwardedPort: {enabled: false}}")
    )
    assert not found.proxy_headers.forwarded_port
