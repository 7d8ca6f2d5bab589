"""TLS to endpoints as Envoy's transport sockets, and our certificates as its secrets."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from meshlib.compiler.routes import TlsSettings
from meshlib.envoy.messages import SECRET, packed
from meshlib.envoy.tls import Files, NoTls, mutual_socket, secrets_of, socket_of
from tests.support.envoy_engine import compiled
from tests.support.identities import World
from tests.support.resources import destination_rule, service_entry

KEY = "outbound|80||a.test"


def text(source: dict[str, str]) -> bytes:
    return base64.b64decode(source["inline_bytes"])


@pytest.fixture
def roots(tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    path.write_text("roots")
    return str(path)


def test_a_server_is_verified_by_its_roots_and_its_name(roots: str) -> None:
    files = Files()
    made = socket_of(TlsSettings("SIMPLE", ca_certificates=roots), False, "a.test", files)["typed_config"]
    validation = made["common_tls_context"]["validation_context"]
    assert made["sni"] == "a.test"
    assert text(validation["trusted_ca"]) == b"roots"
    assert validation["match_typed_subject_alt_names"] == [{"san_type": "DNS", "matcher": {"exact": "a.test"}}]
    assert files.read == {roots: b"roots"}


def test_names_that_the_resource_allows_count_instead(roots: str) -> None:
    settings = TlsSettings(
        "SIMPLE", sni="x", ca_certificates=roots, subject_alt_names=("spiffe://t/a", "10.0.0.1", "b")
    )
    validation = socket_of(settings, True, "a.test", Files())["typed_config"]["common_tls_context"][
        "validation_context"
    ]
    assert [each["san_type"] for each in validation["match_typed_subject_alt_names"]] == ["URI", "IP_ADDRESS", "DNS"]


def test_nothing_is_verified_only_where_the_resource_says_so(roots: str) -> None:
    made = socket_of(TlsSettings("SIMPLE", insecure_skip_verify=True), False, "a.test", Files())
    assert "validation_context" not in made["typed_config"]["common_tls_context"]


def test_a_file_that_cannot_be_read_is_no_tls(tmp_path: Path) -> None:
    files = Files()
    with pytest.raises(NoTls, match=r"gone\.pem: No such file"):
        socket_of(TlsSettings("SIMPLE", ca_certificates=str(tmp_path / "gone.pem")), False, "a.test", files)
    assert files.read == {str(tmp_path / "gone.pem"): None}, "it is looked at again"


def test_mtls_of_the_mesh_asks_for_secrets_and_for_the_identities_that_are_allowed() -> None:
    made = mutual_socket(
        TlsSettings("ISTIO_MUTUAL", sni="outbound_.80_._.a", subject_alt_names=("spiffe://t/a",)), True
    )
    common = made["typed_config"]["common_tls_context"]
    assert common["tls_certificate_sds_secret_configs"][0]["name"] == "default"
    combined = common["combined_validation_context"]
    assert combined["validation_context_sds_secret_config"]["name"] == "ROOTCA"
    assert combined["default_validation_context"]["match_typed_subject_alt_names"] == [
        {"san_type": "URI", "matcher": {"exact": "spiffe://t/a"}}
    ]
    assert common["alpn_protocols"] == ["istio-h2", "istio", "h2"]


def test_a_root_is_trusted_for_its_own_trust_domain() -> None:
    world = World()
    svid = world.rotate()
    own, roots = secrets_of(world.identity.latest)
    for secret in (own, roots):
        packed(SECRET, secret)
    assert text(own["tls_certificate"]["private_key"]) == svid.key_pem
    domains = roots["validation_context"]["custom_validator_config"]["typed_config"]["trust_domains"]
    assert [each["name"] for each in domains] == ["cluster.local"]
    assert secrets_of(None) == []


def test_auto_mtls_is_for_the_endpoints_that_take_it_and_needs_an_identity() -> None:
    entry = service_entry(
        "a",
        "a.test",
        location="MESH_INTERNAL",
        endpoints=[
            {"address": "127.0.0.1", "labels": {"security.istio.io/tlsMode": "istio"}, "serviceAccount": "a"},
            {"address": "127.0.0.2"},
        ],
    )
    world = World()
    world.rotate()
    made = compiled(entry, credentials=world.identity.latest)
    mutual, plain = made.clusters[KEY]["transport_socket_matches"]
    assert (mutual["match"], plain["match"]) == ({"tlsMode": "istio"}, {})
    members = made.endpoints[KEY]["endpoints"][0]["lb_endpoints"]
    assert ["metadata" in each for each in members] == [True, False]
    assert "transport_socket_matches" not in compiled(entry).clusters[KEY]


def test_a_destination_rule_that_asks_for_mtls_without_an_identity_gets_no_connection() -> None:
    entry = service_entry("a", "a.test", endpoints=[{"address": "127.0.0.1"}])
    made = compiled(entry, destination_rule("a.test", tls={"mode": "ISTIO_MUTUAL"}))
    assert KEY in made.unreachable
    assert "transport_socket" not in made.clusters[KEY]
