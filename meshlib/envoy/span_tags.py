"""``customTags`` as Envoy's: which it writes as they are, where the built-in engine hides what opens doors.

So a header of secrets is a text that says so, a path has no query, and a format that would show a secret all the same is out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.compiler.access_log.format import FormatError, Operator, operators_in, parse
from meshlib.envoy.access_log import told_as_they_are
from meshlib.policy.secret_queries import WITH_QUERY
from meshlib.policy.secret_values import HIDDEN, is_secret

if TYPE_CHECKING:
    from meshlib.compiler.access_log.format import Parts
    from meshlib.envoy.values import Json
    from meshlib.policy.telemetry_settings import CustomTag

_PATHS = {
    ":path": "NQ:PATH",
    "x-envoy-original-path": "NQ:ORIG",
    "x-envoy-original-path?:path": "NQ:ORIG_OR_PATH",
}
"""Headers that are the path of a request with its query, and the argument of PATH that is the same without."""


def envoys_tag(tag: CustomTag) -> Json | None:
    """As Envoy takes it; None for one that is ``left_out``."""
    if left_out(tag):
        return None
    default = {"default_value": tag.default} if tag.default else {}
    if tag.kind == "literal":
        return {"tag": tag.name, "literal": {"value": tag.value}}
    if tag.kind == "environment":
        return {"tag": tag.name, "environment": {"name": tag.value, **default}}
    if tag.kind == "header":
        return {"tag": tag.name, **_header(tag.value.lower(), default)}
    return {"tag": tag.name, "value": _written(_without_queries(parse(tag.value)))}


def left_out(tag: CustomTag) -> str:
    """Why Envoy is not told of it, in words; "" when it is."""
    if tag.kind == "header" and tag.value.lower() in WITH_QUERY - {":path"}:
        return f"Envoy would show the query in {tag.value}, with the secrets in it"
    if tag.kind != "formatter":
        return ""
    try:
        operators = operators_in(_without_queries(parse(tag.value)))
    except FormatError as error:
        return error.message
    return "; ".join([*told_as_they_are(operators), *_queries(operators)])


def _header(name: str, default: Json) -> Json:
    if is_secret(name):
        return {"literal": {"value": HIDDEN}}  # whether it is there or not: Envoy has no tag of that
    if name in _PATHS:
        return {"value": f"%PATH({_PATHS[name]})%"}
    return {"request_header": {"name": name, **default}}


def _without_queries(parts: Parts) -> Parts:
    """The same with the path alone where the path with its query was wanted."""
    return tuple(each if isinstance(each, str) else _without_query(each) for each in parts)


def _without_query(each: Operator) -> Operator:
    argument = each.argument or ""
    if each.name == "REQ" and argument.lower() in _PATHS:
        return Operator("PATH", _PATHS[argument.lower()], each.limit)
    if each.name == "PATH":
        return Operator("PATH", "NQ" + argument[2:], each.limit)  # it is WQ or NQ, and where it is from
    return each


def _queries(operators: list[Operator]) -> list[str]:
    """A sentence for each that shows a query all the same."""
    found = []
    for each in operators:
        names = (each.argument or "").lower().split("?")
        if (
            each.name == "QUERY_PARAMS"
            or (each.name == "REQ" and not WITH_QUERY.isdisjoint(names))
            or (each.name == "PATH" and not (each.argument or "").startswith("NQ"))  # in a COALESCE
        ):
            found.append(f"{each} would show a query, with the secrets in it: write %PATH(NQ)%")
    return found


def _written(parts: Parts) -> str:
    return "".join(each.replace("%", "%%") if isinstance(each, str) else str(each) for each in parts)
