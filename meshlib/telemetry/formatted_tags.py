"""``customTags`` of the kind formatter: attributes in the operators of access logs, which are known when a call is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from meshlib.compiler.access_log.format import operators_in, parse
from meshlib.policy.secret_values import HIDDEN, is_secret
from meshlib.telemetry.access_log.text import text_of

if TYPE_CHECKING:
    from meshlib.policy.telemetry_settings import CustomTag
    from meshlib.telemetry.access_log.entry import Entry


class FormattedTags:
    """By name. What is not known of a call is ``-``, as in Envoy; a format of a header that opens doors (Authorization, say) is
    not shown."""

    __slots__ = ("_made",)

    def __init__(self, tags: Sequence[CustomTag], today: Callable[[], float]) -> None:
        self._made = [(tag.name, _value_of(tag, today)) for tag in tags]

    def of(self, entry: Entry) -> dict[str, str]:
        """Those of a call that is over."""
        return {name: made(entry) for name, made in self._made}


def _value_of(tag: CustomTag, today: Callable[[], float]) -> Callable[[Entry], str]:
    parts = parse(tag.value)
    headers = [name for each in operators_in(parts) for name in (each.argument or "").lower().split("?")]
    return (lambda _entry: HIDDEN) if any(map(is_secret, headers)) else text_of(parts, today)


def formatted(tags: Sequence[CustomTag], today: Callable[[], float]) -> FormattedTags | None:
    """None where there is none of that kind."""
    found = [tag for tag in tags if tag.kind == "formatter"]
    return FormattedTags(found, today) if found else None
