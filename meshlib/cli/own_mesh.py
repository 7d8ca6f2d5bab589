"""The Mesh of a command that is a workload itself (``serve``, ``proxy``): from files, and from the environment what a
Deployment sets there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from meshlib.compiler.compile import HttpsRules
    from meshlib.compiler.gateway_model import GatewayChoice
    from meshlib.identity.identity import Identity
    from meshlib.mesh import Mesh
    from meshlib.workload import Workload


def make_mesh(
    paths: tuple[str, ...],
    workload: Workload,
    identity: Identity | None,
    admin: str | None,
    *,
    watch: bool = True,
    tracer_provider: TracerProvider | None = None,
    https_rules: HttpsRules | None = None,
    gateways: GatewayChoice | None = None,
    automatic_addresses: bool = False,
) -> Mesh:
    """As ``Mesh.from_path``, with MESHLIB_ENDPOINTS and the access log of MESHLIB_ACCESS_LOG. Raises ``MeshError``: what is
    wrong with either, or (``ConfigError``) with the resources."""
    from meshlib.mesh import Mesh
    from meshlib.mesh.access_log import from_env
    from meshlib.sources.environment import endpoints_from_env

    to, form, rate = from_env(os.environ)
    return Mesh.from_path(
        *paths,
        watch=watch,
        workload=workload,
        identity=identity,
        admin=admin,
        tracer_provider=tracer_provider,
        https_rules=https_rules or "mesh",
        gateways=gateways,
        automatic_addresses=automatic_addresses,
        endpoints=endpoints_from_env(os.environ, workload.namespace),
        access_log=to,
        access_log_format=form,
        access_log_rate=rate,
    )
