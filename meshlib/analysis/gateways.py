"""Gateways: workloads, ports, secrets and certificates that do not fit, and gateways that are in each other's way."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from meshlib.analysis.codes import (
    DUPLICATE_CERTIFICATE,
    GATEWAYS_CONFLICT,
    INVALID_CREDENTIAL,
    NOT_FOUND,
    PORT_NOT_ON_SERVICE,
)
from meshlib.analysis.finding import Finding, Loc
from meshlib.analysis.index import (
    INGRESS,
    INGRESS_LABELS,
    INGRESS_PORTS,
    Index,
    Workload,
    selector_text,
    short_or_full,
)
from meshlib.analysis.nearest import Nearest, did_you_mean
from meshlib.pace import take_turns


def workloads_and_ports(index: Index) -> Iterator[Finding]:
    """Selectors that find no workload, and ports that the Service before the workload does not have."""
    exposed: dict[str, set[int]] = {}
    for gateway in index.analyzed("Gateway"):
        take_turns()
        selector = gateway.spec.selector or {}
        found = index.runs(gateway)
        if not found:
            first = next(iter(sorted(selector)), "")
            loc: Loc = ("spec", "selector", first)
            message = f"no workload has the labels {selector_text(selector)} of this gateway's selector"
            yield Finding(NOT_FOUND, gateway, loc, message, _selector_hint(index, selector))
            continue
        text = selector_text(selector)
        if text not in exposed:
            exposed[text] = _ports(index, found)
        for position, server in enumerate(gateway.spec.servers or ()):
            if server.port is None or not server.port.number or server.port.number in exposed[text]:
                continue
            ports = ", ".join(str(port) for port in sorted(exposed[text]))
            yield Finding(
                PORT_NOT_ON_SERVICE,
                gateway,
                ("spec", "servers", position, "port", "number"),
                f"port {server.port.number} is no port of a Service before the workloads of {text or 'any label'}",
                f"ports there: {ports}" if ports else "no Service selects these workloads",
            )


def _selector_hint(index: Index, selector: Mapping[str, str]) -> str:
    for key, value in sorted(selector.items()):
        values = [*index.workloads.values_of(key), *(v for k, v in INGRESS_LABELS.items() if k == key)]
        if value not in values:
            near = Nearest(values).of(value)
            return did_you_mean(f"{key}: {near}") if near else f"{key} is {', '.join(values[:10])}" if values else ""
    return ""


def _ports(index: Index, found: list[Workload]) -> set[int]:
    """The ports, and their targets, of all Services that select one of the workloads."""
    ports: set[int] = set()
    if INGRESS in found:
        ports.update(INGRESS_PORTS)
    for workload in found:
        for service in index.services_of(workload):
            for port in service.spec.ports or ():
                if (port.protocol or "TCP").upper() != "TCP":
                    continue
                target = port.target_port
                if isinstance(target, str) and target.isdigit():
                    target = int(target)
                ports.add(port.port)
                if isinstance(target, int) and target:
                    ports.add(target)
    return ports


def conflicts(index: Index) -> Iterator[Finding]:
    """Servers that two gateways have on the same port, for the same host and workloads."""
    by_port: dict[int, list[tuple[Any, dict[str, str], Mapping[str, str]]]] = {}
    for gateway in index.of("Gateway"):
        hosts_of: dict[int, dict[str, str]] = {}
        for server in gateway.spec.servers or ():
            if server.port is not None and server.port.number:
                # Istio keeps the last server of a port
                hosts_of[server.port.number] = dict.fromkeys(server.hosts or (), server.bind or "")
        for number, hosts in hosts_of.items():
            by_port.setdefault(number, []).append((gateway, hosts, gateway.spec.selector or {}))
    by_host: dict[tuple[int, str, str], list[tuple[Any, Mapping[str, str]]]] = {}
    for number, servers in by_port.items():
        for gateway, hosts, selector in servers:
            for host, bind in hosts.items():
                by_host.setdefault((number, host, bind), []).append((gateway, selector))
    for gateway in index.analyzed("Gateway"):
        take_turns()
        selector = gateway.spec.selector or {}
        for position, server in enumerate(gateway.spec.servers or ()):
            if server.port is None or not server.port.number:
                continue
            others: dict[str, str] = {}
            for host in server.hosts or ():
                for other, its_selector in by_host.get((server.port.number, host, server.bind or ""), ()):
                    if other.id != gateway.id and _same_workloads(index, selector, its_selector):
                        others.setdefault(other.id, host)
            if others:
                yield Finding(
                    GATEWAYS_CONFLICT,
                    gateway,
                    ("spec", "servers", position, "hosts"),
                    f"{' and '.join(others)} {'has' if len(others) == 1 else 'have'} a server on port "
                    f"{server.port.number} for {', '.join(dict.fromkeys(others.values()))} on the same workloads",
                    "put the servers into one Gateway, or give them other hosts",
                )


def _same_workloads(index: Index, one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """The same selector; or one that narrows the other, where a workload has the labels of both."""
    if one == other:
        return True
    if not (one.items() <= other.items() or other.items() <= one.items()):
        return False
    both = {**one, **other}
    return both.items() <= INGRESS_LABELS.items() or bool(index.workloads.select(both))


def secrets(index: Index) -> Iterator[Finding]:
    """Secrets of servers that are not there, or hold no certificate. Nothing is said when no Secret is there at all: few
    keep them beside their routes."""
    if not index.secrets:
        return
    for gateway in index.analyzed("Gateway"):
        found = index.runs(gateway)
        if not found:
            continue
        # Istio looks in the namespace of the workload, not of the Gateway
        namespace = found[0].namespace
        for position, server in enumerate(gateway.spec.servers or ()):
            take_turns()
            if server.tls is None:
                continue
            here: Loc = ("spec", "servers", position, "tls")
            if server.tls.credential_name:
                loc = (*here, "credentialName")
                yield from _secret(index, gateway, server.tls.credential_name, namespace, loc)
            for at, name in enumerate(server.tls.credential_names or ()):
                yield from _secret(index, gateway, name, namespace, (*here, "credentialNames", at))


def _secret(index: Index, gateway: Any, name: str, namespace: str, loc: Loc) -> Iterator[Finding]:
    if "://" in name:
        return  # sds:// and the like: not a Kubernetes Secret
    key = short_or_full(name, namespace)
    secret = index.secrets.get(key)
    if secret is None:
        elsewhere = sorted(ns for ns, known in index.secrets if known == key[1])
        near = Nearest(n for ns, n in index.secrets if ns == key[0]).of(key[1])
        hint = (
            f"there is one in namespace {elsewhere[0]}; it must be where the gateway's workload runs"
            if elsewhere
            else ""
        )
        message = f"the secret {'/'.join(key)} does not exist"
        yield Finding(NOT_FOUND, gateway, loc, message, hint or did_you_mean(near) or "add the Secret")
        return
    missing = _what_is_wrong(secret)
    if missing:
        hint = "a Secret of type kubernetes.io/tls has tls.crt and tls.key"
        yield Finding(INVALID_CREDENTIAL, gateway, loc, f"the secret {'/'.join(key)} {missing}", hint)


def _what_is_wrong(secret: Any) -> str:
    values = {**(secret.data or {}), **(secret.string_data or {})}
    plain = secret.string_data or {}
    for certificate, key in (("tls.crt", "tls.key"), ("cert", "key")):
        if certificate in values or key in values:
            missing = [name for name in (certificate, key) if not values.get(name)]
            if missing:
                return f"has no {' and no '.join(missing)}"
            text = values[certificate].encode()
            try:
                pem = text if certificate in plain else base64.b64decode(text, validate=False)
            except binascii.Error:
                return f"has a {certificate} that is not base64"
            return "" if b"-----BEGIN CERTIFICATE-----" in pem else f"has a {certificate} that is no certificate (PEM)"
    return "has neither tls.crt and tls.key nor cert and key"


def shared_certificates(index: Index) -> Iterator[Finding]:
    """The same certificate in several gateways: browsers reuse a connection for the host of another gateway, and get 404."""
    by_certificate: dict[tuple[str, str], list[Any]] = {}
    for gateway in index.of("Gateway"):
        for server in gateway.spec.servers or ():
            key = _certificate(server.tls)
            if key is not None:
                known = by_certificate.setdefault(key, [])
                if not known or known[-1] is not gateway:
                    known.append(gateway)
    for gateway in index.analyzed("Gateway"):
        take_turns()
        selector = (gateway.spec.selector or {}).items()
        for position, server in enumerate(gateway.spec.servers or ()):
            key = _certificate(server.tls)
            others = [
                other.id
                for other in (by_certificate[key] if key is not None else ())
                if other is not gateway and selector <= (other.spec.selector or {}).items()
            ]
            if others:
                yield Finding(
                    DUPLICATE_CERTIFICATE,
                    gateway,
                    ("spec", "servers", position, "tls"),
                    f"{' and '.join(others[:3])} use{'s' if len(others) == 1 else ''} the same certificate: clients that "
                    "reuse HTTP/2 connections may get 404",
                    "put the servers into one Gateway",
                )
                break


def _certificate(tls: Any) -> tuple[str, str] | None:
    if tls is None:
        return None
    if tls.credential_name:
        return "", tls.credential_name
    if tls.server_certificate and tls.private_key:
        return tls.server_certificate, tls.private_key
    return None
