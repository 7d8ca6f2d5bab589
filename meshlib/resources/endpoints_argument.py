"""``endpoints=`` of ``meshlib.Mesh``: the LocalEndpoints that it stands for, or every problem of it.

::

    {"reviews": "localhost:9080"}                                           one address
    {"reviews": ["localhost:9080", "localhost:9180"]}                       several
    {"reviews": {"v1": "localhost:9081", "v2": ["localhost:9082"]}}         by the subsets of its DestinationRule
    {"reviews:9080": "localhost:8001"}                                      of one port of the service
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from meshlib.problems import ConfigError, Problem, Severity
from meshlib.resources.base import Origin
from meshlib.resources.document import Positions
from meshlib.resources.findings import check
from meshlib.resources.local_addresses import hidden
from meshlib.resources.local_endpoints import ARGUMENT, LocalEndpoints
from meshlib.resources.validation.local_endpoints import full_name

Addresses = str | Sequence[str]
EndpointsByHost = Mapping[str, Addresses | Mapping[str, Addresses]]
"""Addresses by host, or by host and subset."""

NAME = "endpoints="
"""Of the resource. No resource of Kubernetes can have it."""
_EXAMPLE = "for example endpoints={'reviews': 'localhost:9080'} or {'reviews': {'v1': 'localhost:9081'}}"


@dataclass(slots=True)
class _Entry:
    """One entry of ``spec.hosts``; ``path`` is where it stands in the argument, ``several`` whether there as a list."""

    value: dict[str, object]
    path: str
    several: bool


def local_endpoints(given: object, namespace: str) -> LocalEndpoints:
    """The resource, for a workload of ``namespace``. Raises ``ConfigError`` with everything that is wrong."""
    problems: list[Problem] = []
    entries = list(_entries(given, namespace, problems))
    spec = {"hosts": [entry.value for entry in entries]}
    metadata = {"name": "endpoints", "namespace": namespace}
    value = {"apiVersion": "meshlib.dev/v1", "kind": "LocalEndpoints", "metadata": metadata, "spec": spec}
    resource, findings = check(LocalEndpoints, value, Positions(0, 0))
    if entries:
        problems += [_problem(f.code, _path(f.loc, entries), f.message, f.hint) for f in findings]
    elif not problems:
        problems.append(_problem("missing-field", "", "there is no host", _EXAMPLE))
    if problems:
        raise ConfigError(problems)
    assert isinstance(resource, LocalEndpoints)
    made = resource.model_copy(update={"metadata": resource.metadata.model_copy(update={"name": NAME})})
    made._origin = Origin(file=ARGUMENT)
    return made


def _entries(given: object, namespace: str, problems: list[Problem]) -> Iterator[_Entry]:
    if not isinstance(given, Mapping):
        message = f"addresses by host are expected, found {_what(given)}"
        problems.append(_problem("wrong-type", "", message, f"{_EXAMPLE}; or endpoints='dns'"))
        return
    seen: dict[tuple[str, object], str] = {}
    for host, addresses in given.items():
        path = f"[{hidden(host)!r}]" if isinstance(host, str) else f"[{_what(host)}]"
        if not isinstance(host, str):
            problems.append(_problem("wrong-type", path, f"a host is a text, found {_what(host)}", _EXAMPLE))
            continue
        name, colon, port = host.partition(":")
        head: dict[str, object] = {"host": name}
        if colon:
            if not (port.isascii() and port.isdigit() and len(port) <= 5):
                hint = "write reviews, or reviews:9080 for one port of the service"
                problems.append(
                    _problem("bad-host", path, f"{hidden(host)!r} is not a host, or a host and its port", hint)
                )
                continue
            head["port"] = int(port)
        first = seen.setdefault((full_name(name, namespace), head.get("port")), host)
        if first != host:
            message = f"{host!r} is the same host as {first!r}"
            problems.append(_problem("duplicate-host", path, message, "write it once, with all its addresses"))
            continue
        if not isinstance(addresses, Mapping):
            yield from _entry(head, addresses, path, problems)
            continue
        if not addresses:
            problems.append(_problem("missing-field", path, "there is no subset", _EXAMPLE))
        for subset, of_subset in addresses.items():
            yield from _entry({**head, "subset": subset}, of_subset, f"{path}[{subset!r}]", problems)


def _entry(head: dict[str, object], addresses: object, path: str, problems: list[Problem]) -> Iterator[_Entry]:
    if isinstance(addresses, str):
        yield _Entry({**head, "addresses": [addresses]}, path, False)
    elif isinstance(addresses, Sequence) and not isinstance(addresses, (bytes, bytearray)):
        yield _Entry({**head, "addresses": list(addresses)}, path, True)
    else:
        message = f"an address, or a list of addresses, is expected, found {_what(addresses)}"
        hint = f"write 'localhost:{addresses}'" if type(addresses) is int else _EXAMPLE
        problems.append(_problem("wrong-type", path, message, hint))


def _path(loc: tuple[str | int, ...], entries: Sequence[_Entry]) -> str:
    """Where in the argument a field of the resource stands."""
    if loc[:2] != ("spec", "hosts") or len(loc) < 3 or not isinstance(loc[2], int):
        return ""
    entry = entries[loc[2]]
    position = loc[4] if len(loc) > 4 and loc[3] == "addresses" and entry.several else None
    return entry.path if position is None else f"{entry.path}[{position}]"


def _what(value: object) -> str:
    """A value of a wrong type; not all of it, as nobody knows what it is."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    return repr(hidden(value)[:40]) if isinstance(value, str) else f"a {type(value).__name__}"


def _problem(code: str, path: str, message: str, hint: str) -> Problem:
    return Problem(code, Severity.ERROR, ARGUMENT, 0, 0, path, message, hint)
