"""Action CUSTOM: which authorizer is asked, and when none can be."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.custom import Custom, compile_custom
from meshlib.compiler.mesh_settings import BodyInCheck, ExtAuthzProvider, MeshSettings
from meshlib.compiler.routes import Destination
from meshlib.policy.ext_authz import BodyShown
from meshlib.registry.service import Service, ServicePort
from tests.support.authorizers import Below

OPA = Service(
    "opa.infra.svc.cluster.local",
    "infra",
    "kubernetes",
    (ServicePort(9000, "http"),),
    {},
    "Service/infra/opa",
    ("", "", "", 0),
)


class Clusters:
    """One port a service."""

    def of_service(self, service: Service, subset: str, port: int, what: str) -> Destination:
        if port != 9000:
            return Destination(service.host, subset, port, 0, "", f"{what} has no port {port} (it has 9000)")
        return Destination(service.host, subset, port, 1, f"outbound|{port}|{subset}|{service.host}")


def provider(name: str = "opa", **settings: Any) -> ExtAuthzProvider:
    return ExtAuthzProvider(**{"name": name, "protocol": "http", "service": OPA.host, "port": 9000, **settings})


def compiled(*providers: ExtAuthzProvider, asked: tuple[str, ...] = ("opa",)) -> tuple[Custom, ...]:
    settings = MeshSettings(providers={p.name: p for p in providers})
    return compile_custom({name: Below() for name in asked}, settings, {OPA.host: OPA}.get, Clusters())


def test_a_provider_is_asked_at_its_cluster_once_and_within_its_time() -> None:
    (custom,) = compiled(provider(timeout=2.5))
    assert (custom.provider, custom.problem) == ("opa", "")
    assert custom.cluster == f"outbound|9000||{OPA.host}"
    assert custom.route is not None
    (rule,) = custom.route.rules
    assert (rule.timeout, rule.retry.attempts, rule.plain) == (2.5, 0, True)


def test_the_settings_of_a_provider_act() -> None:
    (custom,) = compiled(
        provider(
            fail_open=True,
            status_on_error=503,
            body=BodyInCheck(10, True, True),
            path_prefix="/p",
            request_headers=("X-*",),
            additional_headers=(("a", "100%%"),),
            upstream_headers_on_allow=("x-up",),
            downstream_headers_on_deny=("x-deny",),
            downstream_headers_on_allow=("x-allow",),
        )
    )
    made = custom.authorizer
    assert made is not None
    assert (made.fail_open, made.status_on_error, made.body, made.path_prefix) == (
        True,
        503,
        BodyShown(10, True, True),
        "/p",
    )
    assert made.request_headers.has("x-a")
    assert made.additional == (("a", "100%"),)
    assert made.to_application.has("x-up")
    assert made.to_caller_on_allow.has("x-allow")
    assert made.to_caller_on_deny is not None
    assert made.to_caller_on_deny.has("x-deny")
    assert made.host == OPA.host


def test_without_a_list_all_headers_of_a_denial_go_on() -> None:
    (custom,) = compiled(provider())
    assert custom.authorizer is not None
    assert custom.authorizer.to_caller_on_deny is None


def test_several_providers_are_asked_in_the_order_of_their_names() -> None:
    made = compiled(provider("b"), provider("a"), provider("c"), asked=("b", "a"))
    assert [custom.provider for custom in made] == ["a", "b"]


@pytest.mark.parametrize(
    ("providers", "why"),
    [
        ([], "MeshConfig has no extension provider opa that authorizes (it has none)"),
        ([provider("other")], "MeshConfig has no extension provider opa that authorizes (it has other)"),
        ([provider(unusable="port is not a valid one")], "port is not a valid one"),
        ([provider(service="nobody")], "the registry has no service nobody that this workload sees"),
        (
            [provider(namespace="else")],
            f"the registry has no service {OPA.host} in namespace else that this workload sees",
        ),
        ([provider(port=1)], f"host {OPA.host} has no port 1 (it has 9000)"),
        (
            [provider(additional_headers=(("x-a", "%REQ(b)%"),))],
            "includeAdditionalHeadersInCheck: the value of x-a has a format with %, which is not supported here",
        ),
    ],
)
def test_a_provider_that_cannot_be_asked_says_why(providers: list[ExtAuthzProvider], why: str) -> None:
    (custom,) = compiled(*providers)
    assert (custom.authorizer, custom.route, custom.cluster, custom.problem) == (None, None, "", why)
    assert custom.rules.first(type("R", (), {"path": "/"})()) is not None  # type: ignore[arg-type]


def test_a_namespace_that_is_right_finds_it() -> None:
    assert compiled(provider(namespace="infra"))[0].problem == ""
