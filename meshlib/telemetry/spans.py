"""What spans of calls made and of calls served have in common: a tracer, that nothing is done while nobody records, which
calls are sampled, and what is told of a request.

Only opentelemetry-api is used. Until the application installs an SDK, the global provider is a stand-in whose spans nobody
sees: making them anyway would cost a call as much as the whole policy.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Protocol

from meshlib.compiler.snapshot import split_authority
from meshlib.policy.request_ids import SAMPLED, UNDECIDED, is_drawn, is_traced, new_request_id, with_reason
from meshlib.policy.telemetry_settings import TracingSettings
from meshlib.problems import MeshError
from meshlib.telemetry.custom_tags import NOBODY, CustomTags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, SpanKind, TracerProvider

    from meshlib.policy.trace_context import Lookup
    from meshlib.telemetry.propagation import Parent, Propagation
    from meshlib.workload import Workload

EAGER_LOOKS = 100
LOOK_EVERY = 50
"""After so many calls that looked for an SDK, one call of so many looks."""

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))
"""Methods that OpenTelemetry's conventions know; any other is "_OTHER" there."""

MAX_PLACES = 1000
LONGEST_PLACE = 255
"""Characters of an authority that is remembered."""
AS_IT_IS = TracingSettings()

Attributes = dict[str, str | int | bool]


class Told(Protocol):
    """What a span tells of a request."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> str: ...
    @property
    def scheme(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    def header(self, name: str, /) -> str | None: ...


class InTrace:
    """A ``span`` of OpenTelemetry's, and where it is in its trace."""

    __slots__ = ("span",)

    span: Span

    @property
    def trace_id(self) -> int:
        """Of its trace, which access logs and exemplars name."""
        return self.span.get_span_context().trace_id

    @property
    def span_id(self) -> int:
        """Its own."""
        return self.span.get_span_context().span_id


class Spans:
    """``unrecorded``: how many calls may pass before the next look for an SDK; counted down by whoever begins calls."""

    __slots__ = (
        "_kind",
        "_looks",
        "_places",
        "_propagation",
        "_proxy",
        "_rng",
        "_seed",
        "_settings",
        "_static",
        "_tags",
        "_trace",
        "_tracer",
        "_workload",
        "makes_ids",
        "unrecorded",
    )

    _settings: TracingSettings
    makes_ids: bool
    """Whether requests get an id although nobody records: the resources speak of tracing."""

    def __init__(
        self, provider: TracerProvider | None, kind: SpanKind, workload: Workload | None = None, seed: int | None = None
    ) -> None:
        from opentelemetry import trace

        self._trace = trace
        try:
            self._tracer = trace.get_tracer("meshlib", tracer_provider=provider)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"[:300]
            raise MeshError(
                f"tracer_provider={provider!r} gives no tracer ({said}): give an opentelemetry.sdk.trace.TracerProvider, or "
                f"nothing, for the one of the program"
            ) from error
        self._kind = kind
        self._proxy = trace.ProxyTracerProvider if provider is None else None
        self._looks = 0
        self._workload = workload
        self._seed = seed
        # of its own: a mesh with a seed decides the same whether or not anybody traces it
        self._rng = random.Random(None if seed is None else f"tracing {seed}")
        self._places: dict[tuple[str, str], tuple[str, int]] = {}
        self.unrecorded = 0
        self.reconfigured(AS_IT_IS)

    def reconfigured(self, settings: TracingSettings) -> None:
        """Spans are made by ``settings`` from now on."""
        provider = settings.provider
        self._settings = settings
        self._propagation: Propagation | None = None
        self._tags = CustomTags(settings.custom_tags, self._node(settings))
        self._static: Attributes = {**_istio_tags(self._workload, settings), **self._tags.always}
        self.makes_ids = provider is not None or settings.sampling is not None
        if self.makes_ids:
            self.unrecorded = 0

    def _node(self, settings: TracingSettings) -> Mapping[str, object]:
        """What expressions in formats read of the workload."""
        if self._workload is None or not any(tag.kind == "formatter" for tag in settings.custom_tags):
            return NOBODY
        from meshlib.telemetry.attributes import node_of

        return node_of(self._workload)

    @property
    def propagation(self) -> Propagation:
        """How contexts are read and written. OpenTelemetry's propagators are loaded only now, when somebody records."""
        found = self._propagation
        if found is None:
            from meshlib.telemetry.propagation import Propagation

            provider = self._settings.provider
            found = self._propagation = Propagation("" if provider is None else provider.kind)
        return found

    def after_fork(self) -> None:
        """In a forked child: its ids are not its parent's, nor its siblings'."""
        self._rng = random.Random(None if self._seed is None else f"tracing {self._seed} {os.getpid()}")

    def nobody_records(self) -> bool:
        """Whether there is no SDK. Asking OpenTelemetry costs two looks into os.environ, as much as a balancer: once an
        application is under way without one, few calls ask."""
        if self._proxy is None:
            return False
        if self.unrecorded > 0:
            self.unrecorded -= 1
            return True
        if type(self._trace.get_tracer_provider()) is not self._proxy:
            self._proxy = None
            return False
        self._looks += 1
        if self._looks >= EAGER_LOOKS and not self.makes_ids:
            self.unrecorded = LOOK_EVERY - 1
        return True

    # -- ids and sampling ---------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        """An x-request-id."""
        return new_request_id(self._rng)

    def samples(self, request_id: str, parent: Parent) -> bool:
        """Whether a trace that begins here is to be sampled: as its caller says, else as its x-request-id does, else by the
        percentage of the settings. Without one all are, as far as the SDK's own sampler lets them."""
        settings = self._settings
        if parent.sampled is not None:
            return parent.sampled
        if settings.use_request_id and is_traced(request_id):
            return True
        if settings.sampling is None:
            return True
        drawn = is_drawn(request_id, settings.sampling) if settings.use_request_id else None
        return self._rng.random() * 100 < settings.sampling if drawn is None else drawn

    def with_decision(self, request_id: str, sampled: bool) -> str:
        """An id that was made here, with the decision in it."""
        if len(request_id) != 36 or not self._settings.use_request_id:
            return request_id
        return with_reason(request_id, SAMPLED if sampled else UNDECIDED)

    def not_sampled(self) -> Span:
        """Stands for the span of a call that begins a trace which is not sampled: its context goes on with all that it
        causes."""
        trace = self._trace
        ids = self._rng.getrandbits(128) or 1, self._rng.getrandbits(64) or 1
        made: Span = trace.NonRecordingSpan(trace.SpanContext(*ids, is_remote=False, trace_flags=trace.TraceFlags(0)))
        return made

    def parent_of(self, span: SpanContext, sampled: bool) -> Span:
        """Stands for the caller's span. ``sampled``: what was decided where the caller has left that open."""
        trace = self._trace
        if span.trace_flags.sampled != sampled:
            flags = trace.TraceFlags(span.trace_flags | 1 if sampled else span.trace_flags & ~1)
            span = trace.SpanContext(span.trace_id, span.span_id, True, flags, span.trace_state)
        made: Span = trace.NonRecordingSpan(span)
        return made

    # -- making them --------------------------------------------------------------------------------------------------

    @property
    def tells(self) -> bool:
        """Whether contexts are sent on."""
        return self._settings.propagates

    def begin(self, name: str, context: Context, told: Attributes) -> Span:
        """A span below that of a context."""
        return self._tracer.start_span(name, context, self._kind, told)

    def in_context(self, span: Span, context: Context) -> Context:
        """The context with this span as the current one."""
        return self._trace.set_span_in_context(span, context)

    def fail(self, span: Span, why: str, detail: str = "") -> None:
        """Mark a span as failed: ``why`` is a word of few, ``detail`` says it to a person."""
        span.set_attribute("error.type", why)
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, detail or None))

    # -- what is told -------------------------------------------------------------------------------------------------

    def place(self, scheme: str, authority: str) -> tuple[str, int]:
        """Host and port of an authority. Remembered: programs call few."""
        found = self._places.get((scheme, authority))
        if found is None:
            host, port = split_authority(authority)
            found = host, port or (443 if scheme == "https" else 80)
            if len(authority) > LONGEST_PLACE:  # callers choose what they send
                return found
            if len(self._places) >= MAX_PLACES:
                self._places.clear()
            self._places[scheme, authority] = found
        return found

    def path_shown(self, path: str) -> str:
        """A path as an attribute: no longer than ``maxPathTagLength``."""
        return path[: self._settings.max_tag_length]

    def own_tags(self, header: Lookup) -> Attributes:
        """What the settings want on every span: Istio's tags and custom ones."""
        tags = self._tags
        return {**self._static, **tags.of(header)} if tags.by_header else self._static


def _istio_tags(workload: Workload | None, settings: TracingSettings) -> Attributes:
    if workload is None or not settings.istio_tags:
        return {}
    labels = workload.labels
    name = labels.get("service.istio.io/canonical-name") or labels.get("app.kubernetes.io/name") or labels.get("app")
    revision = labels.get("service.istio.io/canonical-revision") or labels.get("app.kubernetes.io/version")
    return {
        "istio.mesh_id": workload.trust_domain,
        "istio.namespace": workload.namespace,
        "istio.cluster_id": workload.cluster,
        "istio.canonical_service": name or workload.name,
        "istio.canonical_revision": revision or labels.get("version", "latest"),
    }


def name_of(request: Told) -> str:
    """A span's name, by OpenTelemetry's conventions."""
    if request.protocol == "grpc":
        return request.path.removeprefix("/")
    return request.method if request.method in METHODS else "HTTP"


def describe_http(request: Told, found: Attributes) -> None:
    """The method, by OpenTelemetry's conventions."""
    if request.method in METHODS:
        found["http.request.method"] = request.method
    else:
        found["http.request.method"] = "_OTHER"
        found["http.request.method_original"] = request.method


def describe_grpc(request: Told, found: Attributes) -> None:
    """The method of an RPC: by the stable conventions, and what the ones before them had by other names."""
    method = request.path.removeprefix("/")
    found["rpc.system.name"] = found["rpc.system"] = "grpc"
    found["rpc.method"] = method
    found["rpc.service"] = method.rpartition("/")[0]


def version_shown(version: str | bytes) -> str:
    """``1.1`` of ``HTTP/1.1``."""
    text = version.decode("latin-1") if isinstance(version, bytes) else version
    return text.removeprefix("HTTP/").removesuffix(".0") if text.startswith("HTTP/2") else text.removeprefix("HTTP/")


REQUEST_ID_TAG = "guid:x-request-id"
"""Envoy's name of it among a span's tags."""
