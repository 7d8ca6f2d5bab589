"""Hundreds of mistakes made in good resources, one at a time: each is an error on the very line it is on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from meshlib.errors import Severity
from meshlib.resources.document import Positions
from meshlib.resources.kinds import model_for
from meshlib.resources.loader import load_text
from meshlib.resources.model_fields import Loc, field_names, model_at
from meshlib.resources.yaml_reader import read

pytestmark = pytest.mark.slow

VIRTUAL_SERVICE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
  labels:
    app: reviews
spec:
  hosts:
  - reviews
  - reviews.prod.svc.cluster.local
  gateways:
  - mesh
  exportTo:
  - "*"
  http:
  - name: jason
    match:
    - uri:
        prefix: /reviews
      headers:
        end-user:
          exact: jason
      queryParams:
        debug:
          regex: "on|off"
      sourceLabels:
        app: productpage
      ignoreUriCase: true
      port: 9080
    - method:
        exact: GET
    rewrite:
      uri: /v2/reviews
    retries:
      attempts: 3
      perTryTimeout: 2s
      retryOn: 5xx,reset
    timeout: 10s
    fault:
      delay:
        fixedDelay: 5s
        percentage:
          value: 10
      abort:
        httpStatus: 503
        percentage:
          value: 0.5
    mirror:
      host: reviews
      subset: v3
    mirrorPercentage:
      value: 50
    headers:
      request:
        set:
          x-canary: "true"
        remove:
        - x-old
    corsPolicy:
      allowOrigins:
      - exact: https://example.com
      allowMethods:
      - GET
      maxAge: 24h
      allowCredentials: false
    route:
    - destination:
        host: reviews
        subset: v1
        port:
          number: 9080
      weight: 90
    - destination:
        host: reviews
        subset: v2
      weight: 10
  - redirect:
      uri: /moved
      redirectCode: 302
    match:
    - uri:
        exact: /old
"""
DESTINATION_RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: reviews
spec:
  host: reviews
  trafficPolicy:
    loadBalancer:
      simple: RANDOM
    connectionPool:
      tcp:
        maxConnections: 100
        connectTimeout: 30ms
      http:
        http1MaxPendingRequests: 10
        maxRequestsPerConnection: 5
    outlierDetection:
      consecutive5xxErrors: 7
      interval: 5m
      baseEjectionTime: 15m
      maxEjectionPercent: 100
    tls:
      mode: ISTIO_MUTUAL
  subsets:
  - name: v1
    labels:
      version: v1
    trafficPolicy:
      loadBalancer:
        consistentHash:
          httpCookie:
            name: user
            ttl: 0s
"""
GOOD = {"VirtualService": VIRTUAL_SERVICE, "DestinationRule": DESTINATION_RULE}


def nodes(value: Any, positions: Positions, path: Loc = ()) -> Iterator[tuple[Loc, Any, Positions]]:
    """Every value of a document with its path and place."""
    yield path, value, positions
    if isinstance(value, (dict, list)):
        for step in value if isinstance(value, dict) else range(len(value)):
            yield from nodes(value[step], positions.children[step], (*path, step))


def replaced(text: str, line: int, column: int, old: str, new: str) -> str:
    lines = text.split("\n")
    content = lines[line - 1]
    assert content[column - 1 :].startswith(old), (line, column, old)
    lines[line - 1] = content[: column - 1] + new + content[column - 1 + len(old) :]
    return "\n".join(lines)


def misspellings(key: str) -> set[str]:
    return {key + "s", key + "x", key[:-1], key[0] + key, key.upper(), key.capitalize(), key[1:], key + "_", f"x-{key}"}


def mistakes(kind: str) -> Iterator[tuple[str, int, str]]:
    """(what, line, text with that mistake)."""
    text = GOOD[kind]
    model = model_for("networking.istio.io/v1", kind)
    assert model is not None
    ((document,), _) = read(text, "f")
    for path, value, place in nodes(document.value, document.positions):
        if path[:1] not in (("spec",), ("metadata",)):
            continue
        here = ".".join(map(str, path))
        owner = model_at(model, path)
        if isinstance(value, dict) and owner is not None and path[0] == "spec":
            fields = field_names(owner)
            for key in value:
                line, column = document.positions.place((*path, key))
                for wrong in sorted(misspellings(key) - set(fields) - set(fields.values()) - set(value) - {""}):
                    yield f"{here}.{key} as {wrong}", line, replaced(text, line, column, key, wrong)
                first = text.split("\n")[line - 1][: column - 1]
                if not first.strip():
                    doubled = text.split("\n")
                    doubled.insert(line - 1, f"{first}unknownField: 1")
                    yield f"unknown field before {here}.{key}", line, "\n".join(doubled)
        if not isinstance(value, (dict, list)):
            rest = text.split("\n")[place.line - 1][place.column - 1 :]
            for wrong in ("[1]", "{a: 1}", "[[]]"):
                yield f"{here} as {wrong}", place.line, replaced(text, place.line, place.column, rest, wrong)
            if isinstance(value, str):
                for wrong in ("1.10", "true", "7"):
                    yield f"{here} as {wrong}", place.line, replaced(text, place.line, place.column, rest, wrong)
            else:
                for wrong in ("many", '"x"', "1.5.5", "yes"):
                    yield f"{here} as {wrong}", place.line, replaced(text, place.line, place.column, rest, wrong)


@pytest.mark.parametrize("kind", GOOD)
def test_the_resource_without_a_mistake_loads(kind: str) -> None:
    assert load_text(GOOD[kind]).problems == []


@pytest.mark.parametrize("kind", GOOD)
def test_every_mistake_is_an_error_on_its_line(kind: str) -> None:
    seeded = list(mistakes(kind))
    missed = []
    for what, line, text in seeded:
        found = [p for p in load_text(text).problems if p.severity is Severity.ERROR]
        if line not in {p.line for p in found}:
            missed.append((what, line, [str(p) for p in found]))
    assert missed == []
    assert len(seeded) > 150


@pytest.mark.parametrize("kind", GOOD)
def test_a_misspelt_field_is_one_error_with_a_hint(kind: str) -> None:
    for what, _, text in mistakes(kind):
        if " as " in what and "[" not in what and "{" not in what:
            found = [p for p in load_text(text).problems if p.code == "unknown-field"]
            assert len(found) <= 1, what
            assert all(p.hint for p in found), what


@pytest.mark.parametrize("kind", GOOD)
def test_no_mistake_of_indentation_passes_in_silence_or_ends_in_an_exception(kind: str) -> None:
    """A line moved by one level is refused, or means something else than before; it never crashes."""
    lines = GOOD[kind].split("\n")
    good = load_text(GOOD[kind]).resources[0]
    refused = 0
    for index, line in enumerate(lines[:-1]):
        for moved in ("  " + line, " " + line, line.removeprefix("  ")):
            if moved == line:
                continue
            result = load_text("\n".join([*lines[:index], moved, *lines[index + 1 :]]))
            if result.errors:
                refused += 1
                assert all(p.line > 0 for p in result.errors)
            elif result.resources and index > 3:
                same = result.resources[0].model_dump() == good.model_dump()
                # a list may be indented below its key or not: both are YAML for the same
                assert not same or line.lstrip().startswith("- ") or moved.strip() == line.strip()
    assert refused > len(lines)


@pytest.mark.parametrize("kind", GOOD)
def test_checking_the_entries_of_lists_one_by_one_finds_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(text: str, at_once: bool) -> tuple[list[str], list[str]]:
        monkeypatch.setattr("meshlib.resources.loading.LONG_TEXT", 10**9 if at_once else 0)
        for name in ("LONG_LIST", "VERY_LONG_LIST"):
            monkeypatch.setattr(f"meshlib.resources.findings.{name}", 10**9 if at_once else 1)
        result = load_text(text)
        return [str(p) for p in result.problems], [r.model_dump_json(exclude_unset=True) for r in result.resources]

    for what, _, text in [("no mistake", 0, GOOD[kind]), *mistakes(kind)]:
        assert found(text, at_once=False) == found(text, at_once=True), what
