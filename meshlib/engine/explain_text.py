"""An ``Exchange`` as text: plain lines that read well in a terminal, a log and a bug report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.endpoint_tls import LABEL, MTLS

if TYPE_CHECKING:
    from meshlib.engine.facts import DestinationFacts, ExplanationFacts

NOISE = frozenset(("pod-template-hash", "controller-revision-hash", "pod-template-generation", "helm.sh/chart"))
NOISY_DOMAINS = ("kubernetes.io", "k8s.io", "istio.io")
"""Whose labels, on Pods, are written by machines or repeat what ``app`` and ``version`` say."""


def says_something(label: str) -> bool:
    """Whether a label of an endpoint helps a person to tell it from others. (``to_dict()`` has all of them.)"""
    domain, slash, _ = label.rpartition("/")
    noisy = any(domain == each or domain.endswith(f".{each}") for each in NOISY_DOMAINS)
    return label not in NOISE and not (slash and noisy)


TAKEN, NOT_TAKEN = "->", "  "


def render(data: ExplanationFacts) -> str:
    """Of ``Exchange.to_dict()``: the decision, then what happened if the call was made."""
    lines = [_headline(data)]
    if data.get("note"):
        lines.append(f"  note: {data['note']}")
    if data.get("lack"):
        lines.append(f"  {data['lack']}")
    if data.get("url"):
        lines.append(f"  url: {data['url']}")
    if data.get("alias"):
        lines.append(f"  alias: {data['alias']}")
    if data.get("host_header"):
        lines.append(f"  host: {data['host_header']}")
    for rule in data.get("considered", ()):
        mark = TAKEN if rule["taken"] else NOT_TAKEN
        name = f" {rule['name']}" if rule["name"] else ""
        label = "default route" if rule["rule"] < 0 else f"http[{rule['rule']}]{name}"
        verb = "taken" if rule["taken"] else "not taken"
        lines.append(f"  {mark} {label}: {verb}: {rule['reason']}")
    if data.get("reply"):
        lines.append(f"  reply: {data['reply']}")
    for target in data.get("destinations", ()):
        lines += _destination(target)
    for mirror in data.get("mirrors", ()):
        where = f"{mirror['host']}/{mirror['subset']}" if mirror["subset"] else mirror["host"]
        lines.append(f"  mirror: a copy of {mirror['share']:g} % to {where}")
    if data.get("delegate"):
        lines.append(f"  delegated to: {data['delegate']}")
    if data.get("cors"):
        lines.append("  cors: the mesh responds to preflights itself")
    for key in ("timeout", "retry", "rewrite", "fault"):
        if data.get(key):
            value = f"{data[key]:g} s for the whole call" if key == "timeout" else data[key]
            lines.append(f"  {key}: {value}")
    for number, attempt in enumerate(data["attempts"], 1):
        result = attempt["failure"] or attempt["status"]
        why = f": {attempt['detail']}" if attempt["detail"] else ""
        lines.append(f"  attempt {number}: {attempt['endpoint']}: {result} after {attempt['ms']:.1f} ms{why}")
    if data.get("not_sent_again"):
        lines.append(f"  {data['not_sent_again']}")
    if data["injected_delay"]:
        lines.append(f"  injected delay: {data['injected_delay']:g} s")
    if data["flags"]:
        lines.append(f"  flags: {data['flags']}")
    return "\n".join(lines)


def _headline(data: ExplanationFacts) -> str:
    what = data["resource"] or "no VirtualService"
    if data["rule"] is not None and data["rule"] >= 0:
        what += f" http[{data['rule']}]"
    where = f"{data['host']}/{data['subset']}" if data["subset"] else data["host"]
    if data["port"]:
        where += f" port {data['port']}"
    return f"{what} -> {where}  (config {data['config_version']})"


def _destination(target: DestinationFacts) -> list[str]:
    where = f"{target['host']}/{target['subset']}" if target["subset"] else target["host"]
    lines = [f"  {target['share']:g} % to {where} port {target['port']}"]
    if target.get("missing"):
        lines.append(f"       {target['missing']}: {target['reply']}")
        return [*lines, f"       {target['lack']}"] if target.get("lack") else lines
    policy = [target["balancer"]]
    policy += [target["limits"]] if target["limits"] else []
    policy += ["outlier detection"] if target["outlier_detection"] else []
    policy += ["HTTP/2"] if target["protocol"] == "HTTP/2" else []
    policy += [f"warm-up of {target['warmup']:g} s"] if target["warmup"] else []
    policy += [f"retries: {target['retry_budget']}"] if target["retry_budget"] else []
    policy += [f"TLS {target['tls']}"] if target["tls"] else []
    policy += [f"by {target['destination_rule']}"] if target["destination_rule"] else []
    lines.append(f"       {', '.join(policy)}")
    if target["hash_leads_to"]:
        lines.append(f"       this request's key leads to {target['hash_leads_to']}")
    if target["resilience"]:
        lines.append(f"       by {target['resilience']['resource']}: {target['resilience_text']}")
    changed = (("request headers", target["request_headers"]), ("response headers", target["response_headers"]))
    lines += [f"       {what}: {operations}" for what, operations in changed if operations]
    lines += _endpoints(target)
    if target.get("endpoints_note"):
        lines.append(f"       {target['endpoints_note']}")
    if target.get("reply"):
        lines.append(f"       reply: {target['reply']}")
    if target.get("lack"):
        lines.append(f"       {target['lack']}")
    return lines


def _endpoints(target: DestinationFacts) -> list[str]:
    lines = []
    by_mtls = any(endpoint["tls"] == MTLS or LABEL in endpoint["labels"] for endpoint in target["endpoints"])
    for endpoint in target["endpoints"]:
        state = "" if endpoint["usable"] else "  ejected" if endpoint["ejected"] else "  not ready"
        if endpoint["ejected_for"]:
            state += f" for another {endpoint['ejected_for']:g} s"
        labels = ",".join(f"{k}={v}" for k, v in sorted(endpoint["labels"].items()) if says_something(k))
        who = "  ".join(filter(None, (endpoint["pod"] and f"Pod {endpoint['pod']}", labels)))
        where = f"  {endpoint['locality']}" if endpoint["locality"] else ""
        where += f" priority {endpoint['priority']}" if endpoint["priority"] else ""
        lines.append(f"       {endpoint['address']}  {who}{where}{state}".rstrip())
        if by_mtls:
            lines.append(f"         {endpoint['tls']}: {endpoint['tls_reason']}")
    return lines
