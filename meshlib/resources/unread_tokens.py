"""What can still be told of the ``jwtRules`` of a RequestAuthentication that cannot be read: where they look for tokens, and
which headers they set. All of it, or nothing: a place that is not known is one where a token would go unchecked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from meshlib.resources.base import Model
from meshlib.resources.model_fields import field_names
from meshlib.resources.request_authentication import FromHeader, JwtRule, OutputClaimToHeader, RequestAuthenticationSpec

_TELLING = frozenset(
    ("fromHeaders", "fromParams", "fromCookies", "outputPayloadToHeader", "outputClaimToHeaders", "presence")
)
"""The fields of a rule that matter here; a slip of the pen may mean one of them."""
_CLOSE = 0.6


def readable_rules(spec: Mapping[object, object]) -> list[dict[str, object]] | None:
    """The places and outputs of each rule, as a valid rule has them. None when they cannot all be told."""
    fields = _known(spec, RequestAuthenticationSpec, frozenset(("jwtRules",)))
    entries = fields.get("jwtRules") if fields is not None else None
    if not isinstance(entries, list):
        return None
    rules = [_rule(entry) for entry in entries]
    return None if None in rules else [rule for rule in rules if rule is not None]


def _rule(entry: object) -> dict[str, object] | None:
    fields = _known(entry, JwtRule, _TELLING)
    if fields is None or fields.get("presence") not in (None, "OPTIONAL"):
        return None
    headers, outputs = _list(fields.get("fromHeaders")), _list(fields.get("outputClaimToHeaders"))
    payload = fields.get("outputPayloadToHeader", "")
    rule: dict[str, object] = {
        "fromHeaders": None if headers is None else _all(map(_from_header, headers)),
        "fromParams": _names(fields.get("fromParams")),
        "fromCookies": _names(fields.get("fromCookies")),
        "outputClaimToHeaders": None if outputs is None else _all(map(_output, outputs)),
        "outputPayloadToHeader": payload if isinstance(payload, str) else None,
    }
    return None if None in rule.values() else rule


def _from_header(entry: object) -> dict[str, object] | None:
    """A prefix that is in doubt is none: any value of the header may be a token."""
    if not isinstance(entry, Mapping) or not _is_name(entry.get("name")):
        return None
    prefix = entry.get("prefix")
    sure = isinstance(prefix, str) and _known(entry, FromHeader, frozenset(("name", "prefix"))) is not None
    return {"name": entry["name"], "prefix": prefix if sure else ""}


def _output(entry: object) -> dict[str, object] | None:
    fields = _known(entry, OutputClaimToHeader, frozenset(("header",)))
    header = fields.get("header") if fields is not None else None
    return {"claim": "none", "header": header} if _is_name(header) else None


def _known(value: object, model: type[Model], telling: frozenset[str]) -> dict[str, object] | None:
    """The fields of an object by their names in YAML. None when it is none, has one twice, or one that nobody knows and that
    may have been meant for one of ``telling``."""
    if not isinstance(value, Mapping):
        return None
    names = field_names(model)
    spelled = {**{name: name for name in names}, **{attribute: name for name, attribute in names.items()}}
    found: dict[str, object] = {}
    for key, entry in value.items():
        name = spelled.get(key) if isinstance(key, str) else None
        if name in found or (name is None and (not isinstance(key, str) or _may_mean(key, names) & telling)):
            return None
        if name is not None:
            found[name] = entry
    return found


def _may_mean(key: str, names: Mapping[str, str]) -> set[str]:
    """The fields that are spelled alike, all of them when none is."""
    by_lower = {name.lower(): name for name in names}
    plain = key.lower().replace("_", "").replace("-", "")
    near = difflib.get_close_matches(plain, by_lower, n=len(by_lower), cutoff=_CLOSE)
    return {by_lower[found] for found in near} if near else set(names)


def _names(value: object) -> list[object] | None:
    entries = _list(value)
    return entries if entries is not None and all(map(_is_name, entries)) else None


def _list(value: object) -> list[object] | None:
    return [] if value is None else value if isinstance(value, list) else None


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _all(entries: object) -> list[object] | None:
    found = list(entries)  # type: ignore[call-overload]
    return None if None in found else found
