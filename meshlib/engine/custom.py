"""AuthorizationPolicy's action CUSTOM as a check: requests that its rules match come in only if an authorizer lets them, as
Envoy's filter ext_authz asks it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Protocol

from meshlib.engine.effects import Ask, Peek
from meshlib.engine.grpc_unary import grpc_message, grpc_request
from meshlib.engine.plain_request import PlainRequest
from meshlib.policy import ext_authz_grpc, ext_authz_http
from meshlib.policy.ext_authz import (
    DENIED,
    ERROR,
    FLAG,
    LONGEST_RESPONSE,
    TOO_LARGE,
    Allowed,
    Asked,
    Authorizer,
    Change,
    Failed,
    Verdict,
    changed_query,
    refusal,
)
from meshlib.policy.path_spellings import path_spellings
from meshlib.policy.refusal import Refusal

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.compiler.custom import Custom, Matched
    from meshlib.compiler.routes import VirtualHost
    from meshlib.engine.authorizers import Authorizers
    from meshlib.engine.check import Asking
    from meshlib.engine.effects import Exchange
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.engine.outcome import Outcome


class Asker(Protocol):
    """Makes the exchange of a call through the mesh. ``timeout``: seconds to the head of its response. ``path``: it takes the
    rule of this virtual host, whatever VirtualServices say of its host."""

    def __call__(
        self, request: PlainRequest, timeout: float | None, path: VirtualHost | None = None
    ) -> Exchange[PlainRequest]: ...


RBAC_DENIED = "RBAC: access denied"
NO_BODY_SHOWN = Refusal(403, "", flag=FLAG, detail=ERROR)
"""Where a body is to be shown and the server does not let anybody look at it (gRPC): an authorizer that decides by it must not
take it for empty."""


def nobody() -> str:
    """The SPIFFE ID of a server that has none."""
    return ""


class CustomCheck:
    """The check of one provider. ``own`` tells the SPIFFE ID that this server shows."""

    __slots__ = ("_ask", "_clock", "_custom", "_known", "_own")

    def __init__(
        self, custom: Custom, ask: Asker, clock: Clock, known: Authorizers, own: Callable[[], str] = nobody
    ) -> None:
        self._own = own
        self._custom = custom
        self._ask = ask
        self._clock = clock
        self._known = known

    def __call__(self, request: InboundRequest) -> Refusal | Asking | None:
        """The question, None when no rule matches."""
        custom = self._custom
        spelled = path_spellings(request.path, custom.normalization)
        if spelled.problem:
            return Refusal(400, "Bad Request", detail=spelled.problem)
        rule = custom.rules.first(request)
        if rule is None:
            return None
        if custom.authorizer is None or custom.route is None:
            return self._not_asked(rule, "deny-due-to-bad-CUSTOM-action")
        request.asked += (custom.provider,)
        # as Envoy would send it on, and as the application gets it
        paths = tuple(dict.fromkeys((spelled.normalized, request.path)))
        return self._decided(request, custom.authorizer, custom.route, paths)

    def judge(self, request: InboundRequest) -> Refusal | None:
        """Once more, of a request of which the route is known by now: one that matches only there has come past its authorizer,
        which it is too late to ask."""
        custom = self._custom
        if custom.provider in request.asked:
            return None
        rule = custom.rules.first(request)
        return None if rule is None else self._not_asked(rule, "not-asked-before-the-route-was-known")

    def _not_asked(self, rule: Matched, why: str) -> Refusal:
        detail = f"istio-ext-authz-{self._custom.provider}-{rule.id}-{why}"
        return Refusal(403, RBAC_DENIED, detail=f"rbac_access_denied_matched_policy[{detail}]")

    def _decided(
        self, request: InboundRequest, authorizer: Authorizer, route: VirtualHost, paths: tuple[str, ...]
    ) -> Asking:
        """Ask about each spelling of the path: all must be let in. What the last is let in with counts."""
        body: bytes | None = None
        cut = False
        shown = authorizer.body
        if shown is not None:
            source = request.body_source
            if source is None:
                self._known.failed(authorizer.name, "the bodies of gRPC requests cannot be sent to it", let_in=False)
                return NO_BODY_SHOWN
            peek = Peek(source, shown.most if shown.may_be_cut else shown.most + 1)
            yield peek
            cut = not peek.ended or len(peek.head) > shown.most
            if cut and not shown.may_be_cut:
                return TOO_LARGE
            if peek.head:
                body = peek.head[: shown.most]
        verdict: Verdict = Failed("not asked")
        for path in paths:
            asked = self._asked(request, path, body, cut)
            verdict = yield from self._verdict(authorizer, route, asked, request.deadline)
            found = self._refused(authorizer, verdict)
            if found is not None:
                return found
        if isinstance(verdict, Allowed):
            apply(verdict, request)
        return None

    def _asked(self, request: InboundRequest, path: str, body: bytes | None, cut: bool) -> Asked:
        return Asked(
            request.method,
            f"{path}?{request.query}" if request.query else path,
            request.authority,
            request.header_lists(),
            request.scheme,
            "HTTP/2" if request.http2 or request.protocol == "grpc" else "HTTP/1.1",
            body,
            cut,
            request.peer,
            request.principal,
            request.local_ip,
            request.port,
            self._clock.time(),
            self._own() if request.secure else "",
        )

    def _verdict(
        self, authorizer: Authorizer, route: VirtualHost, asked: Asked, deadline: float | None
    ) -> Generator[Ask[PlainRequest], None, Verdict]:
        left = None if deadline is None else max(0.0, deadline - self._clock.monotonic())
        timeout = authorizer.timeout if left is None else min(left, authorizer.timeout)
        http = authorizer.protocol == "http"
        if http:
            question = PlainRequest(
                asked.method,
                "http",
                asked.authority or authorizer.host,
                ext_authz_http.target(authorizer, asked),
                ext_authz_http.headers(authorizer, asked),
                dialled=authorizer.host,
                body=asked.body,
            )
        else:
            message = ext_authz_grpc.request(authorizer, asked)
            question = grpc_request(authorizer.host, ext_authz_grpc.METHOD, message, timeout)
        effect = Ask(self._ask(question, timeout, route), LONGEST_RESPONSE)
        yield effect
        return _http(authorizer, effect.outcome) if http else _grpc(effect.outcome)

    def _refused(self, authorizer: Authorizer, verdict: Verdict) -> Refusal | None:
        """None: it comes in."""
        known, name = self._known, authorizer.name
        if isinstance(verdict, Allowed):
            known.decided(name, allowed=True)
            return None
        found = refusal(verdict, authorizer)
        if found.detail == DENIED:
            known.decided(name, allowed=False)
            return found
        let_in = isinstance(verdict, Failed) and authorizer.fail_open
        known.failed(name, getattr(verdict, "why", ""), let_in=let_in)
        return None if let_in else found


def _http(authorizer: Authorizer, outcome: Outcome) -> Verdict:
    if outcome.failure is not None:
        return Failed(f"{outcome.failure.name.lower()}: {outcome.detail}")
    if outcome.status >= 500 and outcome.detail:
        return Failed(outcome.detail)
    return ext_authz_http.verdict(authorizer, outcome.status, outcome.headers, outcome.whole or b"")


def _grpc(outcome: Outcome) -> Verdict:
    said = grpc_message(outcome)
    return Failed(said) if isinstance(said, str) else ext_authz_grpc.verdict(said)


def apply(allowed: Allowed, request: InboundRequest) -> None:
    """Change the request, for the application and for the checks that follow: headers first, then what is removed, as Envoy
    does."""
    for change in allowed.changes:
        _change(request, change)
    for name in allowed.remove:
        request.take_away(name)
    if allowed.query_set or allowed.query_remove:
        request.retarget(changed_query(request.query, allowed))
    request.tell_caller(allowed.to_caller)


def _change(request: InboundRequest, change: Change) -> None:
    there = request.header(change.name) is not None
    if change.action == "append":
        if there:
            first, *rest = request.header_lists()[change.name]
            request.put(change.name, first.encode("latin-1", "replace") + b"," + change.value)
            for value in rest:
                request.add(change.name, value.encode("latin-1", "replace"))
    elif change.action == "add":
        request.add(change.name, change.value)
    elif change.action == "set" or there == (change.action == "set_if_present"):
        request.put(change.name, change.value)
