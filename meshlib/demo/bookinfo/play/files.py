"""``--config DIR``: play every file of a folder of Istio resources, unmodified, over the running application.

A file is played when all it routes to runs here. Others are loaded and compiled, and the report says why they are not
played. What a played file must do is derived from its compiled routes (``predict``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from meshlib.compiler.compile import compile_snapshot
from meshlib.compiler.snapshot import Snapshot
from meshlib.demo.bookinfo import CONFIG
from meshlib.demo.bookinfo.play.application import VISITOR, Application
from meshlib.demo.bookinfo.play.essence import essence
from meshlib.demo.bookinfo.play.mesh_folder import documents, key_of, keys_of
from meshlib.demo.bookinfo.play.predict import predict
from meshlib.demo.bookinfo.play.probe import ANYONE, look
from meshlib.demo.bookinfo.play.scenarios import FEW, JASON
from meshlib.demo.bookinfo.services.serve import SERVICES, workload_of
from meshlib.demo.odds import misses
from meshlib.demo.report import FAIL, SKIP, Report, Row, counts, shares, verdict, who
from meshlib.problems import Problem, Severity
from meshlib.registry.names import resolve
from meshlib.resources.loader import load_text

SUFFIXES = (".yaml", ".yml", ".json")
PLAYABLE = ("VirtualService", "DestinationRule")
SLOW_SECONDS = 0.5
RATINGS_NEED_CALLERS = CONFIG / "ratings-callers.yaml"


class NothingToPlay(ValueError):
    """The folder does not exist, or holds no YAML."""


@dataclass(frozen=True, slots=True)
class File:
    """One file. ``refused`` holds its errors, ``reason`` why it is not played; both empty: it is."""

    name: str
    text: bytes
    docs: tuple[dict[str, Any], ...] = ()
    refused: tuple[Problem, ...] = ()
    reason: str = ""


def read_folder(folder: Path) -> list[File]:
    """Every YAML or JSON file, in order of names. Raises NothingToPlay."""
    if not folder.is_dir():
        raise NothingToPlay(f"--config {folder}: no such folder")
    paths = sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES and p.is_file())
    if not paths:
        raise NothingToPlay(f"--config {folder}: no {', '.join(SUFFIXES)} file in it")
    return [read_file(path, path.relative_to(folder).as_posix()) for path in paths]


def read_file(path: Path, name: str) -> File:
    """Load one file and say whether it can be played here, by its kinds and hosts alone."""
    text = path.read_bytes()
    loaded = load_text(text, name)
    errors = tuple(p for p in loaded.problems if p.severity is Severity.ERROR)
    if errors:
        return File(name, text, refused=errors)
    docs = tuple(documents(text))
    return File(name, text, docs, reason=_not_here(docs))


def _not_here(docs: Sequence[dict[str, Any]]) -> str:
    if not docs:
        return "it holds no resources"
    if not any(d.get("kind") in PLAYABLE for d in docs):
        kinds = ", ".join(sorted({str(d.get("kind")) for d in docs}))
        return f"{kinds}: nothing that routes calls between the services"
    ours = keys_of((CONFIG / "application.yaml").read_bytes())
    for doc in docs:
        if key_of(doc) in ours:
            return f"it brings its own {doc['kind']} {doc['metadata']['name']}, which runs here already"
        reason = _virtual_service_not_here(doc) if doc.get("kind") == "VirtualService" else ""
        if doc.get("kind") == "DestinationRule":
            reason = _destination_rule_not_here(doc)
        if reason:
            return reason
    return ""


def _virtual_service_not_here(doc: dict[str, Any]) -> str:
    spec = doc.get("spec") or {}
    gateways = spec.get("gateways") or ["mesh"]
    if "mesh" not in gateways:
        return f"it is for gateway {', '.join(gateways)}, and no gateway runs here"
    foreign = [h for h in spec.get("hosts") or () if not _service(h, doc)]
    if foreign:
        return f"{', '.join(foreign)} is not part of this application{_in_namespace(doc)}"
    rules = spec.get("http") or ()
    if not rules:
        return "it has no http rules, and the calls here are HTTP"
    targets = [str(r["destination"].get("host")) for rule in rules for r in rule.get("route") or ()]
    unknown = [host for host in targets if not _service(host, doc)]
    return f"it routes to {', '.join(unknown)}, which is not part of this application" if unknown else ""


def _destination_rule_not_here(doc: dict[str, Any]) -> str:
    spec = doc.get("spec") or {}
    host = str(spec.get("host", ""))
    if not _service(host, doc):
        return f"{host} is not part of this application{_in_namespace(doc)}"
    mode = ((spec.get("trafficPolicy") or {}).get("tls") or {}).get("mode", "DISABLE")
    return "" if mode == "DISABLE" else f"it requires TLS ({mode}), and the services here speak plain HTTP"


def _service(host: str, doc: dict[str, Any]) -> str:
    """Which of our services a resource means by ``host``; "" for none (short names are of the resource's namespace)."""
    name = resolve(host, key_of(doc)[1])
    return next((s for s in SERVICES if name == f"{s}.default.svc.cluster.local"), "")


def _in_namespace(doc: dict[str, Any]) -> str:
    namespace = key_of(doc)[1]
    return "" if namespace == "default" else f" (it runs in namespace default, the resource is in {namespace})"


async def play_files(
    app: Application, client: httpx.AsyncClient, report: Report, files: Iterable[File], requests: int
) -> None:
    """Play them one after the other."""
    files = list(files)
    for file in files:
        beside = _beside(file, files)
        asked = essence(list(file.docs)) if file.docs else "nothing that could be read"
        report.begin(file.name, "", asked + (f"  (together with: {essence(beside)})" if beside else ""))
        if file.refused:
            report.row(Row("", "loads", "refused", FAIL, tuple(str(p) for p in file.refused)))
            continue
        reason = file.reason or _nobody_there(app, file, beside)
        if reason:
            _compile_only(file)
            report.row(Row("", "loads", f"loaded, not played: {reason}", SKIP))
            continue
        app.play(file.text, beside=beside)
        await _observe(app, client, report, requests)


async def _observe(app: Application, client: httpx.AsyncClient, report: Report, requests: int) -> None:
    snapshots: dict[tuple[str, str], Snapshot] = {}

    def snapshot_of(service: str, version: str) -> Snapshot:
        if (service, version) not in snapshots:
            workload = VISITOR if service == "visitor" else workload_of(service, version)
            snapshots[service, version] = app.snapshot(workload)
        return snapshots[service, version]

    for user in (ANYONE, JASON):
        wanted = predict(snapshot_of, user)
        n = requests if wanted.seconds < SLOW_SECONDS else FEW
        seen = await look(client, user, n, width=1 if wanted.balanced else 8)
        why = misses(seen.reviews, wanted.reviews) + [f"details {m}" for m in misses(seen.details, wanted.details)]
        expected, observed = f"reviews {shares(wanted.reviews)}", f"{n} looks: reviews {counts(seen.reviews)}"
        if set(wanted.details) != {"v1"} or set(seen.details) != {"v1"}:
            expected += f"; details {shares(wanted.details)}"
            observed += f"; details {counts(seen.details)}"
        if seen.flags:
            observed += f" (flags {counts(seen.flags)})"
        if wanted.seconds >= SLOW_SECONDS:
            observed += f", {seen.slowest:.1f} s"
        report.row(Row(who(user), expected, observed, verdict(why), tuple(why)))


def _beside(file: File, files: Sequence[File]) -> list[dict[str, Any]]:
    """What the file takes for granted: DestinationRules of its neighbours for subsets that ours lack, and, when it is
    about ratings alone, a route to the reviews that call ratings."""
    if file.reason or file.refused:
        return []
    found = []
    hosts = {_service(h, d) for d in _of_kind(file.docs, "VirtualService") for h in d["spec"]["hosts"]}
    if "ratings" in hosts and "reviews" not in hosts:
        found += documents(RATINGS_NEED_CALLERS.read_bytes())
    have = _subsets([*_our_rules(), *file.docs])
    for wanted in _wanted_subsets(file.docs):
        for other in files:
            if wanted not in have and not (other.reason or other.refused):
                fitting = [d for d in _of_kind(other.docs, "DestinationRule") if wanted in _subsets([d])][:1]
                have |= _subsets(fitting)
                found += fitting
    return list({key_of(d): d for d in found}.values())


def _nobody_there(app: Application, file: File, beside: Sequence[dict[str, Any]]) -> str:
    """A destination of the file that no process of ours serves."""
    running = {(c.service, c.version) for c in app.children}
    versions = _subsets([*_our_rules(), *beside, *file.docs])
    for host, subset in _wanted_subsets(file.docs):
        version = versions.get((host, subset), subset)
        if version and (host, version) not in running:
            return f"{host} {subset} does not run here"
    return ""


def _our_rules() -> list[dict[str, Any]]:
    return documents((CONFIG / "destination-rules.yaml").read_bytes())


def _of_kind(docs: Iterable[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [doc for doc in docs if doc.get("kind") == kind]


def _subsets(docs: Iterable[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """(service, subset) -> the version label it selects, "" for any."""
    return {
        (_service(str(d["spec"]["host"]), d), str(s["name"])): str((s.get("labels") or {}).get("version", ""))
        for d in _of_kind(docs, "DestinationRule")
        for s in d["spec"].get("subsets") or ()
    }


def _wanted_subsets(docs: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    return [
        (_service(str(route["destination"]["host"]), doc), str(route["destination"]["subset"]))
        for doc in _of_kind(docs, "VirtualService")
        for rule in doc["spec"].get("http") or ()
        for route in rule.get("route") or ()
        if route["destination"].get("subset")
    ]


def _compile_only(file: File) -> None:
    """Compile what is not played with the application's own resources, so that a compiler fault shows here too."""
    loaded = load_text(file.text, file.name)
    base = load_text((CONFIG / "application.yaml").read_bytes(), "application.yaml")
    compile_snapshot([*base.resources, *loaded.resources], workload_of("productpage", "v1"))
