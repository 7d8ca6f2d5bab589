"""What each field of Telemetry does."""

from __future__ import annotations

from meshlib.compiler.semantics.table import Row, approximated, honoured, ignored, not_here

COMPILED = "tests/compiler/telemetry/test_compile.py"
METRICS = "tests/compiler/telemetry/test_metrics.py"
OVERRIDES = "tests/telemetry/test_overrides_at_work.py"
SPANS = "tests/compiler/telemetry/test_tracing.py"
LOGS = "tests/compiler/telemetry/test_logs.py"
PROVIDERS = "tests/compiler/telemetry/test_providers.py"
CEL = "tests/telemetry/test_cel.py"
BOTH = "CLIENT_AND_SERVER"

ROWS: tuple[Row, ...] = (
    honoured(
        "selector.matchLabels",
        "workloads it is for, after those of their namespace and of the root namespace",
        COMPILED,
        "all of the namespace",
    ),
    ignored("targetRef", "it is a gateway, waypoint or Service"),
    ignored("targetRefs", "they are gateways, waypoints and Services"),
    honoured("metrics.providers.name", "whether Istio's metrics are recorded: one of the kind prometheus", METRICS),
    honoured("metrics.overrides.match.metric", "the metric that an override is about", METRICS, "ALL_METRICS"),
    approximated(
        "metrics.overrides.match.customMetric",
        "one of Istio's metrics by its own name (requests_total)",
        METRICS,
        "there are no others: a warning says so",
    ),
    honoured("metrics.overrides.match.mode", "of calls made (CLIENT), or served (SERVER)", METRICS, BOTH),
    honoured("metrics.overrides.disabled", "the metric is not recorded", OVERRIDES),
    honoured("metrics.overrides.tagOverrides", "labels removed, added, or made by an expression in CEL", OVERRIDES),
    not_here("metrics.reportingInterval", "about TCP connections, which are the proxy's"),
    honoured("tracing.match.mode", "spans of calls made (CLIENT), or served (SERVER)", SPANS, BOTH),
    approximated(
        "tracing.providers.name",
        "one that is not there, or makes no spans, switches them off",
        SPANS,
        "spans go where the program's tracer provider sends them; without a provider they are recorded, too",
    ),
    honoured(
        "tracing.randomSamplingPercentage", "share of calls that are sampled if the caller has not decided", SPANS
    ),
    honoured("tracing.disableSpanReporting", "no spans", SPANS, "false"),
    honoured("tracing.customTags", "attributes of every span; replaced as a whole by a nearer Telemetry", SPANS),
    honoured("tracing.useRequestIdForTraceSampling", "x-request-id carries the decision", SPANS, "true"),
    honoured("tracing.enableIstioTags", "attributes istio.*", SPANS, "true"),
    honoured("tracing.disableContextPropagation", "no trace context is sent with calls", SPANS, "false"),
    honoured("accessLogging.match.mode", "calls made (CLIENT), or served (SERVER)", LOGS, BOTH),
    honoured("accessLogging.providers.name", "where calls are logged, in the provider's format", LOGS),
    honoured("accessLogging.disabled", "the provider's log is off", LOGS, "false"),
    honoured("accessLogging.filter.expression", "CEL: only calls for which it holds are logged", LOGS, "all"),
)
