"""The options of a mesh, written once for all the ways to make one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ForwardRef, Literal, ParamSpec, TypedDict, TypeVar

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.trace import TracerProvider
    from prometheus_client import CollectorRegistry
    from tenacity import RetryCallState

    from meshlib.clock import Clock
    from meshlib.compiler.compile import HttpsRules
    from meshlib.compiler.gateway_model import GatewayChoice
    from meshlib.identity.identity import Identity
    from meshlib.mesh.access_log import LogFormat, LogTo
    from meshlib.resources.endpoints_argument import EndpointsByHost
    from meshlib.workload import Workload


class MeshOptions(TypedDict, total=False):
    """``Mesh`` documents each of them. ``https_rules`` None, for ``from_env``: the environment decides."""

    workload: Workload | None
    clock: Clock | None
    seed: int | None
    retry_wait: Callable[[RetryCallState], float] | None
    registry: CollectorRegistry | None
    tracer_provider: TracerProvider | None
    metric_exporter: MetricExporter | None
    envoy_metrics: bool | None
    https_rules: HttpsRules | None
    identity: Identity | None
    endpoints: EndpointsByHost | Literal["dns"] | None
    admin: str | None
    gateways: GatewayChoice | None
    automatic_addresses: bool | None
    access_log: LogTo | Sequence[LogTo] | None
    access_log_format: LogFormat | None
    access_log_rate: str | None


P = ParamSpec("P")
R = TypeVar("R")


def takes_options(*, https_rules: str | None = "mesh") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """For a function with ``**options: Unpack[MeshOptions]``: its signature, as ``help`` shows it, names each with its
    default, and a name that is none raises TypeError before anything is done."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        options = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=https_rules if name == "https_rules" else None,
                annotation=kind.__forward_arg__ if isinstance(kind, ForwardRef) else kind,
            )
            for name, kind in MeshOptions.__annotations__.items()
        ]
        names = frozenset(each.name for each in (*own, *options))

        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name not in names:
                    raise TypeError(f"{function.__qualname__}() got an unexpected keyword argument {name!r}")
            return function(*args, **kwargs)

        vars(checked)["__signature__"] = signature.replace(parameters=[*own, *options])
        return checked

    return decorate
