"""What is said of a host, or a subset of one, that has no endpoints, and what to do: the same words when files are checked, in
``explain``, and when a call fails."""

from __future__ import annotations

import json
from dataclasses import dataclass

from meshlib.registry.names import DOMAIN

UNDEFINED = "no Service, ServiceEntry or LocalEndpoints defines it"
IN_DNS = (
    "endpoints='dns' calls hosts at their names, and the labels of pods, by which subsets are told apart, are not in DNS; "
    "a source that follows the cluster is still to come"
)
_USUAL_PORT = 8080
_NOT_FOR_PEOPLE = frozenset((0, 80, 443))


@dataclass(frozen=True, slots=True)
class Lack:
    """``message`` says what has no endpoints and why, ``remedy`` how it gets some."""

    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"


def no_endpoints(
    host: str, client_namespace: str, why: str, *, subset: str = "", port: int = 0, domain: str = DOMAIN
) -> Lack:
    """Of a host by its full name, for clients of a namespace; ``port`` is the service's, 0 when it is not known."""
    short, mine = _short(host, client_namespace, domain)
    if why == UNDEFINED:
        message = f"host {host} is not in the registry: {why}"
    else:
        of_subset = f"subset {subset} of " if subset else ""
        message = f"{of_subset}{short} has no endpoints: {why}"
    return Lack(message, remedy(mine, subset, port))


def remedy(host: str, subset: str = "", port: int = 0) -> str:
    """How somebody who serves ``host`` (as it is written in the workload's namespace) says so."""
    number = _USUAL_PORT if port in _NOT_FOR_PEOPLE else port
    address = f"localhost:{number}"
    given = json.dumps({host: {subset: address} if subset else address})
    word = f"{host}={subset}@:{number}" if subset else f"{host}=:{number}"
    return f"if you serve it yourself, say where: endpoints={given}, or `meshlib local {word}`"


def _short(host: str, client_namespace: str, domain: str) -> tuple[str, str]:
    """A host for people, and as it is written in a resource of the client's namespace."""
    name, dot, namespace = host.removesuffix(f".svc.{domain}").partition(".")
    if not host.endswith(f".svc.{domain}") or not dot or "." in namespace:
        return host, host
    if namespace == client_namespace:
        return f"service {name}", name
    return f"service {name} of namespace {namespace}", host
