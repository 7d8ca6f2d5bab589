"""A certificate of another namespace, service account or trust domain than the mesh's workload is said, once."""

from __future__ import annotations

import logging

import pytest

import meshlib
from meshlib.identity.agreement import CODE, disagreements
from meshlib.policy.spiffe_id import SpiffeId
from meshlib.problems import MeshError, Severity
from meshlib.workload import Workload
from tests.support.mesh_config import mesh_config
from tests.support.mesh_tls import BUNDLES, identity, svid

WEB = "spiffe://cluster.local/ns/shop/sa/web"
IN_DEFAULT = Workload(namespace="default")


def said(
    text: str, workload: Workload, trust_domain: str = "cluster.local", aliases: tuple[str, ...] = ()
) -> list[str]:
    parsed = SpiffeId.parse(text)
    assert parsed is not None
    return [str(each) for each in disagreements(parsed, workload, trust_domain, aliases, "svid.pem")]


@pytest.mark.parametrize(
    ("text", "workload", "trust_domain", "aliases"),
    [
        (WEB, Workload(namespace="shop"), "cluster.local", ()),
        (WEB, Workload(namespace="shop", service_account="web"), "cluster.local", ()),
        ("spiffe://old.test/ns/shop/sa/web", Workload(namespace="shop"), "cluster.local", ("old.test",)),
        ("spiffe://cluster.local/of/spire", Workload(namespace="shop", service_account="web"), "cluster.local", ()),
    ],
)
def test_what_agrees_is_not_said(text: str, workload: Workload, trust_domain: str, aliases: tuple[str, ...]) -> None:
    assert said(text, workload, trust_domain, aliases) == []


@pytest.mark.parametrize(
    ("text", "workload", "names"),
    [
        (WEB, Workload(), (WEB, "namespace default", "MESHLIB_NAMESPACE=shop", "--namespace shop")),
        (WEB, Workload(namespace="cart"), (WEB, "namespace cart", 'Workload(namespace="shop")')),
        (
            WEB,
            Workload(namespace="shop", service_account="cart"),
            (WEB, "service account cart", "MESHLIB_SERVICE_ACCOUNT=web"),
        ),
        (
            "spiffe://other.test/ns/shop/sa/web",
            Workload(namespace="shop"),
            ("spiffe://other.test/", "trust domain of the mesh is cluster.local", "trustDomainAliases"),
        ),
        ("spiffe://other.test/of/spire", Workload(), ("trust domain other.test",)),
    ],
)
def test_a_difference_names_both_and_the_remedy(text: str, workload: Workload, names: tuple[str, ...]) -> None:
    (found,) = said(text, workload)
    for name in ("svid.pem", *names):
        assert name in found


def test_all_three_are_said() -> None:
    assert len(said("spiffe://other.test/ns/shop/sa/web", Workload(service_account="cart"))) == 3


class TestAMesh:
    def warned(self, caplog: pytest.LogCaptureFixture) -> list[str]:
        return [r.getMessage() for r in caplog.records if CODE in r.getMessage() and r.levelno == logging.WARNING]

    def test_says_it_at_its_start(self, caplog: pytest.LogCaptureFixture) -> None:
        mine, _ = identity(svid(WEB), start=False)
        with meshlib.Mesh.from_resources([], identity=mine, workload=IN_DEFAULT) as mesh:
            (warning,) = self.warned(caplog)
            assert WEB in warning
            assert [(p.code, p.severity) for p in mesh.problems] == [(CODE, Severity.WARNING)]
            assert [p["code"] for p in mesh.status()["problems"]] == [CODE]
            assert mesh.workload.namespace == "default"

    def test_says_it_once_whatever_rotates_and_is_read_again(self, caplog: pytest.LogCaptureFixture) -> None:
        mine, source = identity(svid(WEB), start=False)
        with meshlib.Mesh.from_resources([], identity=mine, workload=IN_DEFAULT) as mesh:
            source.publish(svid(WEB), BUNDLES)
            mesh.apply([])
            assert len(self.warned(caplog)) == 1
            assert len(mesh.problems) == 1

    def test_says_it_when_the_first_certificate_comes_later(self, caplog: pytest.LogCaptureFixture) -> None:
        mine, source = identity(start=False)
        with meshlib.Mesh.from_resources([], identity=mine) as mesh:
            assert not self.warned(caplog)
            source.publish(svid(WEB), BUNDLES)
            assert len(self.warned(caplog)) == 1
            assert [p.code for p in mesh.problems] == [CODE]

    def test_is_content_again_with_a_certificate_that_fits(self) -> None:
        mine, source = identity(svid(WEB), start=False)
        with meshlib.Mesh.from_resources([], identity=mine, workload=IN_DEFAULT) as mesh:
            source.publish(svid(), BUNDLES)
            assert mesh.problems == []

    def test_leaves_meshconfig_its_trust_domain(self, caplog: pytest.LogCaptureFixture) -> None:
        mine, _ = identity(svid(), BUNDLES, start=False)
        with meshlib.Mesh.from_resources([mesh_config(trustDomain="td.example")], identity=mine) as mesh:
            (warning,) = self.warned(caplog)
            assert "td.example" in warning
            assert mesh.status()["mesh_config"]["trustDomain"] == "td.example"
            mesh.apply([mesh_config(trustDomain="td.example", trustDomainAliases=["cluster.local"])])
            assert CODE not in [p.code for p in mesh.problems]


class TestAMeshThatNobodyHasNamed:
    def test_is_in_the_namespace_and_service_account_of_the_certificate_that_it_starts_with(self) -> None:
        mine, _ = identity(svid(WEB), start=False)
        elsewhere = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Sidecar",
            "metadata": {"name": "default", "namespace": "shop"},
            "spec": {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}},
        }
        with meshlib.Mesh.from_resources([elsewhere], identity=mine) as mesh:
            assert mesh.workload.principal == WEB
            assert mesh.problems == []
            assert "REGISTRY_ONLY" in str(mesh.explain(url="http://nowhere.test/")), (
                "the resources of its namespace act"
            )

    def test_stays_there_when_a_later_certificate_is_of_another_and_says_so(self) -> None:
        mine, source = identity(svid(WEB), start=False)
        with meshlib.Mesh.from_resources([], identity=mine) as mesh:
            source.publish(svid("spiffe://cluster.local/ns/cart/sa/web"), BUNDLES)
            mesh.apply([])
            assert mesh.workload.principal == WEB
            (problem,) = mesh.problems
            assert "of namespace cart, and this workload is in namespace shop" in problem.message

    def test_is_in_default_when_the_certificate_comes_later_or_names_no_namespace(self) -> None:
        for mine, _ in (identity(start=False), identity(svid("spiffe://cluster.local/of/spire"), start=False)):
            with meshlib.Mesh.from_resources([], identity=mine) as mesh:
                assert mesh.workload == Workload()

    def test_gives_its_identity_back_when_it_cannot_start(self) -> None:
        mine, _ = identity(svid(WEB), start=False)
        with pytest.raises(MeshError, match="https_rules"):
            meshlib.Mesh.from_resources([], identity=mine, https_rules="neither")  # type: ignore[arg-type]
        with meshlib.Mesh.from_resources([], identity=mine) as mesh:
            assert mesh.workload.principal == WEB
