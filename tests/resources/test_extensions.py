"""A WasmPlugin, TrafficExtension or ProxyConfig that Istio's webhook refuses is refused here, at the field that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.verdicts import refusals, warnings

URL = "oci://registry.example.com/plugin:1"
MODULE: dict[str, tuple[dict[str, Any], str, str]] = {
    "no url": ({"url": ""}, "bad-url", "url"),
    "a scheme that nobody fetches": ({"url": "ftp://a/b"}, "bad-url", "url"),
    "an opaque URL of another scheme": ({"url": "mailto:a@b"}, "bad-url", "url"),
    "a url with a space": ({"url": "not a host!"}, "bad-url", "url"),
    "an open bracket": ({"url": "["}, "bad-url", "url"),
    "a sum of 63 digits": ({"sha256": "a" * 63}, "bad-sha256", "sha256"),
    "a sum in capitals": ({"sha256": "A" * 64}, "bad-sha256", "sha256"),
    "a long secret's name": ({"imagePullSecret": "a" * 254}, "too-long", "imagePullSecret"),
    "a long name": ({"pluginName": "a" * 257}, "too-long", "pluginName"),
    "a variable without name": ({"vmConfig": {"env": [{"name": ""}]}}, "missing-name", "vmConfig.env[0].name"),
    "a variable of a long name": ({"vmConfig": {"env": [{"name": "a" * 257}]}}, "too-long", "vmConfig.env[0].name"),
    "a variable twice": (
        {"vmConfig": {"env": [{"name": "a"}, {"name": "a"}]}},
        "duplicate-name",
        "vmConfig.env[1].name",
    ),
    "a value from here and there": (
        {"vmConfig": {"env": [{"name": "a", "valueFrom": "HOST", "value": "b"}]}},
        "value-from-host",
        "vmConfig.env[0].value",
    ),
}


@pytest.mark.parametrize("what", list(MODULE))
def test_a_bad_module_is_refused_in_both_kinds(what):
    fields, code, path = MODULE[what]
    module = {"url": URL, **fields}
    assert refusals("WasmPlugin", module) == [(code, f"spec.{path}")]
    assert refusals("TrafficExtension", {"wasm": module}) == [(code, f"spec.wasm.{path}")]


@pytest.mark.parametrize(
    "url", [URL, "https://a/b", "http://a:1", "file:///a", "a/b", "a", "a.b/c@sha256:1", "*", "(", "/a"]
)
def test_where_modules_come_from(url):
    assert refusals("WasmPlugin", {"url": url}) == []
    assert refusals("TrafficExtension", {"wasm": {"url": url}}) == []


@pytest.mark.parametrize("port", [0, 65536, -1])
@pytest.mark.parametrize(("kind", "spec"), [("WasmPlugin", {"url": URL}), ("TrafficExtension", {"wasm": {"url": URL}})])
def test_a_match_has_a_port(kind, spec, port):
    at = "spec.match[0].ports[0]"
    assert refusals(kind, {**spec, "match": [{"ports": [{"number": port}]}]}) == [("bad-port", f"{at}.number")]
    assert refusals(kind, {**spec, "match": [{"ports": [{}]}]}) == [("bad-port", at)]
    assert refusals(kind, {**spec, "match": [{"mode": "SERVER", "ports": [{"number": 80}]}]}) == []


@pytest.mark.parametrize(("kind", "spec"), [("WasmPlugin", {"url": URL}), ("TrafficExtension", {"wasm": {"url": URL}})])
def test_what_a_module_is_for(kind, spec):
    targets = [{"kind": "Service", "name": "a"}]
    assert refusals(kind, {**spec, "targetRefs": targets}) == []
    assert refusals(kind, {**spec, "targetRefs": targets, "selector": {}}) == [("several-targets", "spec.targetRefs")]
    assert warnings(kind, {**spec, "selector": {}}) == [("empty-selector", "spec.selector")]


def test_an_extension_is_lua_or_wasm():
    lua = {"inlineCode": "function envoy_on_request(handle) end"}
    assert refusals("TrafficExtension", {"lua": lua}) == []
    assert refusals("TrafficExtension", {}) == [("wasm-or-lua", "spec")]
    assert refusals("TrafficExtension", {"lua": lua, "wasm": {"url": URL}}) == [
        ("crd-one-of", "spec.lua"),
        ("crd-rule", "spec.lua"),
    ]
    assert refusals("TrafficExtension", {"lua": {"inlineCode": ""}}) == [("missing-value", "spec.lua.inlineCode")]
    assert refusals("TrafficExtension", {"lua": {"inlineCode": " " * 65537}}) == [("too-long", "spec.lua.inlineCode")]


def test_a_proxy_config_has_a_number_of_threads_and_plain_labels():
    assert refusals("ProxyConfig", None) == []
    assert refusals("ProxyConfig", {"concurrency": 0, "selector": {"matchLabels": {"a": "b"}}}) == []
    assert refusals("ProxyConfig", {"concurrency": -1}) == [("negative", "spec.concurrency")]
    wild = {"selector": {"matchLabels": {"a": "b*"}}}
    assert refusals("ProxyConfig", wild) == [("wildcard-label", "spec.selector.matchLabels.a")]
    assert warnings("ProxyConfig", {"selector": {}}) == [("empty-selector", "spec.selector")]
