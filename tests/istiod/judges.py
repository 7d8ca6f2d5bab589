"""A part of the answers, judged: in a process of its own, by the rules that lie beside the data."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

from meshlib import Mesh, Workload
from meshlib.errors import ConfigError
from meshlib.resources.loader import load_objects
from tests.istiod.tally import Accepted, Tally

HERE = Path(__file__).parent
ANSWERS = Path(os.environ.get("MESHLIB_ISTIOD") or HERE.parents[2] / "shared" / "corpus" / "istiod")


def judge(name: str) -> Any:
    """A module of the data's own folder, which is no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ANSWERS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def judge_routes(lines: list[str]) -> Tally:
    """Calls of some meshes. Every deviation that the rules know is counted by its name; ``accepted.txt`` says which may be."""
    rules, tally = judge("judge_routes"), Tally()
    for entry in map(json.loads, lines):
        for client in entry["clients"]:
            workload = Workload(
                client["workload"],
                client["namespace"],
                client["labels"],
                locality=client.get("locality", ""),
                address=client["address"],
            )
            try:
                mesh = Mesh.from_resources(entry["resources"], workload=workload, **rules.AS_ISTIO)
            except ConfigError as problem:
                for call in client["calls"]:
                    tally.different(call["class"], "refused", f"{entry['id']} {str(problem)[:300]}")
                continue
            with mesh:
                for call in client["calls"]:
                    ours, theirs, settings = rules.ours_of(mesh, call, False), call["istio"], client["settings"]
                    wrong = rules.differences(theirs, ours, settings, False)
                    if not wrong:
                        tally.equal(call["class"])
                    elif why := (
                        rules.documented(theirs, ours, wrong, call, settings, entry["resources"])
                        or recorded_once_a_pod(wrong, call, entry["resources"])
                    ):
                        tally.documented(call["class"], why)
                    else:
                        asked = f"{call['method']} {call['url']} {call['headers'] or ''}"
                        tally.different(call["class"], ",".join(wrong), f"{entry['id']} {client['workload']} {asked}")
    return tally


def recorded_once_a_pod(wrong: list[str], call: dict[str, Any], resources: list[dict[str, Any]]) -> str:
    """A deviation that the data's own rules do not know: istiod's routes of a headless service with several pods, on a port
    that declares no protocol, were recorded as empty (docs/parity.md says why no sidecar sees that)."""
    port = call["url"].partition("://")[2].partition("/")[0].rpartition(":")[2]
    if wrong != ["no_route -> route"]:
        return ""
    for resource in resources:
        spec = resource.get("spec", {})
        if resource["kind"] == "Service" and spec.get("clusterIP") == "None":
            pods = [
                r
                for r in resources
                if r["kind"] == "Pod" and spec["selector"].items() <= r["metadata"].get("labels", {}).items()
            ]
            sniffed = [p for p in spec["ports"] if str(p["port"]) == port and declares_nothing(p)]
            if sniffed and len(pods) > 1:
                return "headless-recorded-once-a-pod"
    return ""


def declares_nothing(port: dict[str, Any]) -> bool:
    """Whether neither the name of a service's port nor its appProtocol says what is spoken there."""
    name = port.get("name", "").partition("-")[0].lower()
    return not port.get("appProtocol") and name not in (
        "http",
        "http2",
        "https",
        "grpc",
        "tcp",
        "tls",
        "mongo",
        "mysql",
        "redis",
    )


def judge_verdicts(lines: list[str]) -> Tally:
    """Single resources. Stricter by codes that only the API server's own rules give (crd-*) counts as documented."""
    tally = Tally()
    for entry in map(json.loads, lines):
        kind, theirs = entry["resource"]["kind"], entry["istiod"]
        errors = load_objects([entry["resource"]]).errors
        codes = {"crd" if p.code.startswith("crd-") else p.code for p in errors}
        if bool(errors) != theirs["ok"]:
            tally.equal(kind)
        elif errors and codes <= Accepted.read(HERE / "accepted.txt").deviations:
            for code in sorted(codes)[:1]:
                tally.documented(kind, code)
        else:
            said = f"stricter: {errors[0].code}" if errors else "laxer"
            tally.different(kind, said, f"{entry['id']} {theirs.get('error', '')[:200]}")
    return tally
