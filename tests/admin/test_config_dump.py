"""``/config_dump``: whole, in Envoy's shape, and without what is secret."""

from __future__ import annotations

import base64
import json
from typing import Any

import meshlib
from meshlib.admin.config_dump import config_dump_page
from tests.support.admin import seen
from tests.support.admin_process import RESOURCES
from tests.support.identities import World
from tests.support.resources import service


def dump(mesh: meshlib.Mesh) -> dict[str, dict[str, Any]]:
    """By kind."""
    found = json.loads(b"".join(config_dump_page(seen(mesh)).pieces))
    return {each["@type"].rpartition(".")[2]: each for each in found["configs"]}


def test_it_has_envoys_parts_and_ours():
    with meshlib.Mesh.from_resources(RESOURCES) as mesh:
        found, version = dump(mesh), mesh.status()["version"]
    assert list(found) == [
        "BootstrapConfigDump",
        "ClustersConfigDump",
        "EndpointsConfigDump",
        "RoutesConfigDump",
        "SecretsConfigDump",
        "InboundDump",
        "ResourcesDump",
    ]
    clusters = found["ClustersConfigDump"]["dynamic_active_clusters"]
    assert "outbound|9080||reviews.default.svc.cluster.local" in [each["cluster"]["name"] for each in clusters]
    assert {each["version_info"] for each in clusters} == {version}
    configs = {
        each["route_config"]["name"]: each["route_config"]
        for each in found["RoutesConfigDump"]["dynamic_route_configs"]
    }
    assert [host["name"] for host in configs["9080"]["virtual_hosts"]] == [
        "reviews.default.svc.cluster.local:9080",
        "ratings.default.svc.cluster.local:9080",
    ]
    resources = {each["id"]: each for each in found["ResourcesDump"]["resources"]}
    assert resources["VirtualService/default/reviews"]["resource"]["spec"]["hosts"] == ["reviews"]
    assert found["InboundDump"]["mtls"]["mode"] == "PERMISSIVE"


def test_resources_have_their_place(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1, name: http}]}\n")
    with meshlib.Mesh.from_path(file, watch=False) as mesh:
        (resource,) = dump(mesh)["ResourcesDump"]["resources"]
    assert resource["file"] == f"{file}:2"


def test_a_key_is_shown_as_envoy_shows_it():
    world = World(of_a_mesh=True)
    with meshlib.Mesh.from_yaml("", identity=world.identity) as mesh:
        svid = world.rotate()
        text = b"".join(config_dump_page(seen(mesh)).pieces)
        own, roots = dump(mesh)["SecretsConfigDump"]["dynamic_active_secrets"]
    shown = own["secret"]["tls_certificate"]
    assert base64.b64decode(shown["private_key"]["inline_bytes"]) == b"[redacted]"
    assert base64.b64decode(shown["certificate_chain"]["inline_bytes"]) == svid.chain_pem
    assert b"BEGIN CERTIFICATE" in base64.b64decode(roots["secret"]["validation_context"]["trusted_ca"]["inline_bytes"])
    assert base64.b64encode(svid.key_pem)[:60] not in text


def test_it_is_made_piece_by_piece():
    services = [service(f"s{n}") for n in range(300)]
    with meshlib.Mesh.from_resources(services) as mesh:
        pieces = list(config_dump_page(seen(mesh)).pieces)
    assert len(pieces) > 900
    assert max(map(len, pieces)) < 4096


def test_a_closed_mesh_has_only_its_name():
    with meshlib.Mesh.from_resources(RESOURCES) as mesh:
        mesh.close()
        assert list(dump(mesh)) == ["BootstrapConfigDump"]
