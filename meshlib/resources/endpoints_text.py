"""Endpoints as words of a command line: ``reviews=v1@:9081,v2@:9082``, ``ratings:9080=localhost:8001``. Of the command
``meshlib local`` and of MESHLIB_ENDPOINTS."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from meshlib.problems import ConfigError, Problem, Severity
from meshlib.resources.document import Positions
from meshlib.resources.endpoints_argument import EndpointsByHost
from meshlib.resources.findings import check
from meshlib.resources.local_addresses import hidden, parse_address
from meshlib.resources.local_endpoints import LocalEndpoints
from meshlib.resources.validation.addresses import UNIX

_SUBSET = re.compile(r"([^@:/\[]*)@(.*)", re.DOTALL)
_EXAMPLE = "for example reviews=:9080 or reviews=v1@:9081,v2@:9082"


def resource_of_words(words: Sequence[str], *, file: str, name: str, namespace: str) -> dict[str, object]:
    """The LocalEndpoints that the words say, as YAML would have it, its addresses written out. Raises ``ConfigError`` with
    everything that is wrong with them; its problems are in ``file``."""
    hosts, said, problems = _hosts(words, file)
    metadata = {"name": name, "namespace": namespace}
    value = {"apiVersion": "meshlib.dev/v1", "kind": "LocalEndpoints", "metadata": metadata, "spec": {"hosts": hosts}}
    if hosts:
        for found in check(LocalEndpoints, value, Positions(0, 0))[1]:
            loc = found.loc
            index = loc[2] if loc[:2] == ("spec", "hosts") and len(loc) > 2 else None
            problems.append(
                _problem(file, said[index] if isinstance(index, int) else "", found.message, found.hint, found.code)
            )
    elif not problems:
        problems.append(_problem(file, "", "there is no host", _EXAMPLE))
    if problems:
        raise ConfigError(problems)
    return {**value, "spec": {"hosts": [_written_out(host) for host in hosts]}}


def endpoints_of_words(words: Sequence[str], *, file: str, namespace: str) -> EndpointsByHost:
    """What ``endpoints=`` would say. Raises ``ConfigError``, also for a host with addresses of subsets and others of none."""
    resource_of_words(words, file=file, name="endpoints", namespace=namespace)
    hosts, said, _ = _hosts(words, file)
    found: dict[str, dict[str, list[str]]] = {}
    for entry, word in zip(hosts, said, strict=True):
        host = f"{entry['host']}:{entry['port']}" if "port" in entry else str(entry["host"])
        there, subset, given = found.setdefault(host, {}), str(entry.get("subset", "")), entry["addresses"]
        assert isinstance(given, list)
        if there and ("" in there) != (subset == ""):
            message = "has addresses with a subset and others without"
            raise ConfigError([_problem(file, word, message, "give a subset to each of them, or to none")])
        there[subset] = given
    return {host: there.get("") or there for host, there in found.items()}


def _hosts(words: Sequence[str], file: str) -> tuple[list[dict[str, object]], list[str], list[Problem]]:
    """Entries of ``spec.hosts``, the words that they are of, and what is not such a word."""
    found: dict[tuple[str, str], list[str]] = {}
    said: dict[tuple[str, str], str] = {}
    problems = []
    for word in words:
        host, equals, addresses = word.partition("=")
        if not equals or not host:
            problems.append(_problem(file, word, "is not HOST=ADDRESS", _EXAMPLE))
            continue
        for item in addresses.split(","):
            of_subset = _SUBSET.fullmatch(item)
            key = (host, of_subset[1] if of_subset is not None else "")
            if of_subset is not None and not of_subset[1]:
                problems.append(_problem(file, word, "there is no subset before the @", _EXAMPLE))
            found.setdefault(key, []).append(of_subset[2] if of_subset is not None else item)
            said.setdefault(key, word)
    hosts: list[dict[str, object]] = []
    for (host, subset), given in found.items():
        entry: dict[str, object] = {"host": host}
        name, colon, port = host.partition(":")
        if colon and port.isascii() and port.isdigit() and len(port) <= 5:
            entry = {"host": name, "port": int(port)}
        if subset:
            entry["subset"] = subset
        hosts.append({**entry, "addresses": given})
    return hosts, list(said.values()), problems


def _written_out(host: Mapping[str, object]) -> dict[str, object]:
    given = host["addresses"]
    assert isinstance(given, list)
    return {**host, "addresses": [written_out(text) for text in given]}


def written_out(text: str) -> str:
    """An address with its host: ``localhost:9081`` of ``:9081``."""
    host, port = parse_address(text)
    if port is None or host.startswith(UNIX):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _problem(file: str, word: str, message: str, hint: str, code: str = "bad-endpoints") -> Problem:
    return Problem(code, Severity.ERROR, file, 0, 0, hidden(word), message, hint)
