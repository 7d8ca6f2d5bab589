"""ServiceEntry, WorkloadEntry, WorkloadGroup, Sidecar, Gateway, EnvoyFilter, ProxyConfig, LocalEndpoints, field by field."""

from __future__ import annotations

from meshlib.compiler.semantics.table import Row, approximated, honoured, ignored, mounted, not_here

DEFINITIONS = "tests/registry/test_definitions.py"
REGISTRY = "tests/registry/test_registry.py"
BALANCING = "tests/engine/test_balancing.py"
NAMES = "tests/transport/upstream/test_names.py"
SIDECARS = "tests/compiler/test_sidecars.py"
EGRESS = "tests/compiler/test_sidecar_listeners.py"
GATEWAYS = "tests/compiler/test_gateways.py"
GATEWAY_PORTS = "tests/compiler/test_gateway_ports.py"
_PROXYS = "gateways are the proxy's"
MESH_TLS = "tests/compiler/test_mesh_tls.py"
INBOUND = "tests/compiler/test_inbound_faults.py"
LOCAL = "tests/registry/test_local.py"

WORKLOAD: tuple[Row, ...] = (
    honoured("address", "IP, name or unix:// path", REGISTRY),
    honoured("labels", "what subsets and selectors look at", REGISTRY),
    honoured("ports", "numbers by the service port's name", REGISTRY),
    honoured("weight", "share among the endpoints", "tests/differential/test_choices.py", "1"),
    honoured("locality", "region/zone/subzone", "tests/registry/test_registry.py"),
    approximated(
        "network", "for failoverPriority", REGISTRY, "no gateway is put between networks: addresses are dialled"
    ),
    honoured(
        "serviceAccount",
        "the identity that the server must have over mTLS; with it, and no tlsMode label, mTLS is used",
        MESH_TLS,
    ),
)

SERVICE_ENTRY: tuple[Row, ...] = (
    honoured(
        "hosts", "names that clients dial; wildcards cover; several entries of one host are put together", DEFINITIONS
    ),
    approximated("addresses", "IPs that clients may dial", REGISTRY, "a CIDR is for TCP, which is the proxy's"),
    honoured("ports.number", "the port dialled", REGISTRY),
    honoured("ports.name", "what endpoints' ports name", REGISTRY),
    honoured("ports.protocol", "HTTP2 and GRPC: HTTP/2 to the endpoints", REGISTRY),
    honoured("ports.targetPort", "the endpoints' port; with resolution NONE the one dialled", REGISTRY, "number"),
    honoured("location", "inside or outside of the mesh", REGISTRY, "MESH_EXTERNAL"),
    honoured(
        "resolution",
        "STATIC, DNS (every address), DNS_ROUND_ROBIN (one), NONE and DYNAMIC_DNS (what the URL names)",
        NAMES,
    ),
    *mounted("endpoints", WORKLOAD),
    honoured("workloadSelector.labels", "WorkloadEntries and Pods of the namespace", REGISTRY),
    honoured("exportTo", "namespaces whose clients see it", DEFINITIONS, "all"),
    honoured(
        "subjectAltNames",
        "identities that the server may have under TLS of every mode, besides the endpoints' service accounts, unless a "
        "DestinationRule names some",
        MESH_TLS,
        "under SIMPLE and MUTUAL the name that is asked for",
    ),
)

WORKLOAD_GROUP: tuple[Row, ...] = (
    not_here(
        "metadata", "a template for WorkloadEntries, which istiod makes as machines join; there is no istiod here"
    ),
    not_here(
        "template", "a template for WorkloadEntries, which istiod makes as machines join; there is no istiod here"
    ),
    not_here("probe", "the agent on the machine probes, and says so in its WorkloadEntry"),
)

SIDECAR: tuple[Row, ...] = (
    honoured("workloadSelector.labels", "workloads it is for, before those without", SIDECARS),
    honoured("egress.hosts", "services and VirtualServices in sight", EGRESS, "*/*"),
    honoured("egress.port.number", "all there is on this port", EGRESS, "all"),
    honoured("egress.port.protocol", "whether http rules act there, whatever services declare", EGRESS),
    not_here("egress.port", "names of listeners, which meshlib does not have"),
    honoured("egress.bind", "calls to services do not arrive there: they find nothing", EGRESS),
    honoured("egress.captureMode", "NONE: as with bind", EGRESS, "DEFAULT"),
    honoured(
        "outboundTrafficPolicy.mode",
        "unknown hosts: ALLOW_ANY passes them through, REGISTRY_ONLY responds 502",
        SIDECARS,
        "ALLOW_ANY",
    ),
    honoured("outboundTrafficPolicy.egressProxy", "where unknown hosts go", SIDECARS),
    not_here("ingress", "what a server takes in: the inbound release"),
    not_here("inboundConnectionPool", "what a server takes in: the inbound release"),
)

GATEWAY: tuple[Row, ...] = (
    not_here("selector", _PROXYS, "meshlib proxy --gateways: workloads that serve it", GATEWAYS),
    not_here("servers.port", _PROXYS, "meshlib proxy --gateway: the port served", GATEWAYS),
    not_here("servers.hosts", _PROXYS, "meshlib proxy --gateway: hosts let in", GATEWAYS),
    not_here("servers.tls.httpsRedirect", _PROXYS, "meshlib proxy --gateway: 301 to https", GATEWAYS),
    not_here(
        "servers.tls",
        _PROXYS,
        "meshlib proxy --gateway: certificates, versions, clients; not ecdhCurves",
        "tests/proxy/test_gateway_tls.py",
    ),
    not_here("servers.name", "it names statistics in Istio, too"),
    not_here("servers.bind", _PROXYS, "meshlib proxy --gateway: the address, unless unix:", GATEWAY_PORTS),
    not_here("servers.defaultEndpoint", "Istio does not implement it either"),
)

ENVOY_FILTER: tuple[Row, ...] = (
    approximated(
        "configPatches",
        "at servers (SIDECAR_INBOUND): envoy.filters.http.fault, local_ratelimit and ratelimit, merged or inserted; "
        "rate_limits and typed_per_filter_config of HTTP_ROUTE and VIRTUAL_HOST; at gateways the first two and the listener "
        "filter proxy_protocol",
        INBOUND,
        "other patches are of Envoy's own configuration; a notice names each. Faults come after checks, wherever inserted",
    ),
    honoured("priority", "order of patches: the lower first", INBOUND, "0"),
    ignored("targetRefs", "they are gateways and waypoints"),
    honoured(
        "workloadSelector.labels", "workloads it is for; in the root namespace, of every namespace", INBOUND, "all"
    ),
)

PROXY_CONFIG: tuple[Row, ...] = (
    not_here("concurrency", "threads of a proxy; a library runs in its program's"),
    approximated(
        "environmentVariables",
        "what customTags of the kind environment read, before the program's own variables",
        "tests/compiler/telemetry/test_proxies.py",
        "nothing else reads them: there is no proxy",
    ),
    not_here("image", "container image of a proxy"),
    honoured(
        "selector.matchLabels",
        "workloads it is for, after those of their namespace and of the root namespace",
        "tests/compiler/telemetry/test_proxies.py",
        "all of the namespace",
    ),
)

LOCAL_ENDPOINTS: tuple[Row, ...] = (
    honoured("hosts.host", "whose endpoints these are, and no others; a service, if nothing defines it", LOCAL),
    honoured(
        "hosts.subset",
        "the addresses have the labels that the client's DestinationRule gives it",
        "tests/mesh/test_endpoints.py",
        "no labels",
    ),
    honoured("hosts.port", "the port of the service that the addresses are for", LOCAL, "by the addresses' ports"),
    honoured("hosts.addresses", "IP, name or unix:// path, with a port of its own or the service's", LOCAL),
)
