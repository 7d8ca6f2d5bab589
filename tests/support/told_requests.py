"""What two requests of the proxy that are the same one say and become, however each was read."""

from __future__ import annotations

from meshlib.engine.wanted_headers import WantedHeaders
from meshlib.proxy.inbound_request import ServedRequest

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CERT = b"X-Forwarded-Client-Cert: By=spiffe://a;Hash=1\r\n"
WANTED = WantedHeaders(("x-a", "user-agent", "traceparent", "x-forwarded-proto", "x-request-id", "x-none"))
SEEN = [WANTED, WantedHeaders(("user-agent", "x-forwarded-client-cert", "x-a", "host")), WantedHeaders(("host",))]
ASKED = ("x-a", "user-agent", "traceparent", "x-request-id", "cookie", "host", "x-forwarded-proto", "x-none", "")


def told(request):
    """All that is asked of one."""
    return (
        *(request.method, request.verb, request.target, request.path, request.query, request.full_path),
        *(request.authority, request.dialled, request.scheme, request.protocol, request.body, request.version),
        *(request.lines, request.special, request.has_envoy_headers, request.one_message),
        *[request.header(name) for name in ASKED],
        *[request.header_values(name) for name in ASKED],
        *[request.sent_header(name) for name in ASKED],
        *(request.values_of(WANTED), request.sent_values(WANTED), request.head_bytes(), request.sent_bytes()),
        *[served(request).values_of(wanted) for wanted in SEEN],
        *(request.encoded(1), request.encoded(2), list(request.attempt_headers(1)), list(request.headers)),
    )


def served(request):
    return ServedRequest(request, "10.0.0.7:5", "10.0.0.1", 80, "", False)


def nothing(_request):
    pass


def traced(request):
    if TRACE in (request.header("traceparent") or "").split(","):
        request.traced_by(TRACE.replace("0af", "1af").encode(), TRACE.encode())


def changed(request):
    request.headers = [*request.count_first(), (b"x-a", b"of a rule")]


CHANGES = [
    nothing,
    traced,
    changed,
    lambda request: request.relined(b"Host: a:80\r\nX-A: 9\r\n", b"\r\nhost: a:80\r\nx-a: 9\r\n"),
    lambda request: request.retraced((b"traceparent", b"x-a"), b"traceparent: 00-1\r\n"),
    lambda request: request.retarget(b"/elsewhere?x"),
    lambda request: request.set_deadline("x-request-deadline", 1.5),
    lambda request: request.to_application(b"Host: a\r\nX-A: 3\r\n", b"\r\nhost: a\r\nx-a: 3\r\n"),
    lambda request: request.to_application_with(CERT, CERT.lower()),
    lambda request: request.to_application_with(b"", b""),
    lambda request: setattr(request, "counts", False),
    lambda request: request.count_first(),
]
