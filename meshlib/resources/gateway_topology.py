"""``gatewayTopology`` of a proxy's settings, in MeshConfig's ``defaultConfig`` and in the annotation
``proxy.istio.io/config``."""

from __future__ import annotations

from typing import Annotated, Literal

from meshlib.resources.kubernetes import Loose
from meshlib.resources.types import UInt32, names

_MODES = ("UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY")


class GatewayTopology(Loose):
    """What stands before a gateway."""

    num_trusted_proxies: UInt32 | None = None
    forward_client_cert_details: (
        Annotated[
            Literal["UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"],
            names(*_MODES),
        ]
        | None
    ) = None
    proxy_protocol: dict[str, object] | None = None
