"""VirtualService, field by field."""

from __future__ import annotations

from meshlib.compiler.semantics.table import Row, approximated, honoured, ignored, mounted, not_here

COMPILE = "tests/compiler/test_compile.py"
DELEGATES = "tests/compiler/test_delegates.py"
GATEWAYS = "tests/compiler/test_gateways.py"
L4 = "tests/compiler/test_l4_rules.py"
ACTIONS = "tests/engine/test_actions.py"
CORS = "tests/engine/test_cors.py"
FAULTS_AND_TIMEOUTS = "tests/engine/test_outbound_faults_and_timeouts.py"
OUTBOUND_RETRIES = "tests/engine/test_outbound_retries.py"
BALANCING = "tests/engine/test_balancing.py"
MIRROR = "tests/mesh/test_mirror.py"
DECISIONS = "tests/differential/referee/generate.py"
VALIDATION = "tests/resources/test_validation.py"

DESTINATION = (
    honoured("host", "the service, its short name completed by the resource's namespace; unknown: 503 NC", COMPILE),
    approximated(
        "port",
        "the service port; unknown: 503 NC",
        COMPILE,
        "without it the host's only port is taken even when the caller dialled another",
        "the port that was dialled",
    ),
    honoured("subset", "a subset of the host's DestinationRule; unknown: 503 NC", COMPILE, "all endpoints"),
)
OPERATIONS = (
    honoured("request.set", "replaces; Host rewrites the authority", ACTIONS),
    honoured("request.add", "appends a further value", ACTIONS),
    honoured("request.remove", "removes, before anything is set", ACTIONS),
    honoured("response.set", "replaces, in local responses too", ACTIONS),
    honoured("response.add", "appends a further value", ACTIONS),
    honoured("response.remove", "removes, before anything is set", ACTIONS),
)
OLD_SPELLINGS = (
    honoured("appendRequestHeaders", "headers.request.add of Istio before 1.0", ACTIONS),
    honoured("appendResponseHeaders", "headers.response.add of Istio before 1.0", ACTIONS),
    honoured("removeRequestHeaders", "headers.request.remove of Istio before 1.0", ACTIONS),
    honoured("removeResponseHeaders", "headers.response.remove of Istio before 1.0", ACTIONS),
)
L4_MATCH = (
    not_here("destinationSubnets", "TCP and TLS connections are the proxy's", "compiled: the address dialled", L4),
    not_here("gateways", "TCP and TLS connections are the proxy's", "compiled: narrows to gateways", L4),
    not_here("port", "TCP and TLS connections are the proxy's", "compiled: the port dialled", L4),
    not_here("sourceLabels", "TCP and TLS connections are the proxy's", "compiled: labels of the client", L4),
    not_here("sourceNamespace", "TCP and TLS connections are the proxy's", "compiled: namespace of the client", L4),
)
L4_ROUTE = (
    not_here("route.destination", "TCP and TLS connections are the proxy's", "compiled: the cluster", L4),
    not_here("route.weight", "TCP and TLS connections are the proxy's", "compiled: drawn for each connection", L4),
)

ROWS: tuple[Row, ...] = (
    honoured("hosts", "the hosts whose rules these are; the oldest VirtualService claims a host", COMPILE),
    honoured("gateways", "mesh: for clients; others: concatenated at the gateway", GATEWAYS, "[mesh]"),
    honoured("exportTo", "namespaces whose clients obey", COMPILE, "all"),
    honoured("http.name", "shown by explain, joined to a delegate's", DELEGATES),
    honoured("http.match.name", "shown by explain", DELEGATES),
    approximated(
        "http.match.statPrefix",
        "counts in meshlib_route_requests_total",
        "tests/telemetry/test_metrics_and_spans.py",
        "Envoy makes a family of statistics of it; here it is one counter by response code",
    ),
    honoured("http.match.uri", "path without query: exact, prefix of the text, whole RE2 regex", DECISIONS),
    honoured("http.match.ignoreUriCase", "exact and prefix in any case", DECISIONS, "false"),
    honoured("http.match.scheme", "of the URL", DECISIONS),
    honoured("http.match.method", "case counts", DECISIONS),
    honoured("http.match.authority", "Host as sent, port included", DECISIONS),
    honoured("http.match.headers", "each of several values on its own; {}: is present", DECISIONS),
    honoured("http.match.withoutHeaders", "inverted; an absent header counts as empty", DECISIONS),
    honoured("http.match.queryParams", "first value, not decoded", DECISIONS),
    honoured("http.match.port", "the port dialled", COMPILE),
    honoured("http.match.sourceLabels", "labels of the calling workload", COMPILE),
    honoured("http.match.sourceNamespace", "namespace of the calling workload", COMPILE),
    honoured("http.match.gateways", "narrows the block to these", GATEWAYS),
    *mounted("http.route.destination", DESTINATION),
    honoured("http.route.weight", "share of the sum; none for a sole destination", COMPILE, "0"),
    *mounted("http.route.headers", OPERATIONS),
    *mounted("http.route", OLD_SPELLINGS),
    *mounted("http.headers", OPERATIONS),
    *mounted("http", OLD_SPELLINGS),
    honoured("http.appendHeaders", "headers.request.add of Istio before 1.0", ACTIONS),
    ignored("http.websocketUpgrade", "upgrades need no permission; HTTP clients do not request them"),
    honoured("http.redirect.uri", "replaces the path; the query stays unless uri has one", ACTIONS),
    honoured("http.redirect.prefixRewrite", "replaces the prefix that matched", ACTIONS),
    honoured("http.redirect.authority", "replaces the host", ACTIONS),
    honoured("http.redirect.scheme", "http or https", ACTIONS, "the request's"),
    honoured("http.redirect.port", "a port that is the scheme's default leaves the request's", ACTIONS),
    honoured("http.redirect.derivePort", "FROM_REQUEST_PORT: the port dialled", ACTIONS, "FROM_PROTOCOL_DEFAULT"),
    honoured("http.redirect.redirectCode", "301, 302, 303, 307, 308", DECISIONS, "301"),
    honoured("http.directResponse.status", "sent without calling anything", ACTIONS),
    honoured("http.directResponse.body", "string, or bytes in base64; at most 1 MB", ACTIONS, "empty"),
    honoured("http.delegate", "the rules of another VirtualService, narrowed by the match", DELEGATES),
    honoured("http.rewrite.uri", "replaces the prefix that matched, or the whole path", ACTIONS),
    honoured("http.rewrite.authority", "replaces Host", ACTIONS),
    honoured("http.rewrite.uriRegexRewrite", "replaces every match in the path", ACTIONS),
    honoured("http.timeout", "for the whole call with its retries: 504 UT", FAULTS_AND_TIMEOUTS, "none"),
    honoured("http.retries.attempts", "retries after the first attempt", OUTBOUND_RETRIES, "2"),
    honoured("http.retries.perTryTimeout", "for the head of each attempt's response", FAULTS_AND_TIMEOUTS, "timeout"),
    honoured(
        "http.retries.retryOn",
        "Envoy's conditions and status codes",
        "tests/differential/test_against_envoy.py",
        "connect-failure, refused-stream, unavailable, cancelled",
    ),
    honoured("http.retries.backoff", "base of the randomized exponential backoff", OUTBOUND_RETRIES, "25ms"),
    honoured(
        "http.retries.retryIgnorePreviousHosts",
        "up to 5 re-picks to avoid endpoints tried",
        OUTBOUND_RETRIES,
        "true; false of a sole destination with consistentHash",
    ),
    honoured(
        "http.retries.retryRemoteLocalities", "every second retry leaves the priorities tried", BALANCING, "false"
    ),
    honoured("http.fault.delay.fixedDelay", "before the call, once", FAULTS_AND_TIMEOUTS),
    honoured("http.fault.delay.percentage", "share of calls", FAULTS_AND_TIMEOUTS, "0"),
    honoured("http.fault.delay.percent", "percentage, deprecated", "tests/resources/test_validation.py"),
    honoured("http.fault.delay.exponentialDelay", "refused, as in Istio", VALIDATION),
    honoured("http.fault.abort.httpStatus", "sent instead of calling", FAULTS_AND_TIMEOUTS),
    honoured(
        "http.fault.abort.grpcStatus",
        "the status of gRPC calls; HTTP calls get the HTTP status it maps to",
        "tests/transport/grpcio/client/test_faults.py",
    ),
    honoured("http.fault.abort.http2Error", "refused, as in Istio", VALIDATION),
    honoured("http.fault.abort.percentage", "share of calls, drawn apart from the delay", FAULTS_AND_TIMEOUTS, "0"),
    approximated(
        "http.fault.abort.percent",
        "read as percentage",
        VALIDATION,
        "Istio removed it and reads it as 0 %; files meant it",
    ),
    *mounted("http.mirror", DESTINATION),
    honoured("http.mirrorPercentage", "share of calls that are copied", MIRROR, "100"),
    honoured("http.mirrorPercent", "mirrorPercentage, deprecated", MIRROR),
    *mounted("http.mirrors.destination", DESTINATION),
    honoured("http.mirrors.percentage", "share of calls, drawn for each mirror", MIRROR, "100"),
    honoured("http.corsPolicy.allowOrigins", "who may read the responses", CORS, "none"),
    honoured("http.corsPolicy.allowOrigin", "exact origins, deprecated", CORS),
    honoured("http.corsPolicy.allowMethods", "of preflights; * echoes", CORS),
    honoured("http.corsPolicy.allowHeaders", "of preflights; * echoes", CORS),
    honoured("http.corsPolicy.exposeHeaders", "of actual requests", CORS),
    honoured("http.corsPolicy.maxAge", "of preflights, whole seconds", CORS),
    honoured("http.corsPolicy.allowCredentials", "true says so", CORS, "false"),
    honoured("http.corsPolicy.unmatchedPreflights", "FORWARD or IGNORE", CORS, "FORWARD"),
    not_here("tls.match.sniHosts", "TLS connections are the proxy's", "compiled: the most specific name decides", L4),
    *mounted("tls.match", L4_MATCH),
    *mounted("tls", L4_ROUTE),
    not_here("tcp.match.sourceSubnet", "TCP connections are the proxy's", "compiled: the client's address", L4),
    *mounted("tcp.match", L4_MATCH),
    *mounted("tcp", L4_ROUTE),
)
