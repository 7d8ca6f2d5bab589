"""Explains what happens to a request that comes in, by the same tables that decide about requests. Sends nothing: what an
authorizer, a token's signature or the load of the server would add is said in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from meshlib.engine.inbound_explanation import InboundExplanation, PolicyConsidered
from meshlib.policy.authorization.decision import ALLOWED, Authorization, Decision
from meshlib.policy.authorization.why import why
from meshlib.policy.mtls_mode import MtlsMode
from meshlib.policy.path_spellings import path_spellings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from meshlib.compiler.custom import Custom
    from meshlib.compiler.inbound import Inbound
    from meshlib.compiler.token_rules import TokenRules, UnreadTokens
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.policy.authorization.why import PolicyWhy

_RULE = re.compile(r"ns\[(.*)\]-policy\[(.*)\]-rule\[([0-9]+)\]")
PERMISSION_DENIED = 7
INVALID_ARGUMENT = 3
UNAUTHENTICATED = 16
NO_POLICIES = Authorization(())


def explain_inbound(settings: Inbound, request: InboundRequest, notes: Iterable[str] = ()) -> InboundExplanation:
    """``settings`` of the port that it came to. ``notes``: what of the request a server would not take as it was told."""
    authorization = NO_POLICIES if settings.authorization is None else settings.authorization
    # without a policy nothing is judged, not even whether its path can be
    judged = bool(authorization) or bool(settings.custom)
    if settings.mtls is MtlsMode.STRICT and not request.principal:
        return _by_strict(settings, request, notes)
    decision = _without_authorizer(settings.custom, request)
    unread = None if decision is not None else _by_unread(settings.tokens, request)
    if unread is not None:
        decision = Decision(401)
    elif decision is None:
        decision = authorization.decide(request) if judged else ALLOWED
    considered = why(authorization.policies, request, authorization.normalization)
    return InboundExplanation(
        allowed=decision.allowed,
        status=decision.status or 200,
        reason=_reason(decision, considered) if unread is None else _reason_of(unread),
        request=_request(request),
        policy=decision.policy,
        rule=decision.rule,
        grpc_status=_grpc(decision.status) if request.protocol == "grpc" else None,
        policies=tuple(_considered(policy) for policy in considered),
        notes=(*notes, *_notes(settings, request)),
        mtls=settings.mtls.value,
        mtls_policy=settings.mtls_policy,
    )


def _by_strict(settings: Inbound, request: InboundRequest, notes: Iterable[str]) -> InboundExplanation:
    """The caller has no identity where one is required: no policy is asked."""
    policy = f"PeerAuthentication/{settings.mtls_policy}"
    port = f"port {request.port}" if request.port else "an unknown port"
    why = (
        f"cannot be read ({settings.mtls_broken}) and has no good version yet" if settings.mtls_broken else "is STRICT"
    )
    called = "TLS without a valid SVID" if request.secure else "plain text"
    more = () if request.port else ("tell the port: others of this workload may have another mode",)
    return InboundExplanation(
        allowed=False,
        status=403,
        reason=f"{policy} {why}: {port} takes mTLS alone, and this is {called}",
        request=_request(request),
        grpc_status=PERMISSION_DENIED if request.protocol == "grpc" else None,
        notes=(*notes, *more, "a sidecar, and meshlib serve, reset such a connection instead of responding"),
        mtls=settings.mtls.value,
        mtls_policy=settings.mtls_policy,
        refused_by=policy,
    )


def _without_authorizer(customs: Iterable[Custom], request: InboundRequest) -> Decision | None:
    """The refusal by a CUSTOM policy whose authorizer cannot be asked, if there is one."""
    for custom in customs:
        if custom.authorizer is None:
            rule = custom.rules.first(request)
            if rule is not None and not path_spellings(request.path, custom.normalization).problem:
                policy, index = _place(rule.id)
                return Decision(403, policy, index)
    return None


def _by_unread(tokens: TokenRules | None, request: InboundRequest) -> UnreadTokens | None:
    """What refuses the request because it cannot be read, if anything does. Claims that were given are of a token that
    may be wherever rules look for one."""
    if tokens is None:
        return None
    for unread in tokens.unread:
        if unread.may_refuse(request):
            return unread
        if request.claims is not None and not any(unread.spares(rule) for rule in tokens.rules):
            return unread
    return None


def _reason_of(unread: UnreadTokens) -> str:
    said = f"RequestAuthentication/{unread.resource} cannot be read ({unread.why}) and has no good version yet"
    if unread.locations is None:
        return f"{said}: it may have looked anywhere for tokens, and so every request is refused"
    return f"{said}, and the request has a token where it may have looked for one"


def _place(rule: str) -> tuple[str, int | None]:
    """``ns[x]-policy[y]-rule[0]`` as x/y and 0."""
    found = _RULE.fullmatch(rule)
    return ("", None) if found is None else (f"{found[1]}/{found[2]}", int(found[3]))


def _grpc(status: int) -> int:
    return {0: 0, 400: INVALID_ARGUMENT, 401: UNAUTHENTICATED}.get(status, PERMISSION_DENIED)


def _reason(decision: Decision, considered: tuple[PolicyWhy, ...]) -> str:
    if decision.status == 400:
        return f"no policy can judge its path: {decision.detail}"
    if decision.policy:
        verb = "lets it in" if decision.allowed else "refuses it"
        return f"rule {decision.rule} of AuthorizationPolicy/{decision.policy} {verb}"
    if not decision.allowed:
        return "there are ALLOW policies, and no rule of theirs matches"
    if any(found.policy.action == "DENY" and not found.policy.dry_run for found in considered):
        return "no DENY rule matches, and there is no ALLOW policy"
    return "no AuthorizationPolicy decides about this workload"


def _considered(found: PolicyWhy) -> PolicyConsidered:
    policy = found.policy
    return PolicyConsidered(
        policy.id,
        policy.action,
        policy.dry_run,
        found.matched,
        next((rule.index for rule in found.rules if rule.matched), None),
        found.text,
    )


def _request(request: InboundRequest) -> str:
    """Without its query, headers and claims, which may be secrets."""
    host = f" to {request.authority}" if request.host_known else ""
    came = f" at {request.local_ip or 'an unknown address'}:{request.port}" if request.port else " at an unknown port"
    peer = request.principal or "a peer without identity"
    address = f" ({request.source_ip})" if request.source_ip else ""
    return f"{request.method} {request.path}{host}{came} from {peer}{address}"


def _notes(settings: Inbound, request: InboundRequest) -> Iterator[str]:
    """What else would be asked, in the order in which a server asks it."""
    for custom in settings.custom:
        rule = custom.rules.first(request)
        if rule is not None:
            policy, index = _place(rule.id)
            asked = f"rule {index} of AuthorizationPolicy/{policy} matches: provider {custom.provider}"
            if custom.authorizer is None:
                yield f"{asked} cannot be asked, and so it is refused: {custom.problem}"
            else:
                yield f"{asked} is asked first, and may refuse it"
    tokens = settings.tokens
    for unread in () if tokens is None else tokens.unread:
        yield (
            f"RequestAuthentication/{unread.resource} cannot be read ({unread.why}) and has no good version yet: every token "
            "where it may have looked for one is refused (401) before any policy"
        )
    if tokens is not None and tokens.rules:
        named = ", ".join(dict.fromkeys(rule.resource for rule in tokens.rules))
        if request.claims is not None:
            yield f"its claims are taken for those of a token that {named} has verified; the token of a request is, first"
        elif any(rule.required for rule in tokens.rules):
            yield f"{named} refuses requests without a token (401) before any policy"
        else:
            yield f"it is taken to have no token; one that {named} does not take is refused (401) before any policy"
    elif request.claims is not None:
        yield "no RequestAuthentication applies to this workload: its server verifies no token, and knows no claims"
    if settings.protection is not None:
        yield f"{settings.protection.resource} may refuse it (429, 503 and the like) by what the server is doing then"
    if settings.limits.local or settings.limits.shared:
        yield "rate limits of EnvoyFilters may refuse it (429)"
    if settings.faults:
        yield f"faults of {', '.join(settings.resources)} may be injected once it is let in"
