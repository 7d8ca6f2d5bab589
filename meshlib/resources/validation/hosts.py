"""Host names: what Istio takes for one, and which of two names covers the other."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence

from meshlib.resources.notices import Loc, Notice, refused
from meshlib.resources.validation.addresses import is_ip

_LABEL = r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_label = re.compile(_LABEL).fullmatch
_wildcard_label = re.compile(rf"\*|(?:\*-?)?{_LABEL}").fullmatch
_numeric = re.compile(r"[+-]?[0-9]+").fullmatch
_LONGEST_LABEL = 63
_LONGEST_NAME = 255
_OUTBOUND = "outbound_"


def is_dns_label(text: str) -> bool:
    """DNS-1123 in either case: letters, digits and inner dashes, at most 63."""
    return len(text) <= _LONGEST_LABEL and _label(text) is not None


def domain_problem(name: str) -> str:
    """Why ``name`` is not a domain name, "" when it is one. A single label may be a number; a last one after dots not."""
    return _length_problem(name) or _labels_problem(name)


def wildcard_domain_problem(name: str) -> str:
    """The same for names whose first label may be a wildcard: ``*``, ``*.example.com``, ``*-a.example.com``, ``*a``."""
    return _length_problem(name) or _wildcard_problem(name)


@functools.lru_cache(maxsize=16_384)
def _wildcard_problem(name: str) -> str:
    first, dot, rest = name.partition(".")
    if len(first) > _LONGEST_LABEL or _wildcard_label(first) is None:
        return f"{first!r} is not a DNS label"
    return _labels_problem(rest) if dot else ""


def _length_problem(name: str) -> str:
    if not name:
        return "it is empty"
    return f"it is longer than {_LONGEST_NAME} characters" if len(name) > _LONGEST_NAME else ""


@functools.lru_cache(maxsize=16_384)
def _labels_problem(name: str) -> str:
    labels = name.split(".")
    if _numeric(labels[-1]) and -(1 << 63) <= int(labels[-1]) < 1 << 63:
        return "its last label is only digits"
    if (labels[-1] == "" and len(labels) > 1) or name == "":
        labels.pop()  # example.com. is the same name, written out
    for label in labels:
        if not is_dns_label(label):
            return f"{label!r} is not a DNS label"
    return ""


def gateway_domain_problem(name: str, *, sni: bool) -> str:
    """``wildcard_domain_problem`` where a gateway's rules also know the names that proxies call each other by
    (``outbound_.80_.v1_.reviews.default.svc.cluster.local``), with ``sni``."""
    if not (sni and name.startswith(_OUTBOUND) and len(name) <= _LONGEST_NAME):
        return wildcard_domain_problem(name)
    parts = name.split("_")
    if len(parts) < 4 or not re.search("[0-9]", parts[1]) or not re.search("[a-zA-Z]", parts[3]):
        return "a name of this form is outbound_.PORT_.SUBSET_.HOST"
    return ""


def covers(one: str, other: str) -> bool:
    """Whether every host of ``other`` is one of ``one``: both may be wildcards."""
    if other.startswith("*"):
        return one.startswith("*") and len(other) >= len(one) and other[1:].endswith(one[1:])
    return other.endswith(one[1:]) if one.startswith("*") else one == other


def overlap(one: str, other: str) -> bool:
    """Whether one of the two covers the other, as Istio compares hosts of one resource."""
    if one.startswith("*") and other.startswith("*"):
        short, long = (one, other) if len(one) < len(other) else (other, one)
        return long[1:].endswith(short[1:])
    return covers(one, other) or covers(other, one)


def partial_wildcard(name: str) -> bool:
    """``*a.example.com``: a wildcard for a part of a label."""
    return "*" in name and name != "*" and not name.startswith("*.")


def scoped_host(text: str, loc: Loc, *, gateway: bool, nowhere: bool = False) -> Iterator[Notice]:
    """``namespace/host`` of a Sidecar's egress, or of a server of a Gateway, which may leave the namespace out. ``nowhere``:
    a Gateway's namespace may be "~", no namespace at all."""
    namespace, slash, host = text.partition("/")
    if not slash:
        if gateway:
            yield from _listed_host(text, loc, gateway=True)
        else:
            yield refused(
                "host-without-namespace",
                loc,
                f"{text!r} is not namespace/host",
                f'for example "./{text}" for this namespace, "*/{text}" for all' if text else '"*/*" for every host',
            )
        return
    if not namespace or not host:
        yield refused(
            "missing-host", loc, f"{text!r} lacks the namespace or the host", '"./*" is all of this namespace'
        )
        if not host:
            return
    if gateway:
        known = namespace in ("*", ".") or is_dns_label(namespace) or (nowhere and namespace == "~")
    else:
        rest = namespace.removeprefix("~")
        known = rest in ("", "*", ".") or is_dns_label(rest)
    if not known:
        yield refused(
            "bad-namespace", loc, f"{namespace!r} is not a namespace", 'a name, "." for this one, "*" for all'
        )
    yield from _listed_host(host, loc, gateway=gateway)


def _listed_host(host: str, loc: Loc, *, gateway: bool) -> Iterator[Notice]:
    if host != "*" and "." not in host:
        yield refused(
            "short-host",
            loc,
            f"{host!r} is a short name, and here the whole name is needed",
            f"{host or 'reviews'}.default.svc.cluster.local for a service of the cluster",
        )
    problem = wildcard_domain_problem(host)
    if problem and not (gateway and is_ip(host)):
        yield refused("bad-host", loc, f"{host!r} is not a host name: {problem}", "for example api.example.com")
    if partial_wildcard(host):
        yield refused(
            "partial-wildcard", loc, f"{host!r} has a wildcard for a part of a label", 'write "*.example.com"'
        )


def gateway_names(names: Sequence[str] | None, loc: Loc) -> Iterator[Notice]:
    """``mesh``, ``name`` or ``namespace/name``. As in Istio, what follows a name without a namespace is not looked at."""
    for index, name in enumerate(names or ()):
        namespace, slash, gateway = name.partition("/")
        if not slash:
            problem = domain_problem(name)
            if problem:
                yield refused(
                    "bad-gateway",
                    (*loc, index),
                    f"{name!r} is not a gateway: {problem}",
                    "write namespace/name, or mesh",
                )
            return
        if not is_dns_label(namespace) or not is_dns_label(gateway):
            yield refused(
                "bad-gateway",
                (*loc, index),
                f"{name!r} is not a gateway",
                "write namespace/name, both of them DNS labels",
            )
