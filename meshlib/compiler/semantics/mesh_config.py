"""What each field of MeshConfig does, of the ConfigMap ``istio`` or of a resource of its own."""

from __future__ import annotations

from meshlib.compiler.semantics.table import Row, approximated, honoured, ignored, not_here

SETTINGS = "tests/compiler/test_mesh_settings.py"
CUSTOM = "tests/mesh/test_custom_policies.py"
COMPILED = "tests/compiler/test_custom.py"
METRICS = "tests/compiler/telemetry/test_metrics.py"
SPANS = "tests/compiler/telemetry/test_tracing.py"
LOGS = "tests/compiler/telemetry/test_logs.py"
PROVIDERS = "tests/compiler/telemetry/test_providers.py"
HEADERS = "tests/compiler/test_proxy_headers.py"
TOPOLOGY = "tests/compiler/test_gateway_topology.py"
PROXIES = "tests/compiler/telemetry/test_proxies.py"
EXCHANGE = "tests/telemetry/test_peer_metadata_exchange.py"
INGRESSES = "tests/compiler/test_ingresses.py"
DETECTION = "tests/proxy/test_protocol_detection.py"
_AUTHORIZER = "an authorizer of AuthorizationPolicies with action CUSTOM"
_PROXY = "about proxies, which meshlib does not have"
_TELEMETRY = "traces, logs and metrics of proxies: a library has its program's"
_ISTIOD = "about istiod, which meshlib does not use"
_EXPORT = "what is not exported expressly is exported to all"

ROWS: tuple[Row, ...] = (
    honoured("rootNamespace", "resources of this namespace are for the whole mesh", SETTINGS, "istio-system"),
    honoured(
        "trustDomain", "of this workload, unless Workload (MESHLIB_TRUST_DOMAIN) names one", SETTINGS, "cluster.local"
    ),
    honoured("trustDomainAliases", "identities of these trust domains count as those of trustDomain", SETTINGS),
    honoured(
        "pathNormalization.normalization",
        "what AuthorizationPolicies see of a path; in a proxy, also what rules see",
        SETTINGS,
        "BASE",
    ),
    honoured("outboundTrafficPolicy.mode", "unknown hosts, unless a Sidecar says it", SETTINGS, "ALLOW_ANY"),
    ignored("outboundTrafficPolicy.tls", "hosts outside the mesh are called as the caller says"),
    honoured("defaultHttpRetryPolicy", "of routes that say nothing of retries", SETTINGS, "2 attempts"),
    honoured("extensionProviders.name", "what AuthorizationPolicies call it", SETTINGS),
    honoured("extensionProviders.envoyExtAuthzHttp", f"{_AUTHORIZER}, asked over HTTP", CUSTOM),
    honoured("extensionProviders.envoyExtAuthzGrpc", f"{_AUTHORIZER}, asked over gRPC", CUSTOM),
    *(
        approximated(
            f"extensionProviders.{kind}.includeRequestBodyInCheck",
            "the authorizer sees the beginning of bodies",
            CUSTOM,
            "gRPC servers do not expose bodies: there its requests are refused",
        )
        for kind in ("envoyExtAuthzHttp", "envoyExtAuthzGrpc")
    ),
    approximated(
        "extensionProviders.envoyExtAuthzHttp.includeAdditionalHeadersInCheck",
        "fixed headers for the authorizer",
        COMPILED,
        "a value with a format of Envoy's (%) makes the provider unusable",
    ),
    ignored("extensionProviders.envoyExtAuthzHttp.clearRouteCache", "the application has its own router"),
    ignored("extensionProviders.envoyExtAuthzGrpc.clearRouteCache", "the application has its own router"),
    *(
        ignored(f"extensionProviders.{kind}", _TELEMETRY)
        for kind in (
            "lightstep",
            "stackdriver",
            "opencensus",
            "envoyHttpAls",
            "envoyTcpAls",
        )
    ),
    *(
        approximated(
            f"extensionProviders.{kind}",
            "spans may name it",
            PROVIDERS,
            "they go where the program's own tracer provider sends them",
        )
        for kind in ("zipkin", "opentelemetry", "datadog", "skywalking")
    ),
    *(
        honoured(f"extensionProviders.{kind}.maxTagLength", "of a path that becomes an attribute", SPANS, "256")
        for kind in ("zipkin", "opentelemetry", "datadog")
    ),
    approximated(
        "extensionProviders.opentelemetry.dynatraceSampler",
        "percentages of sampling do not count",
        SPANS,
        "the sampler of the program's own tracer provider decides",
    ),
    *(
        ignored(f"extensionProviders.{kind}.dynatraceSampler", "Istio does not have it there")
        for kind in ("zipkin", "datadog")
    ),
    honoured("extensionProviders.prometheus", "metrics may name it: they are recorded then", PROVIDERS),
    honoured("extensionProviders.envoyFileAccessLog.path", "the file, or /dev/stdout", LOGS, "/dev/stdout"),
    honoured("extensionProviders.envoyFileAccessLog.logFormat.text", "a line, in Envoy's operators", LOGS),
    honoured("extensionProviders.envoyFileAccessLog.logFormat.labels", "JSON with these keys", LOGS),
    honoured("extensionProviders.envoyFileAccessLog.omitEmptyValues", "what is not there is left out", LOGS, "false"),
    *(
        honoured(f"extensionProviders.envoyOtelAls.{field}", does, LOGS)
        for field, does in (
            ("service", "the collector's host"),
            ("port", "the collector's port"),
            ("logName", "the name of the log"),
            ("logFormat.text", "bodies of records"),
            ("logFormat.labels", "attributes of records"),
        )
    ),
    ignored("extensionProviders.sds", "secrets come from files"),
    honoured("defaultProviders.tracing", "where no Telemetry names one: the first", SPANS),
    honoured("defaultProviders.metrics", "where no Telemetry names one", METRICS, "prometheus"),
    honoured("defaultProviders.accessLogging", "where no Telemetry names one", LOGS),
    not_here("defaultConfig", _PROXY),
    approximated(
        "defaultConfig.proxyMetadata",
        "what customTags of the kind environment read, before the program's own variables",
        PROXIES,
        "nothing else reads it: there is no proxy",
    ),
    approximated(
        "defaultConfig.tracing.sampling",
        "share of calls that are sampled, unless a Telemetry says it",
        PROXIES,
        "without it the program's own sampler decides; istiod has 1 % (its PILOT_TRACE_SAMPLING)",
    ),
    honoured("defaultConfig.tracing.customTags", "attributes of every span, unless a Telemetry says it", PROXIES),
    honoured("defaultConfig.tracing.maxPathTagLength", "of a path that becomes an attribute", PROXIES, "256"),
    honoured("defaultConfig.tracing.enableIstioTags", "attributes istio.*, where no Telemetry counts", PROXIES, "true"),
    approximated(
        "defaultConfig.proxyHeaders.metadataExchangeHeaders.mode",
        "IN_MESH: workloads of the mesh tell each other who they are, for labels of metrics",
        EXCHANGE,
        "off unless IN_MESH is said: UNDEFINED, which is Istio's default, tells everybody, outside the mesh as well",
        "UNDEFINED",
    ),
    honoured(
        "defaultConfig.gatewayTopology.numTrustedProxies",
        "meshlib proxy --gateway: proxies in front of it whose X-Forwarded-For and X-Forwarded-Proto count",
        TOPOLOGY,
        "0",
    ),
    honoured(
        "defaultConfig.gatewayTopology.forwardClientCertDetails",
        "meshlib proxy --gateway: X-Forwarded-Client-Cert",
        TOPOLOGY,
        "SANITIZE_SET",
    ),
    *(
        honoured(f"defaultConfig.proxyHeaders.{field}", does, HEADERS, default)
        for field, does, default in (
            ("forwardedClientCert", "meshlib proxy --inbound: X-Forwarded-Client-Cert", "APPEND_FORWARD"),
            ("setCurrentClientCertDetails", "what is in an element of it", "subject, uri, dns"),
            ("server", "meshlib proxy --inbound: the header of responses", "istio-envoy"),
            ("envoyDebugHeaders", "meshlib proxy: x-envoy-upstream-service-time, x-envoy-overloaded", "enabled"),
            ("requestId", "meshlib proxy: an x-request-id for requests without one", "enabled"),
            ("attemptCount", "meshlib proxy --outbound, --gateway: x-envoy-attempt-count", "enabled"),
            ("xForwardedHost", "the Host that a rule with rewrite replaces, in X-Forwarded-Host", "disabled"),
            ("xForwardedPort", "meshlib proxy --gateway: X-Forwarded-Port; sidecars, as Istio's, say none", "disabled"),
        )
    ),
    *(not_here(field, _PROXY) for field in ("proxyListenPort", "proxyInboundListenPort", "proxyHttpPort")),
    ignored("connectTimeout", "10 s, or what a DestinationRule says"),
    ignored("hboneIdleTimeout", "there is no HBONE"),
    honoured(
        "protocolDetectionTimeout",
        "meshlib proxy --transparent: how long a client is waited for whose first bytes decide; then it is one of TCP",
        DETECTION,
        "0s: without end",
    ),
    ignored("tcpKeepalive", "only a DestinationRule's acts"),
    *(
        not_here(field, "Ingresses are the proxy's", "meshlib proxy --gateways: which it serves", INGRESSES)
        for field in ("ingressClass", "ingressService", "ingressControllerMode", "ingressSelector")
    ),
    *(
        ignored(field, _TELEMETRY)
        for field in (
            "enableEnvoyAccessLogService",
            "disableEnvoyListenerLog",
            "inboundClusterStatName",
            "outboundClusterStatName",
            "enablePrometheusMerge",
        )
    ),
    honoured("enableTracing", "false: no spans, unless a Telemetry or a default provider is about them", SPANS, "true"),
    honoured("accessLogFile", "where calls are logged, unless Telemetry or a default provider says it", LOGS, "off"),
    honoured("accessLogFormat", "of that log, and of the provider envoy", LOGS, "Istio's"),
    honoured("accessLogEncoding", "TEXT or JSON", LOGS, "TEXT"),
    not_here("inboundTrafficPolicy", _PROXY),
    not_here("configSources", _ISTIOD),
    honoured(
        "enableAutoMtls",
        "mTLS to endpoints that take it, if we have a certificate",
        "tests/compiler/test_mesh_tls.py",
        "true",
    ),
    ignored("caCertificates", "roots come with the identity (Mesh(identity=...))"),
    not_here("certificates", _ISTIOD),
    ignored("verifyCertificateAtClient", "servers are always verified"),
    not_here("ca", _ISTIOD),
    honoured(
        "meshMTLS.minProtocolVersion",
        "oldest TLS of our servers under mTLS of the mesh, of new connections; clients take 1.2, too, as in Istio",
        "tests/serving/test_tls_minimum.py",
        "TLSV1_2",
    ),
    ignored("meshMTLS", "mTLS has Mozilla's intermediate suites and curves"),
    ignored(
        "tlsDefaults",
        "of clients: TLS has 1.2 at least, and Python's suites; there are no servers of SIMPLE and MUTUAL",
    ),
    ignored("defaultServiceExportTo", _EXPORT),
    ignored("defaultVirtualServiceExportTo", _EXPORT),
    ignored("defaultDestinationRuleExportTo", _EXPORT),
    ignored("localityLbSetting", "only a DestinationRule's acts"),
    ignored("zoneAwareLbSetting", "only a DestinationRule's acts"),
    ignored("dnsRefreshRate", "names are resolved as their TTL says"),
    ignored("h2UpgradePolicy", "only a DestinationRule's acts"),
    ignored("serviceSettings", "there is one cluster"),
    ignored("serviceScopeConfigs", "there is one cluster"),
    not_here("discoverySelectors", _ISTIOD),
    approximated(
        "defaultInboundHttpRetryPolicy",
        "meshlib proxy --inbound: of requests to its application",
        HEADERS,
        "a server of Python calls its application once",
        "2 attempts, reset-before-request",
    ),
    ignored("defaultTrafficPolicy", "only a DestinationRule's acts"),
    ignored("serviceEntryVisibility", _EXPORT),
)
