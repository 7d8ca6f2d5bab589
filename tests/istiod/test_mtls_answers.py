"""The modes of ports, auto mTLS, server names and identities, as the real istiod decides them (``mtls.jsonl.xz``: its filter
chains, clusters and endpoints). Where docs/parity.md says that we are stricter, it is said here, and nothing else differs."""

from __future__ import annotations

import json
import lzma
from collections import Counter
from typing import Any

import pytest

from meshlib.compiler.compile import compile_snapshot
from meshlib.compiler.routes import Cluster
from meshlib.resources.loader import load_objects
from meshlib.workload import Workload
from tests.istiod.mtls_cases import KEPT, ROOT
from tests.support.mesh_config import mesh_config

with lzma.open(KEPT, "rt") as file:
    CASES: list[dict[str, Any]] = [json.loads(line) for line in file]


def compiled(one: dict[str, Any], who: str) -> Any:
    documents = [*one["resources"], mesh_config(**one["mesh"])]
    loaded = load_objects(documents)
    assert not loaded.errors, loaded.errors
    workload = one[who]
    return compile_snapshot(loaded.resources, Workload(who, workload["namespace"], workload["labels"]))


def policies(one: dict[str, Any]) -> list[dict[str, Any]]:
    return [r for r in one["resources"] if r["kind"] == "PeerAuthentication"]


def stricter_in_root(one: dict[str, Any], ours: str) -> bool:
    """A selector in the root namespace, which istiod leaves out, says STRICT."""
    return (
        ours == "STRICT"
        and one["server"]["namespace"] == ROOT
        and any(p["metadata"]["namespace"] == ROOT and "selector" in p["spec"] for p in policies(one))
    )


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 400
    modes = Counter(mode for one in CASES for mode in one["istio"]["inbound"].values())
    assert all(modes[mode] >= 100 for mode in ("STRICT", "PERMISSIVE", "DISABLE")), modes
    assert set(modes) == {"STRICT", "PERMISSIVE", "DISABLE"}
    clusters = [c for one in CASES for c in one["istio"]["clusters"].values()]
    assert all(sum(c["tls"] == tls for c in clusters) >= 100 for tls in ("auto", "explicit", ""))


@pytest.mark.parametrize("one", CASES[::40], ids=lambda one: one["id"])
def test_some_by_name(one: dict[str, Any]) -> None:
    """So that a failure shows its mesh."""
    assert differences(one) == []


def test_every_port_has_istiods_mode_and_every_endpoint_istiods_tls() -> None:
    wrong = [text for one in CASES for text in differences(one)]
    assert wrong == []


def differences(one: dict[str, Any]) -> list[str]:
    found = []
    inbound = compiled(one, "server").inbound
    for port, theirs in one["istio"]["inbound"].items():
        ours = inbound.of(int(port)).mtls.value
        if ours != theirs and not stricter_in_root(one, ours):
            found.append(f"{one['id']} port {port}: {ours}, istiod has {theirs}")
    clusters = compiled(one, "client").clusters
    for key, theirs in one["istio"]["clusters"].items():
        cluster = clusters.get(key)
        if cluster is not None:
            wrong = wrong_of(one, cluster, theirs)
            if wrong:
                found.append(f"{one['id']} {key}: {wrong}")
    return found


def wrong_of(one: dict[str, Any], cluster: Cluster, theirs: dict[str, Any]) -> str:
    """ "" when what is spoken to each endpoint is the same, by the same name, to the same identities."""
    explicit = cluster.tls
    if (explicit is not None) != (theirs["tls"] == "explicit"):
        return f"explicit: {explicit}, istiod has {theirs}"
    if explicit is not None:
        if explicit.mode == "ISTIO_MUTUAL":
            return same_names(explicit.sni, explicit.subject_alt_names, theirs)
        return ""
    mutual = {key for key, takes in theirs["endpoints"].items() if takes} if theirs["tls"] == "auto" else set()
    if cluster.mutual != mutual:
        if cluster.mutual > mutual and theirs["tls"] == "" and disabled_as_a_whole(one):
            return ""  # the namespace says DISABLE, and the workload's own policy does not
        return f"by mTLS {sorted(cluster.mutual)}, istiod has {theirs}"
    if cluster.auto_mtls is None:
        return ""
    return same_names(cluster.auto_mtls.sni, cluster.auto_mtls.subject_alt_names, theirs)


def disabled_as_a_whole(one: dict[str, Any]) -> bool:
    """Whether the service's namespace, or the mesh, says DISABLE, and a policy with a selector something else."""
    wide = [p for p in policies(one) if "selector" not in p["spec"]]
    narrow = [p for p in policies(one) if "selector" in p["spec"]]
    return any(p["spec"].get("mtls") == {"mode": "DISABLE"} for p in wide) and bool(narrow)


def same_names(sni: str, names: tuple[str, ...], theirs: dict[str, Any]) -> str:
    if sni != theirs.get("sni", ""):
        return f"sni {sni}, istiod has {theirs.get('sni')}"
    if list(names) != theirs.get("names", []):
        return f"identities {names}, istiod has {theirs.get('names')}"
    return ""
