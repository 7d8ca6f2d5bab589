"""What stands for an AuthorizationPolicy that cannot be read and has no good version yet: it refuses whatever that may have.

A broken policy keeps its last good version. Where there is none, leaving it out would let in whom it was written against.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from meshlib.resources.authorization_policy import AuthorizationPolicy, Rule
from meshlib.resources.base import Origin
from meshlib.resources.selection import Selector

KIND = "AuthorizationPolicy"
TORN = "it is no YAML"
"""What ``stands_for`` says of a document whose text is broken."""
_DRY_RUN = "istio.io/dry-run"
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_IN_A_TEXT = re.compile(rf"""["']?kind["']?\s*:\s*["']?{KIND}\b""")
_ISTIOS = re.compile(r"security\.istio\.io")
_NAMED = re.compile(r"""["']?name["']?\s*:\s*["']?([a-z0-9][-a-z0-9.]*)""")


def stand_in(name: str, namespace: str | None, selector: Selector | None, why: str) -> AuthorizationPolicy:
    """Of these workloads (no ``selector``: all of the namespace). ``namespace`` None: nobody knows where it belongs, and it is
    everywhere."""
    metadata: dict[str, str] = {"name": name} if namespace is None else {"name": name, "namespace": namespace}
    spec: dict[str, object] = {"action": "DENY", "rules": [Rule()]}
    if selector is not None:
        spec["selector"] = selector
    made = AuthorizationPolicy.model_validate(
        {"apiVersion": "security.istio.io/v1", "kind": KIND, "metadata": metadata, "spec": spec}
    )
    made._stands_for = why
    made._placed = namespace is not None
    return made


def stand_in_for(value: Mapping[str, object], why: str, origin: Origin) -> AuthorizationPolicy | None:
    """For a document of that kind, as far as it can be read: what cannot be counts as if it were for all. None when it surely
    refuses nobody: an AUDIT policy, a dry run, one for gateways and waypoints."""
    metadata, spec = _mapping(value.get("metadata")), _mapping(value.get("spec"))
    annotations = _mapping(metadata.get("annotations"))
    if spec.get("action") == "AUDIT" or _text(annotations.get(_DRY_RUN)) in _TRUE:
        return None
    if spec.get("targetRefs") or spec.get("targetRef"):
        return None
    namespace = metadata.get("namespace", "default")
    made = stand_in(
        _text(metadata.get("name")) or "unnamed",
        namespace if isinstance(namespace, str) and namespace else None,
        _selector(spec.get("selector")),
        why,
    )
    made._origin = origin
    return made


def stand_in_for_text(text: str, origin: Origin) -> AuthorizationPolicy | None:
    """For a document that is no YAML, None when it is not about such a policy. It is everywhere."""
    if not _IN_A_TEXT.search(text) or not _ISTIOS.search(text):
        return None
    named = _NAMED.search(text)
    made = stand_in(named[1] if named is not None else "unnamed", None, None, TORN)
    made._origin = origin
    return made


def _mapping(value: object) -> Mapping[object, object]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _selector(value: object) -> Selector | None:
    """None, which is everybody, unless it is a selector beyond doubt."""
    labels = value.get("matchLabels") if isinstance(value, Mapping) and set(value) == {"matchLabels"} else None
    if not isinstance(labels, Mapping):
        return None
    found = {key: label for key, label in labels.items() if isinstance(key, str) and isinstance(label, str)}
    return Selector(match_labels=found) if len(found) == len(labels) else None
