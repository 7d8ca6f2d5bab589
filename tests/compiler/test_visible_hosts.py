"""The services that a workload sees, for whoever tells their addresses."""

from __future__ import annotations

from meshlib.compiler.compile import Compiler
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.support.resources import service, service_entry, to, virtual_service


def loaded(*resources: dict) -> list:
    result = load_objects(list(resources))
    assert not result.errors, result.errors
    return result.resources


def hosts(made) -> list[str]:
    return sorted(found.host for found in made.hosts.services())


def test_each_host_is_there_once_and_a_reload_brings_and_takes_them():
    compiler = Compiler(Workload("me"))
    api, web = service_entry("api", "api.com"), service("web")
    first = compiler.compile(loaded(web))
    assert hosts(first) == ["web.default.svc.cluster.local"]
    both = compiler.compile(loaded(web, api, service_entry("same", "api.com")))
    assert hosts(both) == ["api.com", "web.default.svc.cluster.local"]
    assert hosts(first) == ["web.default.svc.cluster.local"]
    assert hosts(compiler.compile(loaded(api))) == ["api.com"]


def test_the_same_registry_is_the_same_hosts():
    made = Compiler(Workload("me")).compile(loaded(service("web"))).hosts
    assert made.of(made.registry) is made


def test_what_only_a_virtual_service_leads_to_is_not_seen():
    sidecar = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": "default"},
        "spec": {"egress": [{"hosts": ["./web.default.svc.cluster.local"]}]},
    }
    leads = virtual_service("web", {"route": [to("hidden")]})
    made = Compiler(Workload("me")).compile(loaded(service("web"), service("hidden"), leads, sidecar))
    assert hosts(made) == ["web.default.svc.cluster.local"]
