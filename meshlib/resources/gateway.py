"""Gateway (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Literal

from meshlib.resources.base import Model, Resource
from meshlib.resources.server_tls import ServerTls
from meshlib.resources.types import UInt32


class ServersPort(Model):
    """``spec.servers.port`` of Gateway."""

    name: str
    number: UInt32
    protocol: str
    target_port: UInt32 | None = None


class Server(Model):
    """``spec.servers`` of Gateway."""

    hosts: list[str]
    port: ServersPort
    bind: str | None = None
    default_endpoint: str | None = None
    name: str | None = None
    tls: ServerTls | None = None


class GatewaySpec(Model):
    """``spec`` of Gateway."""

    selector: dict[str, str] | None = None
    servers: list[Server] | None = None


class Gateway(Resource):
    """Istio's Gateway."""

    kind: Literal["Gateway"]
    spec: GatewaySpec
    status: object = None

    def as_written(self, loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
        """The field that says it: of what the Gateway is made of, where nobody has written it."""
        return loc
