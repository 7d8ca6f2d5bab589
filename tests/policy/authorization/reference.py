"""What rules say, condition after condition, written down as naively as can be: what tables must agree with.

Shares no code with ``meshlib.policy.authorization`` but the settings; each condition is asked of each reading of the request.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence

from meshlib.policy.authorization.rules import Clause, Condition, Policy
from meshlib.policy.inbound_view import InboundView
from meshlib.policy.path_spellings import Normalization, path_spellings


def matches(policies: Sequence[Policy], request: InboundView, permits: bool, normalization: Normalization) -> set[str]:
    """The ids of the rules that match, with the policy's in front."""
    found = set()
    for policy in policies:
        for index, rule in enumerate(policy.rules):
            if any(_clause(clause, request, permits, normalization) for clause in rule.clauses()):
                found.add(f"{policy.id} {index}")
    return found


def _clause(clause: Clause, request: InboundView, permits: bool, normalization: Normalization) -> bool:
    rest = [c for c in clause if c.key != "paths"]
    if not all(_condition(c, request, permits) for c in rest):
        return False
    paths = [c for c in clause if c.key == "paths"]
    if not paths:
        return True
    spelled = path_spellings(request.path, normalization)
    if spelled.problem:
        return not permits
    looked_at = {(spelled.normalized, True), (spelled.decoded, False)}
    if not permits:
        looked_at |= {(spelled.wire, True), (spelled.resolved, False)}
    if request.routed is not None:
        looked_at.add((request.routed, False))
    whole = [all(_path(c, path, permits, raw) for c in paths) for path, raw in looked_at]
    return all(whole) if permits else any(whole)


def _path(condition: Condition, path: str, permits: bool, raw: bool) -> bool:
    def fits(values: Sequence[str], certain: bool) -> bool:
        return any(_template(v, path, certain and raw) if "{" in v else _text(v, path, certain) for v in values)

    wanted = not condition.values or fits(condition.values, permits)
    return wanted and not fits(condition.not_values, not permits)


def _template(template: str, path: str, as_envoy: bool) -> bool:
    one, rest = (r"[\w\-.~%!$&'()*+,;:@=]+", r"[\w\-.~%!$&'()*+,;:@=/]*") if as_envoy else ("[^/]+", "(?s:.*)")
    parts = [one if p == "{*}" else rest if p == "{**}" else re.escape(p) for p in re.split(r"(\{\*\*?\})", template)]
    return re.fullmatch("".join(parts), path, re.ASCII) is not None


def _text(pattern: str, value: str, certain: bool = False) -> bool:
    if pattern == "*":
        return bool(value) and not (certain and "\n" in value)
    if pattern[0] == "*":
        return value.endswith(pattern[1:])
    if pattern[-1] == "*":
        return value.startswith(pattern[:-1])
    return value == pattern


def _condition(condition: Condition, request: InboundView, permits: bool) -> bool:
    readings = _readings(condition.key, request)
    if readings is None:  # nobody knows
        return not permits
    peer = condition.key in ("source.principal", "source.namespace", "source.serviceAccount", "source.trustDomain")
    if peer and not request.principal:
        return not condition.values and not permits
    maybe, certain = readings

    def fits(values: Sequence[str], for_certain: bool) -> bool:
        return any((certain if for_certain else maybe)(value) for value in values)

    if condition.key.startswith("request.headers["):
        fits = lambda values, for_certain: _header(request, condition.key, values, for_certain)  # noqa: E731
    wanted = not condition.values or fits(condition.values, permits)
    return wanted and not fits(condition.not_values, not permits)


Test = Callable[[str], bool]


def _readings(key: str, request: InboundView) -> tuple[Test, Test] | None:
    """Whether a pattern maybe fits, and whether it does for certain; None when the fact is unknown."""
    same = lambda test: (test, test)  # noqa: E731
    if key == "methods":
        return same(lambda v: _text(v, request.method))
    if key == "destination.port":
        return same(lambda v: int(v) == request.port) if request.port else None
    if key in ("source.ip", "remote.ip", "destination.ip"):
        attribute = {"source.ip": "source_ip", "remote.ip": "remote_ip", "destination.ip": "local_ip"}[key]
        return _address(getattr(request, attribute))
    if key == "hosts":
        return _host(request)
    if key == "connection.sni":
        if not request.sni and request.secure:
            return None
        return lambda v: _text(v.lower(), request.sni.lower()), lambda v: _text(v, request.sni.lower())
    if key.startswith("source."):
        return same(_peer(key, request.principal))
    if key == "request.auth.principal":
        return _request_principal(request)
    if key.startswith("request.auth."):
        name = {"request.auth.audiences": "aud", "request.auth.presenter": "azp"}.get(key)
        names = [name] if name else re.findall(r"\[([^\]]*)\]", key)
        claim: object = request.claims
        for name in names:
            claim = claim.get(name) if isinstance(claim, dict) else None
        texts = claim if isinstance(claim, list) else [claim]
        return (
            lambda v: any(isinstance(t, str) and _text(v, t) for t in texts),
            lambda v: any(isinstance(t, str) and _text(v, t, True) for t in texts),
        )
    if key.startswith("request.headers["):
        return same(lambda v: False)  # asked in another way
    return None


def _address(ip: str) -> tuple[Test, Test] | None:
    if not ip:
        return None
    address = ipaddress.ip_address(ip)
    plain = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped else address

    def inside(block: str, of: object) -> bool:
        network = ipaddress.ip_network(block, strict=False)
        return of.version == network.version and of in network  # type: ignore[attr-defined]

    return lambda v: inside(v, plain) or inside(v, address), lambda v: inside(v, address)


def _host(request: InboundView) -> tuple[Test, Test] | None:
    if not request.host_known or not request.authority:
        return None
    name = request.authority.lower()
    found = re.fullmatch(r"(.*?)(\.?)(:\d*)?", name)
    assert found is not None
    host, dot, port = found[1], found[2], found[3] or ""
    forms = {name, host + dot, host, host + port}
    return lambda v: any(_text(v.lower(), form) for form in forms), lambda v: _text(v.lower(), name)


def _peer(key: str, principal: str) -> Test:
    if key == "source.principal":
        return lambda v: _text(v, principal.removeprefix("spiffe://"))
    if key == "source.namespace":
        return lambda v: re.fullmatch(f".*/ns/{re.escape(v).replace(re.escape('*'), '.*')}/.*", principal) is not None
    if key == "source.serviceAccount":

        def account(value: str) -> bool:
            namespace, _, name = value.partition("/")
            pattern = f"spiffe://.+/ns/{re.escape(namespace)}/(.+/|)sa/{re.escape(name)}(/.+)?"
            return re.fullmatch(pattern, principal) is not None

        return account
    return lambda v: (
        principal.startswith("spiffe://")
        if v == "*"
        else re.fullmatch(f"spiffe://{re.escape(v).replace(re.escape('*'), '[^/]*')}/.*", principal) is not None
    )


def _request_principal(request: InboundView) -> tuple[Test, Test]:
    claims = request.claims or {}
    issuer, subject = claims.get("iss"), claims.get("sub")

    def maybe(value: str) -> bool:
        if not isinstance(issuer, str) or not isinstance(subject, str):
            return False
        if "/" in value:
            wanted_issuer, _, wanted_subject = value.rpartition("/")
            return _half(wanted_issuer, issuer) and _half(wanted_subject, subject)
        return certainly(value) or (value == "*" and bool(issuer) and bool(subject))

    def certainly(value: str) -> bool:
        """What Istio's generator makes of it, case by case."""
        if not isinstance(issuer, str) or not isinstance(subject, str):
            return False
        wanted_issuer, slash, wanted_subject = value.rpartition("/")
        some = lambda text: bool(text) and "\n" not in text  # noqa: E731
        if value == "*":
            return some(issuer) and some(subject)
        if value.startswith("*"):
            if not slash:
                return some(issuer) and subject.endswith(value[1:])
            found = some(issuer) if wanted_issuer == "*" else issuer.endswith(wanted_issuer[1:])
            return found and subject == wanted_subject
        if value.endswith("*"):
            if not slash:
                return issuer.startswith(value[:-1]) and some(subject)
            found = some(subject) if wanted_subject == "*" else subject.startswith(wanted_subject[:-1])
            return issuer == wanted_issuer and found
        return (issuer, subject) == ((wanted_issuer, wanted_subject) if slash else (value, ""))

    return maybe, certainly


def _half(pattern: str, value: str) -> bool:
    return value == "" if pattern == "" else _text(pattern, value)


def _header(request: InboundView, key: str, values: Sequence[str], certain: bool) -> bool:
    name = key[len("request.headers[") : -1].lower()
    joined = request.header(name)
    if joined is None:
        return False
    lines = request.header_values(name) or [joined]
    if "*" in values:
        return True
    plain = [v for v in values if v != "*"]
    fits = lambda text: any(_text(v, text.strip(" \t")) for v in plain)  # noqa: E731
    if certain:
        return all(
            fits(line)
            and (
                all(fits(item) for item in line.split(","))
                or any("," in v and _text(v, line.strip(" \t")) for v in plain)
            )
            for line in lines
        )
    several = [",".join(lines), ", ".join(lines)] if len(lines) > 1 else []
    return any(fits(text) for text in [*lines, *(i for line in lines for i in line.split(",")), *several])
