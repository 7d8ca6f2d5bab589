"""LocalEndpoints (meshlib.dev/v1): where hosts are served from, written by a person; what discovery says of them no longer
counts. It is for the machine of a developer, for tests, and for whoever knows the addresses better.

``endpoints=`` of ``meshlib.Mesh`` is the same resource (``endpoints_argument.py``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from meshlib.resources.base import Model, Resource
from meshlib.resources.local_addresses import parse_address
from meshlib.resources.types import Port, check_host, refuse
from meshlib.resources.validation.addresses import is_ip

ARGUMENT = "endpoints="
"""The file, for messages, of the resource that ``endpoints=`` is."""


def _host(value: object) -> str:
    host = check_host(value)
    if "*" in host or is_ip(host):
        what = "a wildcard" if "*" in host else "an address"
        raise refuse(
            "bad-host",
            "{host} is {what}; endpoints are given to the one name that is called",
            "for example reviews, reviews.prod.svc.cluster.local or api.example.com",
            host=repr(host),
            what=what,
        )
    return host


def _address(value: object) -> str:
    parse_address(value)
    return str(value)


def _addresses(value: object) -> object:
    if isinstance(value, str):
        raise refuse("wrong-type", "addresses is a list, found a text", "write [{value}]", value=value[:100])
    if value == []:
        raise refuse("missing-field", "there is no address", "for example addresses: ['localhost:9081']")
    return value


def _subset(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise refuse("bad-name", "a subset is the name that its DestinationRule gives it", "for example v1")
    return value


class LocalHost(Model):
    """Addresses of one host, or of one ``subset`` of it: they have the labels that a DestinationRule gives the subset.
    ``port``: of the service, where addresses are for one of several; without, those that say the number of a service port
    (or of its target) are for that one, and others for all."""

    host: Annotated[str, BeforeValidator(_host)]
    subset: Annotated[str, BeforeValidator(_subset)] | None = None
    port: Port | None = None
    addresses: Annotated[list[Annotated[str, BeforeValidator(_address)]], BeforeValidator(_addresses)]


class LocalEndpointsSpec(Model):
    """``spec`` of LocalEndpoints."""

    hosts: list[LocalHost]


class LocalEndpoints(Resource):
    """meshlib's own resource."""

    kind: Literal["LocalEndpoints"]
    spec: LocalEndpointsSpec

    @property
    def is_argument(self) -> bool:
        """Whether it was given as ``endpoints=``, which goes before what files say."""
        return self.origin.file == ARGUMENT
