"""What a rule does to a request before it is sent and to an answer before it is delivered: rewrites, header operations,
redirects, direct responses. Called only for rules that have any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.outcome import Outcome, RawHeaders
from meshlib.engine.replies import reply

if TYPE_CHECKING:
    from meshlib.compiler.snapshot import Destination, Rule
    from meshlib.engine.call import Call
    from meshlib.policy.header_ops import Lookup
    from meshlib.policy.http_match import RequestView

ORIGINAL_PATH = b"x-envoy-original-path"
ORIGINAL_HOST = b"x-envoy-original-host"
HOST = b"host"


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


def _lookup(view: RequestView) -> Lookup:
    """Reads headers for ``%REQ(name)%``, the pseudo headers among them."""

    def read(name: str) -> str | None:
        if name == ":path":
            return f"{view.path}?{view.query}" if view.query else view.path
        if name in (":method", ":authority", ":scheme"):
            return str(getattr(view, name[1:]))
        return view.header(name)

    return read


def change_request(call: Call, rule: Rule, destination: Destination) -> None:
    """Rewrite the request that goes upstream: path, headers, authority, in Envoy's order."""
    view, wire = call.view, call.wire
    headers: RawHeaders = wire.base_headers
    if destination.request_ops:
        lookup = _lookup(view)
        for ops in destination.request_ops:
            headers = ops.apply(headers, lookup)
    rewrite = rule.rewrite
    if rewrite is not None and (rewrite.prefix is not None or rewrite.regex is not None):
        path = rewrite.path(view.path, matched_prefix(rule, view))
        if path != view.path:
            original = f"{view.path}?{view.query}" if view.query else view.path
            headers = [*headers, (ORIGINAL_PATH, original.encode("latin-1"))]
            wire.target = (f"{path}?{view.query}" if view.query else path).encode("latin-1")
    authority = rewrite.authority if rewrite is not None and rewrite.authority else destination.authority
    if authority:
        rest = [pair for pair in headers if pair[0].lower() != HOST]
        headers = [(HOST, authority.encode()), *rest, (ORIGINAL_HOST, view.authority.encode("latin-1"))]
    wire.base_headers = headers


def change_answer(call: Call, outcome: Outcome, cors: bool = True) -> Outcome:
    """Apply the response operations of the rule and its destination; to local answers too, but not to "no route". The
    headers of ``corsPolicy`` come last, as Envoy's filter adds them; ``cors`` False: the filter was not reached."""
    record = call.record
    destination, rule = record.destination, record.rule_object
    operations = destination.response_ops if destination is not None else rule.response_ops if rule is not None else ()
    if operations:
        lookup = _lookup(call.view)
        for ops in operations:
            outcome.headers = ops.apply(outcome.headers, lookup)
    if cors and rule is not None and rule.cors is not None:
        outcome.headers = rule.cors.answer(outcome.headers, call.view.header)
    return outcome


def answer_of(call: Call, rule: Rule) -> Outcome:
    """The answer of a rule that sends nothing upstream: a redirect or a direct response."""
    view = call.view
    if rule.redirect is not None:
        where = rule.redirect.location(view.scheme, view.authority, view.path, view.query, matched_prefix(rule, view))
        location = (b"location", where.encode("latin-1"))
        return reply(rule.redirect.code, "", [location], "direct_response")
    assert rule.direct is not None
    status, body = rule.direct
    made = reply(status, "", detail="direct_response")
    if body:
        made.whole = body
        made.headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"text/plain")]
    return made
