"""What Envoy's rate limits share: the actions of ``rate_limits``, headers to add, fractions of requests."""

from __future__ import annotations

from collections.abc import Callable

from meshlib.compiler.envoy_values import Message, NotActedOn
from meshlib.policy.envoy_matchers import HeaderMatch, QueryMatch, TextMatch
from meshlib.policy.rate_limit_actions import (
    Action,
    GenericKey,
    QueryParameter,
    RateLimitActions,
    RemoteAddress,
    RequestHeader,
    ValueMatch,
)
from meshlib.policy.regex import BadRegex, wire
from meshlib.resources.validation.headers import is_header_name

Say = Callable[[str], None]
Fraction = tuple[int, int]
"""Of so many requests so many."""
ALL: Fraction = (100, 100)
_DENOMINATORS = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}
MAX_HITS = 1_000_000


def rate_limits_of(owner: Message, say: Say) -> tuple[RateLimitActions, ...]:
    """``rate_limits`` of a message. One that cannot be acted on is left out and told of by ``say``: its requests are counted by
    what remains."""
    found = []
    for entry in owner.messages("rate_limits"):
        try:
            made = _rate_limit(entry)
        except NotActedOn as why:
            say(f"{why}: requests are not counted by this one")
            continue
        if made is not None:
            found.append(made)
    return tuple(found)


def _rate_limit(entry: Message) -> RateLimitActions | None:
    if entry.text("disable_key"):
        return None  # which Envoy leaves to its runtime, and there is none
    hits = 1
    addend = entry.message("hits_addend")
    if addend is not None:
        hits = addend.whole("number", 1, 0, MAX_HITS)
        _all_read(addend)
    stage = entry.whole("stage", 0, 0, 10)
    actions = tuple(map(_action, entry.messages("actions")))
    if not actions:
        raise NotActedOn(f"{entry.where} has no actions")
    _all_read(entry)
    return RateLimitActions(actions, hits, stage)


def _action(message: Message) -> Action:
    kinds = [name for name, value in message.fields.items() if value is not None]
    if len(kinds) != 1:
        raise NotActedOn(f"{message.where} is not one action")
    make = _ACTIONS.get(kinds[0])
    inside = message.message(kinds[0])
    if make is None or inside is None:
        raise NotActedOn(f"{message.where}.{kinds[0]} has no counterpart here")
    made = make(inside)
    _all_read(inside)
    return made


def _all_read(message: Message) -> None:
    rest = message.rest()
    if rest:
        raise NotActedOn(f"{message.where}: {', '.join(rest)}")


def _masked(message: Message) -> Action:
    v4, v6 = message.whole("v4_prefix_mask_len", 32, 0, 32), message.whole("v6_prefix_mask_len", 128, 0, 128)
    return RemoteAddress("masked_remote_address", v4, v6)


def _header(message: Message) -> Action:
    name, key = message.text("header_name"), wire(message.text("descriptor_key"))
    if not name or not key:
        raise NotActedOn(f"{message.where} needs header_name and descriptor_key")
    if not is_header_name(name, pseudo=True):
        raise NotActedOn(f"{message.where}.header_name {name!r} is not the name of a header")
    return RequestHeader(name, key, message.flag("skip_if_absent"))


def _query(message: Message) -> Action:
    name, key = message.text("query_parameter_name"), wire(message.text("descriptor_key"))
    if not name or not key:
        raise NotActedOn(f"{message.where} needs query_parameter_name and descriptor_key")
    return QueryParameter(wire(name), key, message.flag("skip_if_absent"))


def _generic(message: Message) -> Action:
    return GenericKey(_value(message), wire(message.text("descriptor_key") or "generic_key"))


def _header_value(message: Message) -> Action:
    conditions = tuple(map(header_match, message.messages("headers")))
    return _value_match(message, "header_match", conditions)


def _query_value(message: Message) -> Action:
    conditions = tuple(map(_query_match, message.messages("query_parameters")))
    return _value_match(message, "query_match", conditions)


def _value_match(message: Message, key: str, conditions: tuple[HeaderMatch | QueryMatch, ...]) -> Action:
    if not conditions:
        raise NotActedOn(f"{message.where} has no conditions")
    key = wire(message.text("descriptor_key") or key)
    return ValueMatch(_value(message), key, conditions, message.flag("expect_match", True))


def _value(message: Message) -> str:
    value = message.text("descriptor_value")
    if not value or "%" in value:
        raise NotActedOn(f"{message.where}.descriptor_value {value!r}: a text without commands (%...%) is needed")
    return value


_ACTIONS: dict[str, Callable[[Message], Action]] = {
    "remote_address": lambda message: RemoteAddress(),
    "masked_remote_address": _masked,
    "request_headers": _header,
    "query_parameters": _query,
    "generic_key": _generic,
    "header_value_match": _header_value,
    "query_parameter_value_match": _query_value,
}


def header_match(message: Message) -> HeaderMatch:
    """A HeaderMatcher. Raises ``NotActedOn``."""
    name = message.text("name")
    invert, empty = message.flag("invert_match"), message.flag("treat_missing_header_as_empty")
    text, present = None, True
    for kind, short in (
        ("exact", "exact_match"),
        ("prefix", "prefix_match"),
        ("suffix", "suffix_match"),
        ("contains", "contains_match"),
    ):
        if message.has(short):
            text = TextMatch(kind, message.text(short))
    inner = message.message("string_match")
    if inner is not None:
        text = text_match(inner)
    expression = message.message("safe_regex_match")
    if expression is not None:
        text = _regex(expression)
    span = message.message("range_match")
    if span is not None:
        low, high = (span.whole(edge, 0, -(2**63), 2**63 - 1) for edge in ("start", "end"))
        text = TextMatch("range", low=low, high=high)
    if message.has("present_match"):
        present = message.flag("present_match")
    _all_read(message)
    if not name:
        raise NotActedOn(f"{message.where} has no name")
    if not is_header_name(name, pseudo=True):
        raise NotActedOn(f"{message.where}.name {name!r} is not the name of a header")
    return HeaderMatch(name, text, present, invert, empty)


def _query_match(message: Message) -> QueryMatch:
    name, inner = wire(message.text("name")), message.message("string_match")
    if message.has("present_match") and not message.flag("present_match"):
        raise NotActedOn(f"{message.where}.present_match false")
    _all_read(message)
    return QueryMatch(name, None if inner is None else text_match(inner))


def text_match(message: Message) -> TextMatch:
    """A StringMatcher. Raises ``NotActedOn``."""
    ignore_case = message.flag("ignore_case")
    expression = message.message("safe_regex")
    if expression is not None:
        made = _regex(expression)
    else:
        kinds = [kind for kind in ("exact", "prefix", "suffix", "contains") if message.has(kind)]
        if len(kinds) != 1:
            raise NotActedOn(f"{message.where} is not one condition")
        made = TextMatch(kinds[0], message.text(kinds[0]), ignore_case)
    _all_read(message)
    return made


def _regex(message: Message) -> TextMatch:
    message.has("google_re2")
    made = TextMatch("regex", message.text("regex"))
    try:
        made.compile()
    except BadRegex as error:
        raise NotActedOn(f"{message.where}.regex: RE2 refuses it: {error}") from error
    _all_read(message)
    return made


def fraction_of(owner: Message, name: str, default: Fraction) -> Fraction:
    """A RuntimeFractionalPercent: there is no runtime, so its default value."""
    found = owner.message(name)
    if found is None:
        return default
    found.has("runtime_key")
    value = found.message("default_value")
    if value is None:
        return (0, 100)
    numerator = value.whole("numerator")
    denominator = _DENOMINATORS[value.choice("denominator", tuple(_DENOMINATORS))]
    return min(numerator, denominator), denominator


def headers_of(owner: Message, name: str, say: Say) -> tuple[tuple[bytes, bytes], ...]:
    """A list of HeaderValueOption. One with a command in it (%...%) is left out and told of."""
    found = []
    for entry in owner.messages(name):
        header = entry.message("header")
        if header is None:
            continue
        key, value = header.text("key"), header.text("value")
        plain = value.replace("%%", "")
        if not key or "%" in plain or any(ord(c) < 32 for c in key + value):
            say(f"{entry.where}: a header whose value has commands (%...%) or controls is not added")
            continue
        found.append((wire(key).lower().encode("latin-1"), wire(value.replace("%%", "%")).encode("latin-1")))
    return tuple(found)
