"""https URLs: their host's http rules, before the caller's TLS (the default), or what a sidecar makes of TLS."""

from __future__ import annotations

import pytest

from meshlib import Mesh
from meshlib.errors import MeshError
from tests.support.mesh_decisions import answering, compiled, decision, entry, http_entry
from tests.support.resources import Resource, service, to

TLS = {"number": 443, "name": "tls", "protocol": "TLS"}


def sni_rule(*names: str, host: str, hosts: tuple[str, ...]) -> Resource:
    made = answering("sni", *hosts)
    made["spec"] = {"hosts": list(hosts), "tls": [{"match": [{"sniHosts": list(names)}], "route": [to(host)]}]}
    return made


def both(url: str, *resources: Resource) -> tuple[str, str]:
    return decision(compiled(*resources), url), decision(compiled(*resources, https_rules="istio"), url)


def test_http_rules_act_on_https_by_default_and_never_as_istio_has_it():
    assert both("https://x.test/", entry("x.test", TLS), answering("v", "x.test")) == (
        "default/v: 204",
        "tcp: default -> outbound|443||x.test",
    )


def test_plaintext_to_a_tls_port_is_not_for_http_rules_in_either_case():
    assert both("http://x.test:443/", entry("x.test", TLS), answering("v", "x.test")) == ("passthrough", "passthrough")


def test_tls_to_a_port_that_is_http_goes_to_the_address_it_dialled():
    assert both("https://x.test:8080/", http_entry("x.test", 8080), answering("v", "x.test")) == (
        "default/v: 204",
        "passthrough",
    )


def test_the_server_name_tells_services_without_an_address_apart():
    snap = compiled(entry("x.test", TLS), entry("y.test", TLS), entry("*.z.test", TLS), https_rules="istio")
    assert decision(snap, "https://y.test/") == "tcp: default -> outbound|443||y.test"
    assert decision(snap, "https://a.z.test/") == "tcp: default -> outbound|443||*.z.test"
    assert decision(snap, "https://elsewhere.test/") == "passthrough"


def test_tls_rules_send_a_server_name_elsewhere():
    resources = (entry("x.test", TLS), entry("y.test", TLS), sni_rule("x.test", host="y.test", hosts=("x.test",)))
    snap = compiled(*resources, https_rules="istio")
    assert decision(snap, "https://x.test/") == "tcp: default/sni -> outbound|443||y.test"


def test_hosts_of_one_address_are_told_apart_by_tls_rules():
    shared = entry("x.test", TLS, addresses=["240.0.0.1"])
    shared["spec"]["hosts"] = ["x.test", "y.test"]
    snap = compiled(
        shared, entry("z.test", TLS), sni_rule("y.test", host="z.test", hosts=("y.test",)), https_rules="istio"
    )
    assert decision(snap, "https://y.test/") == "tcp: default/sni -> outbound|443||z.test"
    assert decision(snap, "https://x.test/") == "tcp: default -> outbound|443||x.test"


def test_where_there_are_tls_rules_other_server_names_are_nobodys():
    https = service("a", ports=[{"name": "https", "port": 443}])
    snap = compiled(https, sni_rule("a.test", host="a", hosts=("a", "a.test")), https_rules="istio")
    assert decision(snap, "https://a/") == "passthrough"
    assert decision(compiled(https, https_rules="istio"), "https://a/").startswith("tcp: default -> outbound|443||a.")


def test_tls_to_a_port_of_no_declared_protocol_is_forwarded():
    plain = service("a", ports=[{"name": "whatever", "port": 9080}])
    assert both("https://a:9080/", plain, answering("v", "a")) == (
        "default/v: 204",
        "tcp: default -> outbound|9080||a.default.svc.cluster.local",
    )


@pytest.mark.parametrize(
    ("words", "answer"), [({}, "204"), ({"https_rules": "mesh"}, "204"), ({"https_rules": "istio"}, "")]
)
def test_every_constructor_takes_the_choice(words, answer, tmp_path, monkeypatch):
    resources = [entry("x.test", TLS), answering("v", "x.test")]
    path = tmp_path / "mesh.json"
    import json

    path.write_text("\n---\n".join(map(json.dumps, resources)))
    monkeypatch.setenv("MESHLIB_CONFIG", str(path))
    for make in (
        lambda: Mesh.from_resources(resources, **words),
        lambda: Mesh.from_path(path, watch=False, **words),
        lambda: Mesh.from_env(**words),
    ):
        with make() as mesh:
            assert mesh.explain(url="https://x.test/").to_dict().get("reply", "")[:3] == answer
            mesh.apply(resources)
            assert mesh.explain(url="https://x.test/").to_dict().get("reply", "")[:3] == answer


def test_the_environment_may_choose(tmp_path, monkeypatch):
    monkeypatch.setenv("MESHLIB_CONFIG", str(tmp_path))
    monkeypatch.setenv("MESHLIB_HTTPS_RULES", "sidecar")
    with pytest.raises(MeshError, match="MESHLIB_HTTPS_RULES must be mesh or istio, not 'sidecar'"):
        Mesh.from_env()
    (tmp_path / "x.yaml").write_text(
        """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: x}
spec: {hosts: [x.test], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
"""
    )
    monkeypatch.setenv("MESHLIB_HTTPS_RULES", "istio")
    with Mesh.from_env() as mesh:
        assert "http rules do not act" in str(mesh.explain(url="https://x.test/"))
    with Mesh.from_env(https_rules="mesh") as mesh:
        assert "http rules do not act" not in str(mesh.explain(url="https://x.test/"))


def test_another_word_is_refused():
    with pytest.raises(MeshError, match="https_rules must be 'mesh' or 'istio', not 'sidecar'"):
        Mesh(https_rules="sidecar")  # type: ignore[arg-type]
