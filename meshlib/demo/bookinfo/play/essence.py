"""A VirtualService or DestinationRule in a sentence, read from the YAML as written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def essence(docs: list[dict[str, Any]]) -> str:
    """``reviews -> v2 if end-user is jason; else v1`` for a file's resources."""
    said = [text for doc in docs if (text := _document(doc))]
    return "; ".join(said) or "no resources"


def _document(doc: Mapping[str, Any]) -> str:
    kind = str(doc.get("kind", "?"))
    spec = doc.get("spec") or {}
    if kind == "VirtualService":
        rules = [_rule(rule) for rule in spec.get("http") or ()]
        return f"{', '.join(spec.get('hosts') or ())} {', else '.join(rules) or 'without http rules'}"
    if kind == "DestinationRule":
        return _destination_rule(spec)
    return f"{kind} {(doc.get('metadata') or {}).get('name', '')}"


def _rule(rule: Mapping[str, Any]) -> str:
    parts = []
    fault = rule.get("fault") or {}
    if "delay" in fault:
        parts.append(f"delay {fault['delay'].get('fixedDelay')}{_percent(fault['delay'])}")
    if "abort" in fault:
        abort = fault["abort"]
        parts.append(f"abort {abort.get('httpStatus', abort.get('grpcStatus'))}{_percent(abort)}")
    routes = rule.get("route") or ()
    targets = []
    for route in routes:
        destination = route.get("destination") or {}
        target = destination.get("subset") or destination.get("host", "?")
        targets.append(f"{target} {route['weight']} %" if "weight" in route else str(target))
    if targets:
        parts.append(f"-> {', '.join(targets)}")
    if rule.get("timeout"):
        parts.append(f"timeout {rule['timeout']}")
    conditions = [_match(match) for match in rule.get("match") or ()]
    return " ".join(parts) + (f" if {' or '.join(conditions)}" if conditions else "")


def _match(match: Mapping[str, Any]) -> str:
    found = []
    for name, value in match.items():
        if name in ("headers", "withoutHeaders", "queryParams"):
            found += [f"{key} {_how(how)}" for key, how in value.items()]
        else:
            found.append(f"{name} {_how(value)}")
    return " and ".join(found)


def _how(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{'is' if how == 'exact' else how} {what}" for how, what in value.items()) or "is there"
    return str(value)


def _percent(fault: Mapping[str, Any]) -> str:
    value = (fault.get("percentage") or {}).get("value", fault.get("percent", 0))
    return "" if value == 100 else f" for {value:g} %"


def _destination_rule(spec: Mapping[str, Any]) -> str:
    policy = spec.get("trafficPolicy") or {}
    parts = [f"subsets {', '.join(s['name'] for s in spec.get('subsets') or ())}"] if spec.get("subsets") else []
    balancer = (policy.get("loadBalancer") or {}).get("simple")
    if balancer:
        parts.append(str(balancer))
    mode = (policy.get("tls") or {}).get("mode")
    if mode:
        parts.append(f"tls {mode}")
    return f"{spec.get('host')} {', '.join(parts) or 'policy'}"
