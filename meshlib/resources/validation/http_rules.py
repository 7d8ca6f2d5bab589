"""The http rules of a VirtualService: what they match, the one thing they do, and where they send requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.resources.notices import Loc, Notice, refused
from meshlib.resources.validation.connection_rules import http_destinations
from meshlib.resources.validation.headers import condition_name, header_operations, is_claim, one_authority
from meshlib.resources.validation.hosts import gateway_names, is_dns_label
from meshlib.resources.validation.http_settings import cors, direct_response, fault, redirect, retries, rewrite, share
from meshlib.resources.validation.labels import labels
from meshlib.resources.validation.regexes import string_match

if TYPE_CHECKING:
    from meshlib.resources.types import StringMatch
    from meshlib.resources.virtual_service import HttpMatchRequest, HttpRoute


def _is_plain(condition: StringMatch | None) -> bool:
    """Whether there is nothing to be said of a condition on the path."""
    return condition is None or (condition.regex is None and len(condition.model_fields_set) < 2)


def http_rule(rule: HttpRoute, loc: Loc, *, delegate: bool, at_gateway: bool) -> Iterator[Notice]:
    """What the rule matches, does, and where it sends requests; ``delegate``: it is one of a delegate's."""
    yield from _action(rule, loc, delegate)
    for index, match in enumerate(rule.match or ()):
        if not (match.is_path_only() and _is_plain(match.uri)):
            yield from _match(match, (*loc, "match", index), at_gateway)
    if rule.only_sends():
        if rule.route:
            yield from http_destinations(rule.route, (*loc, "route"))
        return
    if rule.headers is not None:
        yield from header_operations(rule.headers, (*loc, "headers"))
        yield from one_authority(rule, loc)
    if rule.cors_policy is not None:
        yield from cors(rule.cors_policy, (*loc, "corsPolicy"))
    if rule.fault is not None:
        yield from fault(rule.fault, (*loc, "fault"))
    if rule.mirror_percentage is not None:
        yield from share(rule.mirror_percentage.value, (*loc, "mirrorPercentage"), 0.0)
    for index, mirror in enumerate(rule.mirrors or ()):
        if mirror.percentage is not None:
            yield from share(mirror.percentage.value, (*loc, "mirrors", index, "percentage"), 0.0)
    if rule.redirect is not None:
        yield from redirect(rule.redirect, rule, (*loc, "redirect"))
    if rule.direct_response is not None:
        yield from direct_response(rule.direct_response, (*loc, "directResponse"))
    if rule.retries is not None:
        yield from retries(rule.retries, (*loc, "retries"))
    if rule.rewrite is not None:
        yield from rewrite(rule.rewrite, (*loc, "rewrite"))
    if rule.route:
        yield from http_destinations(rule.route, (*loc, "route"))


def _action(rule: HttpRoute, loc: Loc, delegate: bool) -> Iterator[Notice]:
    """One of route, redirect, directResponse and delegate, and what may stand beside it."""
    if rule.delegate is not None and delegate:
        yield refused(
            "delegate-of-a-delegate",
            (*loc, "delegate"),
            "a VirtualService without hosts is a delegate, and may not delegate further",
            "put its rules here, or delegate from the VirtualService that has the hosts",
        )
        return
    if rule.delegate is not None:
        for other, there in (("redirect", rule.redirect is not None), ("route", bool(rule.route))):
            if there:
                yield _several_actions("delegate", other, loc)
        return
    if rule.redirect is not None:
        yield from _alone("redirect", rule, loc, ("route", "fault", "rewrite", "directResponse"))
    elif rule.direct_response is not None:
        yield from _alone("directResponse", rule, loc, ("route", "fault", "rewrite"))
    elif not rule.route:
        yield refused(
            "no-action",
            loc,
            "the rule has no route, redirect, directResponse or delegate",
            "add route: [{destination: ...}]",
        )
    if rule.mirror is not None and rule.mirrors:
        yield refused("several-mirrors", (*loc, "mirrors"), "a rule has either mirror or mirrors", "keep mirrors")


_ATTRIBUTES = {"directResponse": "direct_response"}


def _alone(action: str, rule: HttpRoute, loc: Loc, others: tuple[str, ...]) -> Iterator[Notice]:
    for other in others:
        value = getattr(rule, _ATTRIBUTES.get(other, other))
        if value if other == "route" else value is not None:
            yield _several_actions(action, other, loc)


def _several_actions(action: str, other: str, loc: Loc) -> Notice:
    return refused(
        "several-actions",
        (*loc, other),
        f"{other} cannot be combined with {action}",
        "split it into several rules",
    )


def _match(match: HttpMatchRequest, loc: Loc, at_gateway: bool) -> Iterator[Notice]:
    if not _is_plain(match.uri):
        yield from string_match(match.uri, (*loc, "uri"), empty_prefix=True)
    yield from string_match(match.scheme, (*loc, "scheme"))
    yield from string_match(match.method, (*loc, "method"))
    yield from string_match(match.authority, (*loc, "authority"))
    if match.headers:
        for name, condition in match.headers.items():
            yield from _header(name, (*loc, "headers", name), at_gateway)
            yield from string_match(condition, (*loc, "headers", name))
    if match.without_headers:
        for name, condition in match.without_headers.items():
            yield from _header(name, (*loc, "withoutHeaders", name), at_gateway)
            if condition.regex != "*":  # stands for "is present" here, and only here
                yield from string_match(condition, (*loc, "withoutHeaders", name))
    if match.query_params:
        for name, condition in match.query_params.items():
            yield from string_match(condition, (*loc, "queryParams", name))
    if match.source_labels:
        yield from labels(match.source_labels, (*loc, "sourceLabels"))
    if match.gateways:
        yield from gateway_names(match.gateways, (*loc, "gateways"))
    if match.source_namespace and not is_dns_label(match.source_namespace):
        yield refused(
            "bad-name", (*loc, "sourceNamespace"), f"{match.source_namespace!r} is not a namespace", "the name of one"
        )


def _header(name: str, loc: Loc, at_gateway: bool) -> Iterator[Notice]:
    yield from condition_name(name, loc)
    if not at_gateway and is_claim(name):
        yield refused(
            "claim-without-gateway",
            loc,
            f"{name} looks at the caller's token, which Istio does at gateways only",
            "name the gateways that the rules are for, without mesh",
        )
