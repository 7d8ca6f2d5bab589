"""``--config``: which files are played, and what is said of those that are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshlib.demo.bookinfo.play.essence import essence
from meshlib.demo.bookinfo.play.files import NothingToPlay, read_file, read_folder
from meshlib.demo.bookinfo.play.mesh_folder import documents

NETWORKING = Path(__file__).parents[2].parent / "shared" / "corpus" / "istio-samples" / "bookinfo" / "networking"

ROUTE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: x{namespace}}}
spec:
  hosts: [{host}]
{more}  http:
    - route:
        - destination: {{host: {to}}}
"""


def _reason(tmp_path: Path, text: str) -> str:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    file = read_file(path, path.name)
    assert not file.refused, file.refused
    return file.reason


def _route(host: str = "reviews", to: str = "reviews", more: str = "", namespace: str = "") -> str:
    return ROUTE.format(host=host, to=to, more=more, namespace=namespace)


@pytest.mark.parametrize("host", ["reviews", "reviews.default.svc.cluster.local"])
def test_a_route_between_our_services_is_played(tmp_path: Path, host: str) -> None:
    assert _reason(tmp_path, _route(host)) == ""


def test_a_file_for_a_gateway_alone_is_not_played(tmp_path: Path) -> None:
    assert "no gateway runs here" in _reason(tmp_path, _route(more="  gateways: [front]\n"))
    assert _reason(tmp_path, _route(more="  gateways: [front, mesh]\n")) == ""


@pytest.mark.parametrize("host", ["www.example.com", "reviews.other", "reviews.prod.svc.cluster.local"])
def test_other_hosts_are_not_part_of_the_application(tmp_path: Path, host: str) -> None:
    assert f"{host} is not part of this application" in _reason(tmp_path, _route(host, "reviews"))
    assert host in _reason(tmp_path, _route("reviews", host))


def test_a_short_name_in_another_namespace_means_another_service(tmp_path: Path) -> None:
    assert "namespace default" in _reason(tmp_path, _route(namespace=", namespace: shop"))


def test_a_policy_that_asks_for_tls_is_not_played(tmp_path: Path) -> None:
    text = (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews}\n"
        "spec: {host: reviews, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}\n"
    )
    assert "plain HTTP" in _reason(tmp_path, text)


def test_a_file_without_routes_or_with_a_service_of_ours_is_not_played(tmp_path: Path) -> None:
    service = "apiVersion: v1\nkind: Service\nmetadata: {name: reviews}\nspec: {ports: [{port: 9080}]}\n"
    assert _reason(tmp_path, service).startswith("Service: nothing that routes")
    assert "runs here already" in _reason(tmp_path, service + "---\n" + _route())
    assert _reason(tmp_path, "# nothing\n") == "it holds no resources"


def test_a_file_with_errors_is_refused_with_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(_route().replace("destination:", "destinaton:").replace("http:", "timeout: 1s\n  http:"))
    refused = read_file(path, "bad.yaml").refused
    assert len(refused) >= 2
    assert all(p.line for p in refused)


def test_a_missing_or_empty_folder_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(NothingToPlay, match="no such folder"):
        read_folder(tmp_path / "absent")
    with pytest.raises(NothingToPlay, match=r"no \.yaml"):
        read_folder(tmp_path)


def test_a_list_holds_its_items(tmp_path: Path) -> None:
    docs = documents(b"kind: List\nitems:\n- {kind: VirtualService, metadata: {name: a}}\n- {kind: Service}\n")
    assert [d["kind"] for d in docs] == ["VirtualService", "Service"]


def test_the_essence_is_one_sentence() -> None:
    docs = documents(
        b"kind: VirtualService\nspec: {hosts: [reviews], http: [{match: [{headers: {end-user: {exact: jason}}}], "
        b"fault: {delay: {fixedDelay: 7s, percentage: {value: 50}}}, route: [{destination: {host: reviews, subset: v2}}]}, "
        b"{route: [{destination: {host: reviews, subset: v1}, weight: 90}, "
        b"{destination: {host: reviews, subset: v3}, weight: 10}]}]}\n"
    )
    assert essence(docs) == "reviews delay 7s for 50 % -> v2 if end-user is jason, else -> v1 90 %, v3 10 %"


def test_of_istios_own_samples_only_gateways_egress_and_mtls_are_left_out_by_kind() -> None:
    if not NETWORKING.is_dir():
        pytest.skip("the corpus is not beside this repository")
    files = read_folder(NETWORKING)
    assert [f.name for f in files if f.refused] == []
    assert {f.name: f.reason.split(":")[0] for f in files if f.reason} == {
        "bookinfo-gateway.yaml": "it is for gateway bookinfo-gateway, and no gateway runs here",
        "certmanager-gateway.yaml": "it is for gateway cert-manager-gateway, and no gateway runs here",
        "destination-rule-all-mtls.yaml": "it requires TLS (ISTIO_MUTUAL), and the services here speak plain HTTP",
        "egress-rule-google-apis.yaml": "www.googleapis.com is not part of this application",
    }
