"""What clients of a mesh are made with: the module's own arguments, and the mesh in each place that a request could go to."""

from __future__ import annotations

import httpx
import httpx2
import pytest

import meshlib


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def module(request):
    return request.param


@pytest.fixture
def empty():
    with meshlib.Mesh.from_resources([]) as mesh:
        yield mesh


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HTTP_PROXY": "http://p:1"},
        {"HTTPS_PROXY": "p:1", "NO_PROXY": "localhost,.example.test, 10.0.0.1,::1,http://x.test"},
        {"ALL_PROXY": "http://p:1", "NO_PROXY": "example.test,LOCALHOST,192.168.0.0/16"},
        {"HTTP_PROXY": "http://p:1", "NO_PROXY": "a.test,*"},
        {"HTTP_PROXY": "http://p:1", "NO_PROXY": ""},
        {"HTTP_PROXY": "http://user:word@p:1", "NO_PROXY": "1.2.3.4/8,example.test:8080"},
        {"HTTP_PROXY": "http://p:1", "NO_PROXY": "::1,*.example.test,.example.test,all://*.a.test"},
    ],
)
def test_the_environment_is_read_as_each_module_reads_it(environment, empty, module, variables):
    for name, value in variables.items():
        environment.setenv(name, value)
    with module.Client() as bare, empty.client(module=module) as ours:
        patterns = [p.pattern for p in bare._mounts]
        assert [p.pattern for p in ours._mounts] == patterns
        assert [t is None for t in ours._mounts.values()] == [t is None for t in bare._mounts.values()]


@pytest.mark.parametrize("names", ["[::1],10.0.0.1", "*.a.test/x,b.test/x", "1.2.3.4/99,::1/x,10.0.0.0/8,::1/64"])
def test_httpx2_reads_more_of_no_proxy_and_passes_over_what_cannot_be_read(environment, empty, names):
    environment.setenv("HTTP_PROXY", "http://p:1")
    environment.setenv("NO_PROXY", names)
    with httpx2.Client() as bare, empty.client(module=httpx2) as ours:
        assert [p.pattern for p in ours._mounts] == [p.pattern for p in bare._mounts]


@pytest.mark.parametrize("argument", ["proxies", "app"])
def test_what_httpx_has_dropped_is_refused_with_its_successor(empty, module, argument):
    with pytest.raises(TypeError, match=r"proxy=|WSGITransport"):
        empty.client(module=module, **{argument: "http://p:1"})


def test_every_place_of_a_client_is_the_meshs(environment, empty, module):
    environment.setenv("HTTPS_PROXY", "http://p:1")
    mounts = {"all://a.test": module.MockTransport(lambda _: module.Response(204)), "all://b.test": None}
    with empty.client(module=module, mounts=mounts) as client:
        places = {pattern.pattern: way for pattern, way in client._mounts.items()}
    assert places.keys() == {"https://", "all://a.test", "all://b.test"}
    assert places.pop("all://b.test") is None  # the client's own transport, which is the mesh's as well
    for way in [client._transport, *places.values()]:
        assert type(way).__name__ == "MeshTransport"
