"""What Istio refuses, or warns of, in a WasmPlugin or a TrafficExtension whose types are right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused
from meshlib.resources.urls import BadUrl, scheme_of, scheme_of_request
from meshlib.resources.validation.selection import selection_refusals, selector_warnings

if TYPE_CHECKING:
    from meshlib.resources import traffic_extension, wasm_plugin
    from meshlib.resources.extension_match import ExtensionMatch
    from meshlib.resources.traffic_extension import TrafficExtension, Wasm
    from meshlib.resources.wasm_plugin import WasmPlugin, WasmPluginSpec

_SPEC: Loc = ("spec",)
_SCHEMES = ("", "file", "http", "https", "oci")
_SHA256 = re.compile(r"[a-f0-9]{64}")
_LONGEST_SECRET = 253
_LONGEST_NAME = 256
_LONGEST_LUA = 65536


def wasm_plugin_refusals(resource: WasmPlugin) -> Iterator[Notice]:
    """Errors of a WasmPlugin: the selection, the module, where it acts."""
    spec = resource.spec
    yield from selection_refusals(spec.selector, spec.target_ref, spec.target_refs)
    yield from _module(spec, _SPEC)
    yield from _ports(spec.match)


def traffic_extension_refusals(resource: TrafficExtension) -> Iterator[Notice]:
    """Errors of a TrafficExtension: wasm or lua, and what it is. (Of both, which the CRD refuses, istiod reads lua.)"""
    spec = resource.spec
    if spec.wasm is None and spec.lua is None:
        yield refused(
            "wasm-or-lua",
            _SPEC,
            "neither wasm nor lua is given",
            "write lua: {inlineCode: ...}, or wasm: {url: ...}",
        )
    yield from selection_refusals(spec.selector, None, spec.target_refs)
    if spec.lua is not None:
        size = len(spec.lua.inline_code.encode())
        where: Loc = (*_SPEC, "lua", "inlineCode")
        if not size:
            yield refused("missing-value", where, "inlineCode is empty", "write the script")
        elif size > _LONGEST_LUA:
            yield refused("too-long", where, f"inlineCode has {size} bytes, Istio takes {_LONGEST_LUA}", "shorten it")
    elif spec.wasm is not None:
        yield from _module(spec.wasm, (*_SPEC, "wasm"))
    yield from _ports(spec.match)


def selector_notices(resource: WasmPlugin | TrafficExtension) -> Iterator[Notice]:
    """A selector of nothing."""
    selector = resource.spec.selector
    if selector is not None:
        yield from selector_warnings(selector.match_labels, (*_SPEC, "selector"))


def _module(module: WasmPluginSpec | Wasm, loc: Loc) -> Iterator[Notice]:
    if problem := _url_problem(module.url or ""):
        yield refused(
            "bad-url",
            (*loc, "url"),
            f"{module.url or ''!r} is not where a module is: {problem}",
            "for example oci://registry/name:tag, https://host/plugin.wasm or file:///opt/plugin.wasm",
        )
    if module.sha256 and not _SHA256.fullmatch(module.sha256):
        yield refused(
            "bad-sha256", (*loc, "sha256"), "sha256 is not 64 digits of 0-9 and a-f", "as sha256sum prints it"
        )
    for field, text, longest in (
        ("imagePullSecret", module.image_pull_secret, _LONGEST_SECRET),
        ("pluginName", module.plugin_name, _LONGEST_NAME),
    ):
        if text and len(text.encode()) > longest:
            yield refused("too-long", (*loc, field), f"{field} is longer than {longest} characters", "shorten it")
    seen: set[str] = set()
    variables: Sequence[wasm_plugin.Env | traffic_extension.Env] = (module.vm_config and module.vm_config.env) or ()
    for index, variable in enumerate(variables):
        here: Loc = (*loc, "vmConfig", "env", index)
        if not variable.name:
            yield refused("missing-name", (*here, "name"), "the variable has no name", "name it")
        elif len(variable.name.encode()) > _LONGEST_NAME:
            yield refused("too-long", (*here, "name"), f"it is longer than {_LONGEST_NAME} characters", "shorten it")
        elif variable.name in seen:
            yield refused("duplicate-name", (*here, "name"), f"{variable.name} is set twice", "remove one")
        elif variable.value_from == "HOST" and variable.value:
            yield refused(
                "value-from-host",
                (*here, "value"),
                "the value comes from the proxy's environment (valueFrom: HOST), and is given as well",
                "remove value, or write valueFrom: INLINE",
            )
        seen.add(variable.name or "")


def _ports(matches: Sequence[ExtensionMatch] | None) -> Iterator[Notice]:
    for index, match in enumerate(matches or ()):
        for position, port in enumerate(match.ports or ()):
            if port.number is None:
                where: Loc = (*_SPEC, "match", index, "ports", position)
                yield refused("bad-port", where, "the port has no number", "write number: 8080, for example")


def _url_problem(text: str) -> str:
    """A module's URL may lack its scheme: it is read as an HTTP URL then."""
    if not text:
        return "it is empty"
    try:
        try:
            scheme, whole = scheme_of_request(text), text
        except BadUrl:
            whole = f"http://{text}"
            scheme = scheme_of_request(whole)
        scheme_of(whole)
    except BadUrl as error:
        return str(error)
    return "" if scheme in _SCHEMES else f"its scheme {scheme} is not one of {', '.join(_SCHEMES[1:])}"
