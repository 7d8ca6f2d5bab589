"""What a rule does to a request before it is sent and to a response before it is delivered: rewrites, header operations,
redirects, direct responses. Called only for rules that have any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.outcome import Outcome
from meshlib.engine.replies import reply
from meshlib.policy.header_ops import RawHeaders, first_value
from meshlib.policy.peer_metadata import FOR_THE_MESH, told
from meshlib.policy.rewrite import Redirect

if TYPE_CHECKING:
    from meshlib.compiler.routes import Destination, Rule
    from meshlib.engine.call import Call
    from meshlib.engine.message import Request
    from meshlib.policy.header_ops import Lookup
    from meshlib.policy.http_match import RequestView

ORIGINAL_PATH = b"x-envoy-original-path"
ORIGINAL_HOST = b"x-envoy-original-host"
FORWARDED_HOST = b"x-forwarded-host"
HOST = b"host"
_OF_BODY = frozenset((b"content-length", b"content-type", b"transfer-encoding"))
_PLAIN_TEXT = (b"content-type", b"text/plain")


def matched_prefix(rule: Rule, view: RequestView) -> str | None:
    """What a rewrite replaces: the prefix of the block that matched, "/" without a uri condition, None after an exact or
    regex match (the whole path)."""
    for match in rule.matches:
        if match(view):
            uri = match.settings.uri
            if uri is None:
                return "/"
            return uri.value if uri.kind == "prefix" else None
    return "/"


def _pseudo(view: RequestView) -> Lookup:
    """Reads ``:path`` and its like for ``%REQ(name)%``."""

    def read(name: str) -> str | None:
        if name == ":path":
            return view.full_path
        if name == ":protocol":
            return view.version
        return str(getattr(view, name[1:])) if name in (":method", ":authority", ":scheme") else None

    return read


def _as_sent(call: Call) -> Lookup:
    """Reads the request for ``%REQ(name)%`` in a response: as it went upstream, with what the rule changed."""
    request: Request = call.request

    def read(name: str) -> str | None:
        if name == ":path":
            return str(request.target.decode("latin-1"))
        if name == ":protocol":
            return request.version
        if name == ":authority":
            return first_value(request.headers, "host") or request.authority
        if name in (":method", ":scheme"):
            return str(getattr(request, name[1:]))
        return first_value(request.headers, name)

    return read


def change_request(call: Call, rule: Rule, destination: Destination) -> None:
    """Rewrite the request that goes upstream: path, headers, authority, in Envoy's order."""
    request: Request = call.request
    headers: RawHeaders = request.count_first()
    if destination.request_ops:
        pseudo = _pseudo(request)
        for ops in destination.request_ops:
            headers = ops.apply_to_request(headers, pseudo)
    rewrite = rule.rewrite
    rewritten = rewrite.authority if rewrite is not None else ""
    authority = rewritten or destination.authority
    if authority:
        headers = [(HOST, authority.encode()), *(pair for pair in headers if pair[0].lower() != HOST)]
        if rewritten or destination.tells_original_host:
            host = request.authority.encode("latin-1")
            headers.append((ORIGINAL_HOST, host))
            if rewrite is not None and call.live.snapshot.inbound.default.mesh.proxy_headers.forwarded_host:
                headers = _with_forwarded_host(headers, host)
    if rewrite is not None and (rewrite.prefix is not None or rewrite.regex is not None):
        path = rewrite.path(request.path, matched_prefix(rule, request))
        headers = [*headers, (ORIGINAL_PATH, request.full_path.encode("latin-1"))]
        request.target = (path + request.full_path[len(request.path) :]).encode("latin-1")
    request.headers = headers


def _with_forwarded_host(headers: RawHeaders, host: bytes) -> RawHeaders:
    """``host`` as the last element of X-Forwarded-Host, where it is not that already: as Envoy's ``append_x_forwarded_host``,
    which looks behind the last comma, blanks and all."""
    came = b",".join([value for name, value in headers if name.lower() == FORWARDED_HOST])
    if came.rpartition(b",")[2] == host:
        return headers
    others = [pair for pair in headers if pair[0].lower() != FORWARDED_HOST]
    return [*others, (FORWARDED_HOST, came + b"," + host if came else host)]


def change_response(call: Call, outcome: Outcome, cors: bool = True) -> Outcome:
    """Apply the response operations of the rule and its destination. The headers of ``corsPolicy`` come last, as Envoy's filter
    adds them; ``cors`` False: the filter was not reached."""
    record = call.record
    destination, rule = record.destination, record.rule_object
    operations = destination.response_ops if destination is not None else rule.response_ops if rule is not None else ()
    if operations:
        lookup = _as_sent(call)
        for ops in operations:
            if ops is FOR_THE_MESH:
                record.peer_metadata = told(outcome.headers)
            outcome.headers = ops.apply(outcome.headers, lookup)
    if cors and rule is not None and rule.cors is not None:
        outcome.headers = rule.cors.response_headers(outcome.headers, call.request.header)
    return outcome


def change_own_response(call: Call, outcome: Outcome, cors: bool = True) -> Outcome:
    """The same of a response that is made here (but not of "no route"), which says of its body what is so, as Envoy's does:
    the length, and the type where the operations name none, are set after them; without a body there is no type."""
    record = call.record
    destination, rule = record.destination, record.rule_object
    if destination.response_ops if destination is not None else rule is not None and rule.response_ops:
        body = outcome.whole or b""
        outcome.headers = [pair for pair in outcome.headers if pair[0] not in _OF_BODY]
        change_response(call, outcome, cors=False)
        types = [pair for pair in outcome.headers if pair[0].lower() == b"content-type"] or [_PLAIN_TEXT]
        headers = [pair for pair in outcome.headers if pair[0].lower() not in _OF_BODY]
        outcome.headers = [*headers, (b"content-length", b"%d" % len(body)), *(types if body else ())]
    if cors and rule is not None and rule.cors is not None:
        outcome.headers = rule.cors.response_headers(outcome.headers, call.request.header)
    return outcome


def own_response(call: Call, rule: Rule) -> Outcome:
    """The response of a rule that sends nothing upstream: a redirect or a direct response."""
    view = call.request
    if rule.redirect is not None:
        where = rule.redirect.location(view.scheme, view.authority, view.full_path, matched_prefix(rule, view))
        location = (b"location", where.encode("latin-1"))
        return reply(rule.redirect.code, "", [location], "direct_response")
    assert rule.direct is not None
    status, body = rule.direct
    made = reply(status, "", detail="direct_response")
    if body:
        made.whole = body
        made.headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"text/plain")]
    if status == 201 or 300 <= status < 400:  # Envoy says where: at the request's own URL
        where = Redirect().location(view.scheme, view.authority, view.full_path, None)
        made.headers = [(b"location", where.encode("latin-1")), *made.headers]
    return made
