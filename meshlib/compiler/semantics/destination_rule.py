"""DestinationRule, field by field. The traffic policy is written once and stands at four places."""

from __future__ import annotations

from meshlib.compiler.semantics.table import Row, approximated, honoured, ignored, mounted, not_here

COMPILE = "tests/compiler/test_compile.py"
VISIBILITY = "tests/compiler/test_destination_rule_visibility.py"
BALANCING = "tests/engine/test_balancing.py"
CHOICES = "tests/differential/test_choices.py"
HASHES = "tests/differential/test_hash_choices.py"
EJECTIONS = "tests/differential/test_ejection_choices.py"
OUTLIER = "tests/policy/test_outlier.py"
LIMITS = "tests/engine/test_outbound_limits.py"
H2_CALLS = "tests/transport/upstream/test_http2_calls.py"
CONNECTIONS = "tests/mesh/test_connections.py"

LEVEL: tuple[Row, ...] = (
    honoured(
        "loadBalancer.simple",
        "ROUND_ROBIN, LEAST_REQUEST (of two), RANDOM; PASSTHROUGH dials what the URL names",
        CHOICES,
        "LEAST_REQUEST",
    ),
    honoured("loadBalancer.consistentHash.httpHeaderName", "Envoy's hash of its value; absent: any endpoint", HASHES),
    honoured("loadBalancer.consistentHash.httpQueryParameterName", "the first value", BALANCING),
    honoured("loadBalancer.consistentHash.httpCookie.name", "its value", BALANCING),
    honoured(
        "loadBalancer.consistentHash.httpCookie.ttl",
        "one is made when there is none; 0s: of the session",
        BALANCING,
    ),
    honoured("loadBalancer.consistentHash.httpCookie.path", "of a made cookie", BALANCING),
    honoured("loadBalancer.consistentHash.httpCookie.attributes", "of a made cookie", BALANCING),
    approximated(
        "loadBalancer.consistentHash.useSourceIp",
        "the workload's own address (Workload.address), or its name",
        BALANCING,
        "there is no connection from caller to mesh whose address could count",
    ),
    honoured("loadBalancer.consistentHash.ringHash", "Envoy's ring", HASHES, "1024"),
    honoured("loadBalancer.consistentHash.minimumRingSize", "ringHash.minimumRingSize, deprecated", COMPILE),
    honoured("loadBalancer.consistentHash.maglev", "Envoy's table", HASHES, "65537"),
    honoured("loadBalancer.localityLbSetting.enabled", "false: localities do not count", COMPILE, "true"),
    honoured("loadBalancer.localityLbSetting.distribute", "weights of localities; others get nothing", BALANCING),
    honoured("loadBalancer.localityLbSetting.failover", "the region that comes next", "tests/policy/test_locality.py"),
    honoured(
        "loadBalancer.localityLbSetting.failoverPriority", "labels that count in order", "tests/policy/test_locality.py"
    ),
    honoured("loadBalancer.warmup.duration", "a new endpoint's share grows this long", BALANCING),
    honoured("loadBalancer.warmup.minimumPercent", "where it begins", BALANCING, "10"),
    honoured(
        "loadBalancer.warmup.aggression", "the curve; 1 is a straight line", "tests/policy/test_slow_start.py", "1"
    ),
    honoured("loadBalancer.warmupDurationSecs", "warmup.duration, deprecated", COMPILE),
    ignored("loadBalancer.zoneAwareLbSetting", "zone aware routing needs to know how many callers each zone has"),
    ignored("loadBalancer.backendUtilization", "load reports of backends (ORCA) are not read"),
    honoured(
        "connectionPool.tcp.maxConnections",
        "connections of the cluster; more calls wait in line, tunnels of the proxy get 503",
        LIMITS,
        "no limit",
    ),
    honoured("connectionPool.tcp.connectTimeout", "TCP and TLS, name look-up included", CONNECTIONS, "10s"),
    honoured("connectionPool.tcp.idleTimeout", "idle connections are closed", CONNECTIONS, "1h"),
    honoured("connectionPool.tcp.maxConnectionDuration", "older connections take no new calls", CONNECTIONS, "none"),
    honoured("connectionPool.tcp.tcpKeepalive", "probes of the system", CONNECTIONS, "off"),
    honoured("connectionPool.http.http1MaxPendingRequests", "the line; more: 503 UO", LIMITS, "no limit"),
    honoured("connectionPool.http.http2MaxRequests", "calls under way; more: 503 UO", LIMITS, "no limit"),
    honoured("connectionPool.http.maxRequestsPerConnection", "then a new connection", CONNECTIONS, "no limit"),
    honoured(
        "connectionPool.http.maxRetries", "retries under way", "tests/engine/test_outbound_retries.py", "no limit"
    ),
    honoured("connectionPool.http.idleTimeout", "idle connections are closed", CONNECTIONS, "1h"),
    honoured(
        "connectionPool.http.h2UpgradePolicy",
        "UPGRADE: HTTP/2, except to ports that declare no protocol",
        "tests/compiler/test_http2_of_clusters.py",
        "DEFAULT: as the port says",
    ),
    approximated(
        "connectionPool.http.useClientProtocol",
        "meshlib proxy: HTTP/2 for requests that came over it; else HTTP/1.1",
        H2_CALLS,
        "in a library there is no protocol between caller and mesh to follow",
    ),
    honoured(
        "connectionPool.http.maxConcurrentStreams",
        "streams of an HTTP/2 connection",
        "tests/transport/upstream/test_http2_shared_connections.py",
        "the server's",
    ),
    ignored(
        "connectionPool.http.http2KeepAlive", "HTTP/2 connections are not pinged; a dead one shows at its next use"
    ),
    honoured("outlierDetection.consecutive5xxErrors", "5xx in a row", EJECTIONS, "5"),
    honoured("outlierDetection.consecutiveGatewayErrors", "502, 503, 504 in a row", EJECTIONS, "off"),
    approximated(
        "outlierDetection.consecutiveErrors",
        "read as consecutiveGatewayErrors",
        "tests/resources/test_validation.py",
        "Istio ignores it today; files that have it meant gateway errors",
    ),
    honoured(
        "outlierDetection.consecutiveLocalOriginFailures", "connect failures, resets, timeouts in a row", EJECTIONS, "5"
    ),
    honoured("outlierDetection.splitExternalLocalOriginErrors", "an account of their own", EJECTIONS, "false"),
    honoured("outlierDetection.interval", "when ejected endpoints may come back", OUTLIER, "10s"),
    honoured("outlierDetection.baseEjectionTime", "times the ejections so far", OUTLIER, "30s"),
    honoured("outlierDetection.maxEjectionPercent", "a strict cap", EJECTIONS, "10"),
    honoured("outlierDetection.minHealthPercent", "fewer: all endpoints are used", COMPILE, "0: never"),
    honoured("outlierDetection.outlierDetectionHttpErrorCodes", "instead of all 5xx", BALANCING, "5xx"),
    honoured(
        "tls.mode",
        "DISABLE, SIMPLE, MUTUAL, ISTIO_MUTUAL (by our SVID; without one calls fail, UF); any tls block turns auto mTLS off",
        "tests/compiler/test_mesh_tls.py",
        "auto mTLS",
    ),
    honoured("tls.caCertificates", "who may sign the server's certificate", "tests/mesh/test_tls.py", "the system's"),
    honoured("tls.caCrl", "revoked certificates", "tests/mesh/test_tls.py"),
    honoured("tls.clientCertificate", "ours", "tests/mesh/test_tls.py"),
    honoured("tls.privateKey", "its key", "tests/mesh/test_tls.py"),
    honoured("tls.sni", "server name asked for", "tests/mesh/test_tls.py", "Host"),
    honoured("tls.subjectAltNames", "names that the server may have", "tests/mesh/test_tls.py", "Host"),
    honoured("tls.insecureSkipVerify", "any certificate", "tests/mesh/test_tls.py", "false"),
    approximated(
        "tls.credentialName",
        "roots, certificate and key of a Secret of the workload's namespace (ca.crt, tls.crt, tls.key; cacert, cert, key)",
        "tests/mesh/test_tls_secrets.py",
        "ConfigMaps are not read; it acts without a workloadSelector, too",
    ),
)

ROWS: tuple[Row, ...] = (
    honoured("host", "the service; exact before wildcard; client's, service's, root namespace", VISIBILITY),
    honoured(
        "exportTo", "namespaces whose clients obey; rules of one host merge where it is the same", VISIBILITY, "all"
    ),
    honoured("workloadSelector.matchLabels", "clients that obey", COMPILE, "all"),
    honoured("subsets.name", "what routes name", COMPILE),
    honoured("subsets.labels", "endpoints that belong", COMPILE, "all"),
    *(
        row
        for place in ("trafficPolicy", "subsets.trafficPolicy")
        for row in (
            *mounted(place, LEVEL),
            honoured(f"{place}.portLevelSettings.port", "the port whose policy this is, whole", COMPILE),
            *mounted(f"{place}.portLevelSettings", LEVEL),
            honoured(f"{place}.retryBudget.percent", "retries under way, of active calls", BALANCING, "20"),
            honoured(f"{place}.retryBudget.minRetryConcurrency", "retries that may always run", BALANCING, "3"),
            ignored(f"{place}.retryBudget.budgetInterval", "Envoy's budget is of the moment, it has no interval"),
            not_here(
                f"{place}.proxyProtocol", "a header of connections that a proxy forwards; `meshlib proxy` sends it"
            ),
            not_here(f"{place}.tunnel", "TCP connections through HTTP CONNECT are the proxy's"),
        )
    ),
)
