"""What is worth saying about a VirtualService that loads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.pace import take_turns
from meshlib.policy.header_ops import unknown_operators
from meshlib.policy.regex import BadRegex, rewriter
from meshlib.resources.notices import Loc, Notice, deprecated

if TYPE_CHECKING:
    from meshlib.resources.virtual_service import (
        Headers,
        HttpFaultInjection,
        HttpRewrite,
        HttpRoute,
        HttpRouteDestination,
        VirtualService,
        VirtualServiceSpec,
    )

_OLD_HEADERS = {
    "append_headers": ("appendHeaders", "headers.request.add"),
    "append_request_headers": ("appendRequestHeaders", "headers.request.add"),
    "append_response_headers": ("appendResponseHeaders", "headers.response.add"),
    "remove_request_headers": ("removeRequestHeaders", "headers.request.remove"),
    "remove_response_headers": ("removeResponseHeaders", "headers.response.remove"),
}
_WORTH_A_LOOK = frozenset(
    (*_OLD_HEADERS, "websocket_upgrade", "mirror_percent", "cors_policy", "rewrite", "redirect", "headers", "fault")
)
"""The fields of a rule or a destination that there may be something to say about; most have none of them."""


def notices(resource: VirtualService) -> Iterator[Notice]:
    """Deprecated spellings and settings without effect."""
    yield from _hosts(resource.spec)
    for index, rule in enumerate(resource.spec.http or ()):
        take_turns()
        here: Loc = ("spec", "http", index)
        if not rule.model_fields_set.isdisjoint(_WORTH_A_LOOK):
            yield from _rule(rule, here)
        for position, target in enumerate(rule.route or ()):
            there: Loc = (*here, "route", position)
            if not target.model_fields_set.isdisjoint(_WORTH_A_LOOK):
                yield from _old_headers(target, there)
                yield from _headers(target.headers, (*there, "headers"))
            if target.destination.port is not None and target.destination.port.name:
                yield deprecated((*there, "destination", "port", "name"), "port.name", "port: {number: ...}")


def _rule(rule: HttpRoute, here: Loc) -> Iterator[Notice]:
    yield from _old_headers(rule, here)
    if rule.websocket_upgrade is not None:
        yield deprecated((*here, "websocketUpgrade"), "websocketUpgrade", "nothing: upgrades always work")
    if rule.mirror_percent is not None:
        yield deprecated((*here, "mirrorPercent"), "mirrorPercent", "mirrorPercentage: {value: ...}")
    if rule.cors_policy is not None and rule.cors_policy.allow_origin:
        yield deprecated((*here, "corsPolicy", "allowOrigin"), "allowOrigin", "allowOrigins: [{exact: ...}]")
    if rule.cors_policy is not None and (rule.redirect is not None or rule.direct_response is not None):
        yield Notice(
            "cors-without-route",
            "warning",
            (*here, "corsPolicy"),
            "corsPolicy has no effect on a redirect or direct response, as in Envoy",
            "put it on rules with a route",
        )
    yield from _rewrite(rule.rewrite, (*here, "rewrite"))
    if rule.redirect is not None and rule.redirect.redirect_code not in (None, 0, 301, 302, 303, 307, 308):
        yield Notice(
            "redirect-code",
            "warning",
            (*here, "redirect", "redirectCode"),
            f"{rule.redirect.redirect_code} is sent here, but Istio makes a route of it that Envoy refuses",
            "one of 301, 302, 303, 307, 308",
        )
    yield from _headers(rule.headers, (*here, "headers"))
    yield from _fault(rule.fault, (*here, "fault"))


def _hosts(spec: VirtualServiceSpec) -> Iterator[Notice]:
    if not spec.hosts and "hosts" in spec.model_fields_set:
        yield Notice(
            "no-hosts",
            "warning",
            ("spec", "hosts"),
            "hosts is empty: this is a delegate, which acts only where another VirtualService refers to it",
            "hosts: [reviews]; leave it out of a delegate",
        )


def _rewrite(rewrite: HttpRewrite | None, here: Loc) -> Iterator[Notice]:
    if rewrite is None or rewrite.uri_regex_rewrite is None:
        return
    try:
        rewriter(rewrite.uri_regex_rewrite.match or "", rewrite.uri_regex_rewrite.rewrite or "")
    except BadRegex as error:
        yield Notice(
            "rewrite-without-effect",
            "warning",
            (*here, "uriRegexRewrite", "rewrite"),
            f"{error}: the path stays as it is, as Envoy leaves it",
            r"\1 stands for the first group, \\ for a backslash",
        )


def _old_headers(model: HttpRoute | HttpRouteDestination, here: Loc) -> Iterator[Notice]:
    for attribute, (old, new) in _OLD_HEADERS.items():
        if getattr(model, attribute, None):
            yield deprecated((*here, old), old, new)


def _headers(headers: Headers | None, here: Loc) -> Iterator[Notice]:
    for direction in ("request", "response"):
        operations = getattr(headers, direction, None)
        if operations is None:
            continue
        for verb in ("set", "add"):
            for name in sorted(unknown_operators(getattr(operations, verb) or {})):
                yield Notice(
                    "unknown-operator",
                    "warning",
                    (*here, direction, verb, name),
                    f"the value of {name} has an operator that is not known here: the header is left out",
                    "known: %REQ(name)%, %PROTOCOL%, and %% for a percent sign",
                )


def _fault(fault: HttpFaultInjection | None, here: Loc) -> Iterator[Notice]:
    if fault is None:
        return
    for name in ("delay", "abort"):
        part = getattr(fault, name)
        if part is None:
            continue
        if part.percent is not None:
            yield deprecated((*here, name, "percent"), "percent", f"percentage: {{value: {part.percent}}}")
        elif part.percentage is None or not part.percentage.value:
            yield Notice(
                "fault-never",
                "warning",
                (*here, name),
                f"the {name} has no percentage, so it never happens",
                "percentage: {value: 100}",
            )
    abort = fault.abort
    if abort is not None and abort.http_status is None and abort.grpc_status is None:
        yield Notice("fault-never", "warning", (*here, "abort"), "the abort names no httpStatus or grpcStatus", "")
