"""What stands for an AuthorizationPolicy, a RequestAuthentication or a PeerAuthentication that cannot be read and has no good
version yet: it refuses whatever that may have.

A broken policy keeps its last good version. Where there is none, leaving it out would let in whom it was written against.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from meshlib.resources.authorization_policy import AuthorizationPolicy, Rule
from meshlib.resources.base import Origin
from meshlib.resources.guarding import Guarding
from meshlib.resources.peer_authentication import PeerAuthentication
from meshlib.resources.request_authentication import RequestAuthentication
from meshlib.resources.selection import Selector
from meshlib.resources.unread_tokens import readable_rules

AUTHORIZATION_POLICY = "AuthorizationPolicy"
REQUEST_AUTHENTICATION = "RequestAuthentication"
PEER_AUTHENTICATION = "PeerAuthentication"
TORN = "it is not valid YAML"
"""What ``stands_for`` says of a document whose text is broken."""
_DRY_RUN = "istio.io/dry-run"
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_IN_A_TEXT = {
    kind: re.compile(rf"""["']?kind["']?\s*:\s*["']?{kind}\b""")
    for kind in (AUTHORIZATION_POLICY, REQUEST_AUTHENTICATION, PEER_AUTHENTICATION)
}
_ISTIOS = re.compile(r"security\.istio\.io")
_LENIENT = ({"mode": "PERMISSIVE"}, {"mode": "DISABLE"})
_NAMED = re.compile(r"""(?<![-\w./])["']?name["']?\s*:\s*["']?([a-z0-9][-a-z0-9.]*)""")


def stand_in_for(
    kind: str, value: Mapping[str, object], why: str, origin: Origin, twice: bool = False
) -> Guarding | None:
    """For a document of that kind, as far as it can be read: what cannot be counts as if it were for all. None when it surely
    refuses nobody: an AUDIT policy, a dry run, one for gateways and waypoints, one without rules for tokens, modes that let
    plain text in.

    ``twice``: some key of it is there twice, and either value may be the one that was meant, so that nothing is sure of
    whom it is for. It keeps its name and namespace: there may be a good version."""
    metadata, spec = _mapping(value.get("metadata")), _mapping(value.get("spec"))
    namespace = metadata.get("namespace", "default")
    place = namespace if isinstance(namespace, str) and namespace else None
    name = _text(metadata.get("name")) or "unnamed"
    if twice:
        return _signed(_of_name(kind, name, place), why, False, origin)
    if spec.get("targetRefs") or spec.get("targetRef"):
        return None
    selector = _selector(spec.get("selector"))
    made: Guarding
    if kind == AUTHORIZATION_POLICY:
        annotations = _mapping(metadata.get("annotations"))
        if spec.get("action") == "AUDIT" or _text(annotations.get(_DRY_RUN)) in _TRUE:
            return None
        made = _policy(name, place, selector)
    elif kind == PEER_AUTHENTICATION:
        if _lets_plain_text_in(spec):
            return None
        made = _strict(name, place, selector)
    else:
        rules = readable_rules(spec)
        if rules == []:
            return None
        made = _tokens(name, place, selector, rules)
    return _signed(made, why, place is not None, origin)


def stand_ins_for_text(text: str, origin: Origin) -> list[Guarding]:
    """For a document that is not YAML, none when it is not about such a policy. They are everywhere."""
    if not _ISTIOS.search(text):
        return []
    found = _NAMED.search(text)
    name = found[1] if found is not None else "unnamed"
    kinds = [kind for kind, pattern in _IN_A_TEXT.items() if pattern.search(text)]
    return [_signed(_of_name(kind, name, None), TORN, False, origin) for kind in kinds]


def _of_name(kind: str, name: str, namespace: str | None) -> Guarding:
    """For one of which nothing else is known."""
    if kind == AUTHORIZATION_POLICY:
        return _policy(name, namespace, None)
    if kind == PEER_AUTHENTICATION:
        return _strict(name, namespace, None)
    return _tokens(name, namespace, None, None)


def _policy(name: str, namespace: str | None, selector: Selector | None) -> AuthorizationPolicy:
    head = _head(AUTHORIZATION_POLICY, name, namespace)
    return AuthorizationPolicy.model_validate({**head, "spec": _spec(selector, action="DENY", rules=[Rule()])})


def _strict(name: str, namespace: str | None, selector: Selector | None) -> PeerAuthentication:
    head = _head(PEER_AUTHENTICATION, name, namespace)
    return PeerAuthentication.model_validate({**head, "spec": _spec(selector, mtls={"mode": "STRICT"})})


def _lets_plain_text_in(spec: Mapping[object, object]) -> bool:
    """Whether all modes can be read, there is one, and none of them is STRICT: then something else is wrong with the policy."""
    ports = spec.get("portLevelMtls", {})
    if not set(spec) <= {"selector", "mtls", "portLevelMtls"} or not isinstance(ports, Mapping):
        return False
    return all(mtls in _LENIENT for mtls in (spec.get("mtls"), *ports.values()))


def _tokens(
    name: str, namespace: str | None, selector: Selector | None, rules: list[dict[str, object]] | None
) -> RequestAuthentication:
    """``rules`` None: they cannot be read."""
    head = _head(REQUEST_AUTHENTICATION, name, namespace)
    made = RequestAuthentication.model_validate({**head, "spec": _spec(selector, jwtRules=rules or [])})
    made._looks_anywhere = rules is None
    return made


def _head(kind: str, name: str, namespace: str | None) -> dict[str, object]:
    metadata = {"name": name} if namespace is None else {"name": name, "namespace": namespace}
    return {"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": metadata}


def _spec(selector: Selector | None, **fields: object) -> dict[str, object]:
    """Of these workloads (no ``selector``: all of the namespace)."""
    return fields if selector is None else {**fields, "selector": selector}


def _signed(made: Guarding, why: str, placed: bool, origin: Origin) -> Guarding:
    """Not ``placed``: nobody knows where it belongs, and it is everywhere."""
    made._stands_for = why
    made._placed = placed
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
