"""The CEL rules of Istio's CRDs, one function a shape. A rule is known by a digest of its text (see ``schemas.json``)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from pydantic_core import PydanticCustomError

from meshlib.resources.notices import Loc
from meshlib.resources.types import parse_duration
from meshlib.resources.urls import BadUrl, scheme_of, scheme_of_request
from meshlib.resources.values import Value

Fields = dict[str, Value]
T = TypeVar("T")
Check = Callable[[T], Loc | None]
"""The place below the value that is wrong, () for the value itself, None when all is well."""


class Rule(Generic[T]):
    """``kind`` is the type of value that the rule is about; another type is somebody else's error."""

    __slots__ = ("_check", "_kind", "hint", "message")

    def __init__(self, kind: type[T], check: Check[T], message: str, hint: str) -> None:
        self._kind = kind
        self._check = check
        self.message = message
        self.hint = hint

    def find(self, value: object) -> Loc | None:
        """What is wrong with a value of any type."""
        if type(value) is not self._kind or not isinstance(value, self._kind):  # True is an int to isinstance alone
            return None
        return self._check(value)


def at_most_one(*names: str) -> Check[Fields]:
    """Of these fields one at most is there; the second is told of."""

    def check(value: Fields) -> Loc | None:
        given = [name for name in names if value.get(name) is not None]
        return (given[1],) if len(given) > 1 else None

    return check


def _text(fits: Callable[[str], bool]) -> Check[str]:
    return lambda value: None if fits(value) else ()


def _object(fits: Callable[[Fields], bool], *place: str) -> Check[Fields]:
    return lambda value: None if fits(value) else place


def _keys(fits: Callable[[str], bool]) -> Check[Fields]:
    return lambda value: next(((key,) for key in value if not fits(key)), None)


def _is_duration(text: str) -> bool:
    try:
        return parse_duration(text) >= 0.001
    except PydanticCustomError:
        return False


def _is_port(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]+", str(text)) is not None and 1 <= int(str(text)[:20]) <= 65535


def _is_http_url(text: str) -> bool:
    try:
        scheme_of(text)
        return scheme_of_request(text) in ("http", "https")
    except BadUrl:
        return False


def _is_module_url(text: str) -> bool:
    for url in (text, f"http://{text}"):
        try:
            scheme_of(url)
            return scheme_of_request(url) in ("", "http", "https", "file", "oci")
        except BadUrl:
            continue
    return False


def _is_socket(text: str) -> bool:
    return not text.startswith("unix://") or text[7:8] in ("/", "@")


def _same_number_again(ports: list[Value]) -> Loc | None:
    seen: set[int | None] = set()
    for index, port in enumerate(ports):
        number = port.get("number") if isinstance(port, dict) else None
        if isinstance(number, int) and number in seen:
            return index, "number"
        seen.add(number if isinstance(number, int) else None)
    return None


def _waypoint_matches(match: Fields) -> Loc | None:
    if (match.get("context") == "WAYPOINT") == (match.get("waypoint") is not None):
        return None
    return ("waypoint",) if match.get("waypoint") is not None else ()


def _with_service_accounts(source: Fields) -> Loc | None:
    if source.get("serviceAccounts") is None and source.get("notServiceAccounts") is None:
        return None
    others = ("principals", "notPrincipals", "namespaces", "notNamespaces")
    return next(((name,) for name in others if source.get(name) is not None), None)


def _ports_without_selector(spec: Fields) -> Loc | None:
    selector = spec.get("selector")
    labels = selector.get("matchLabels") if isinstance(selector, dict) else None
    return ("portLevelMtls",) if spec.get("portLevelMtls") is not None and not labels else None


def _resolution(spec: Fields, unset: str = "NONE") -> Value:
    found = spec.get("resolution")
    return unset if found is None else found


def _range_with_dns(spec: Fields) -> Loc | None:
    if _resolution(spec) in ("STATIC", "NONE"):
        return None
    addresses = spec.get("addresses")
    for index, address in enumerate(addresses if isinstance(addresses, list) else ()):
        if isinstance(address, str) and "/" in address:
            return "addresses", index
    return None


def _wasm_or_lua(spec: Fields) -> Loc | None:
    wasm, lua = spec.get("wasm") is not None, spec.get("lua") is not None
    return None if wasm != lua else ("lua",) if lua else ()


def _count(value: Value) -> int:
    return len(value) if isinstance(value, Collection) else 0


_TARGETS = "a policy has one of selector, targetRef and targetRefs"
_TARGETS_HINT = "keep the one that says where the policy belongs"
_CREDENTIALS_HINT = "keep the one that names the certificates in use"
_MODULE_URL = Rule(
    str,
    _text(_is_module_url),
    "it is not where a module is",
    "for example oci://registry/name:tag, https://host/plugin.wasm or file:///opt/plugin.wasm",
)
_NO_WILDCARD = "name the labels as they are, or leave the selector out to select all"

RULES: dict[str, Rule[str] | Rule[int] | Rule[list[Value]] | Rule[Fields]] = {
    "89646882bde7": Rule(dict, at_most_one("selector", "targetRef", "targetRefs"), _TARGETS, _TARGETS_HINT),
    "9c8b2fa1e5c2": Rule(dict, at_most_one("selector", "targetRefs"), _TARGETS, _TARGETS_HINT),
    "e1938d85b3be": Rule(dict, at_most_one("workloadSelector", "targetRefs"), _TARGETS, _TARGETS_HINT),
    "89f4e4afe65e": Rule(
        dict,
        _with_service_accounts,
        "service accounts exclude namespaces and principals",
        "serviceAccounts: [prod/reviews] has the namespace in it",
    ),
    "26758da237cc": Rule(dict, _keys(lambda key: "*" not in key), "a label has a wildcard", _NO_WILDCARD),
    "8a1f9f4d64a6": Rule(dict, _keys(bool), "the key of a label is empty", "write app: reviews, for example"),
    "6d84550d7de0": Rule(str, _text(lambda text: "*" not in text), "a label has a wildcard", _NO_WILDCARD),
    "d6caec74c66b": Rule(
        str,
        _text(lambda text: not text),
        "a target in another namespace cannot be named",
        "leave namespace out, and put the policy into the namespace of its target",
    ),
    "b285c881b30f": Rule(
        str, _text(_is_duration), "it is not a duration of 1ms or more", 'for example "1.5s", "100ms", "1h30m"'
    ),
    "bf8edd11d50e": Rule(
        dict,
        _waypoint_matches,
        "context: WAYPOINT and a match of waypoint go together",
        "write both, or neither",
    ),
    "3bf4e859ad73": Rule(int, lambda port: None if 1 <= port <= 65535 else (), "it is not a port", "a number 1..65535"),
    "e533e1c03915": Rule(
        dict,
        at_most_one("tlsCertificates", "credentialNames"),
        "tlsCertificates and credentialNames exclude each other",
        _CREDENTIALS_HINT,
    ),
    "e873d174ad32": Rule(
        dict,
        at_most_one("credentialNames", "tlsCertificates"),
        "credentialNames and tlsCertificates exclude each other",
        _CREDENTIALS_HINT,
    ),
    "ed1c6e372f71": Rule(
        dict,
        at_most_one("credentialName", "credentialNames"),
        "credentialName and credentialNames exclude each other",
        _CREDENTIALS_HINT,
    ),
    "95e3836a303f": Rule(
        dict,
        _ports_without_selector,
        "a policy for a mesh or a namespace cannot have portLevelMtls",
        "select the workloads that have the port: selector: {matchLabels: {app: ...}}",
    ),
    "ae7819969e1f": Rule(dict, _keys(_is_port), "it is not a port", "a number 1..65535"),
    "4cb7bfad58b0": Rule(
        dict,
        at_most_one("jwks", "jwksUri", "jwks_uri"),
        "jwks and jwksUri exclude each other",
        "keep jwksUri, unless the keys never change",
    ),
    "cc426255eaf0": Rule(
        str,
        _text(_is_http_url),
        "it is not an http or https URL",
        "for example https://idp.example.com/.well-known/jwks.json",
    ),
    "95dbd45ec363": Rule(
        dict,
        at_most_one("workloadSelector", "endpoints"),
        "workloadSelector and endpoints exclude each other",
        "keep the one that says where the service runs",
    ),
    "ae7cd2871563": Rule(
        dict,
        _range_with_dns,
        "ranges of addresses are for resolution NONE and STATIC",
        "write single addresses, or resolution: STATIC",
    ),
    "979d36ca9de7": Rule(
        dict,
        _object(lambda spec: _resolution(spec) != "NONE" or spec.get("endpoints") is None, "endpoints"),
        "with resolution NONE calls go to the address dialled, and endpoints have no meaning",
        "write resolution: STATIC or DNS",
    ),
    "f8aacd3a4eec": Rule(
        dict,
        _object(lambda spec: _resolution(spec) != "DNS_ROUND_ROBIN" or _count(spec.get("endpoints")) <= 1, "endpoints"),
        "DNS_ROUND_ROBIN has one endpoint at most",
        "keep one, or write resolution: DNS",
    ),
    "3ff6915acab0": Rule(
        dict,
        _object(lambda entry: entry.get("address") is not None or entry.get("network") is not None),
        "neither address nor network is given",
        "write address: 10.0.0.1, for example",
    ),
    "7b6fa2085b84": Rule(
        dict,
        _object(
            lambda entry: not str(entry.get("address")).startswith("unix://") or entry.get("ports") is None, "ports"
        ),
        "a Unix domain socket has no ports",
        "remove ports",
    ),
    "9e3044fa766a": Rule(
        str,
        _text(_is_socket),
        "a Unix domain socket is an absolute path or an abstract name",
        "for example unix:///var/run/app.sock or unix://@app",
    ),
    "000638c10cfb": Rule(
        str,
        _text(lambda text: not (text.startswith("unix://") and text.endswith("/"))),
        "a Unix domain socket is a file, not a folder",
        "for example unix:///var/run/app.sock",
    ),
    "c2aa73ba29ff": Rule(
        dict,
        _keys(lambda key: re.fullmatch(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,60}[a-zA-Z0-9])?", key) is not None),
        "it is not the name of a port",
        "letters, digits and dashes, at most 62",
    ),
    "7451de171ecc": Rule(
        str, _text(lambda host: host != "*"), "the host * takes everything", "name a domain: *.example.com"
    ),
    "e33b2a395c19": Rule(
        list, _same_number_again, "two ports have the same number", "remove one; a port has one protocol"
    ),
    "d6ce7f014d61": Rule(
        dict,
        _object(lambda tag: tag.get("operation") != "UPSERT" or bool(tag.get("value"))),
        "a tag is set (operation UPSERT) to no value",
        "give a value, or write operation: REMOVE",
    ),
    "5b3ceeadaf9d": Rule(
        dict,
        _object(lambda tag: tag.get("operation") != "REMOVE" or tag.get("value") is None, "value"),
        "a tag is removed, and has a value",
        "write operation: UPSERT, or remove value",
    ),
    "e29690d9c14d": Rule(
        dict,
        _wasm_or_lua,
        "exactly one of wasm and lua is to be given",
        "write lua: {inlineCode: ...}, or wasm: {url: ...}",
    ),
    "2fe7d8ae7ec5": _MODULE_URL,
    "f0c4f66f4929": _MODULE_URL,
    "1b0040b126e1": Rule(
        dict,
        _object(lambda variable: variable.get("valueFrom") != "HOST" or variable.get("value") is None, "value"),
        "the value comes from the proxy's environment (valueFrom: HOST), and is given as well",
        "remove value, or write valueFrom: INLINE",
    ),
    "40a7e4064c89": Rule(
        str,
        _text(lambda scheme: scheme in ("", "HTTP", "HTTPS")),
        "it is neither HTTP nor HTTPS",
        "write HTTP or HTTPS",
    ),
}
