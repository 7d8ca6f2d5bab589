"""ServiceEntry (networking.istio.io), every field of Istio's schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import field_validator, model_validator

from meshlib.resources.base import Model, Resource
from meshlib.resources.types import Count, Port, check_host, host_problem, is_ip, names, refuse


class Endpoint(Model):
    """``spec.endpoints`` of ServiceEntry."""

    address: str | None = None
    labels: dict[str, str] | None = None
    locality: str | None = None
    network: str | None = None
    ports: dict[str, Port] | None = None
    service_account: str | None = None
    weight: Count | None = None


class ServiceEntryPort(Model):
    """``spec.ports`` of ServiceEntry."""

    name: str
    number: Port
    protocol: str | None = None
    target_port: Port | None = None


class WorkloadSelector(Model):
    """``spec.workloadSelector`` of ServiceEntry."""

    labels: dict[str, str] | None = None


class ServiceEntrySpec(Model):
    """``spec`` of ServiceEntry."""

    hosts: list[str]
    addresses: list[str] | None = None
    endpoints: list[Endpoint] | None = None
    export_to: list[str] | None = None
    location: Annotated[Literal["MESH_EXTERNAL", "MESH_INTERNAL"], names("MESH_EXTERNAL", "MESH_INTERNAL")] | None = (
        None
    )
    ports: list[ServiceEntryPort] | None = None
    resolution: (
        Annotated[
            Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"],
            names("NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"),
        ]
        | None
    ) = None
    subject_alt_names: list[str] | None = None
    workload_selector: WorkloadSelector | None = None

    @field_validator("hosts")
    @classmethod
    def _hosts(cls, hosts: list[str]) -> list[str]:
        if not hosts:
            raise refuse("missing-host", "hosts is empty", "name the hosts, e.g. api.example.com")
        for host in hosts:
            check_host(host, ip=False)
            if host == "*":
                raise refuse("wildcard-host", 'the host "*" is too wide', 'name a domain, e.g. "*.example.com"')
        return hosts

    @model_validator(mode="after")
    def _check(self) -> Self:
        ports = self.ports or []
        for what in ("number", "name"):
            values = [str(getattr(port, what)) for port in ports]
            doubles = sorted({v for v in values if values.count(v) > 1})
            if doubles:
                raise refuse(
                    "duplicate-port", "port {what} {doubles} is used twice", "", what=what, doubles=", ".join(doubles)
                )
        if self.endpoints and self.workload_selector is not None:
            raise refuse("several-sources", "endpoints and workloadSelector exclude each other", "")
        mode = self.resolution or "NONE"
        if mode == "NONE" and self.endpoints:
            raise refuse(
                "resolution-none", "resolution NONE takes no endpoints", "resolution: STATIC (addresses) or DNS (names)"
            )
        if mode in ("DNS", "DNS_ROUND_ROBIN") and not ports:
            raise refuse("missing-field", "resolution {mode} needs ports", "", mode=mode)
        if mode == "DNS_ROUND_ROBIN" and len(self.endpoints or ()) > 1:
            raise refuse(
                "too-many-endpoints", "resolution DNS_ROUND_ROBIN takes one endpoint at most", "resolution: DNS"
            )
        if mode == "DNS" and not self.endpoints and any(h.startswith("*") for h in self.hosts):
            raise refuse("wildcard-dns", "a wildcard host cannot be resolved: resolution DNS needs endpoints", "")
        known = {p.name for p in ports}
        for endpoint in self.endpoints or ():
            address = endpoint.address or ""
            if not address and not endpoint.network:
                raise refuse("missing-field", "an endpoint has no address", "address: 10.0.0.1")
            if address.startswith("unix://"):
                if mode != "STATIC":
                    raise refuse("resolution-unix", "unix sockets need resolution STATIC", "")
            elif mode == "STATIC" and address and not is_ip(address):
                raise refuse(
                    "resolution-static", "{address} is not an IP address", "resolution: DNS for names", address=address
                )
            elif mode.startswith("DNS") and host_problem(address, wildcard=False):
                raise refuse("bad-host", "{address} is neither a name nor an IP address", "", address=repr(address))
            unknown = sorted(set(endpoint.ports or {}) - known)
            if unknown:
                raise refuse(
                    "unknown-port",
                    "an endpoint maps the port {unknown}, which ports does not name (it names {known})",
                    "",
                    unknown=", ".join(unknown),
                    known=", ".join(sorted(known)) or "none",
                )
        return self


class ServiceEntry(Resource):
    """Istio's ServiceEntry."""

    kind: Literal["ServiceEntry"]
    spec: ServiceEntrySpec
    status: Any = None
