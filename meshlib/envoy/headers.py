"""Header operations as Envoy's ``headers_to_add`` and ``headers_to_remove``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshlib.envoy.values import Json
from meshlib.policy.header_ops import Computed, HeaderOps
from meshlib.policy.sidecar_headers import FOR_THE_PROXY

if TYPE_CHECKING:
    from meshlib.policy.header_ops import Value

NO_OPS = HeaderOps()
FROM_PROXIES = sorted(name.decode("ascii") for name in FOR_THE_PROXY)
"""Headers of requests that no application is shown: istiod has filters of its Envoy take them away, which others have not."""


def header_changes(levels: Sequence[HeaderOps], direction: str) -> Json:
    """The operations of all levels; ``direction`` is "request" or "response".

    Envoy removes first, then sets, then adds, once a level of its own; here one level of Envoy's has what several of ours do
    one after the other."""
    ops = one_level(levels)
    adds = [_option(pair, "OVERWRITE_IF_EXISTS_OR_ADD") for pair in ops.set]
    adds += [_option(pair, "APPEND_IF_EXISTS_OR_ADD") for pair in ops.add]
    made: Json = {}
    if adds:
        made[f"{direction}_headers_to_add"] = adds
    if ops.remove:
        made[f"{direction}_headers_to_remove"] = list(dict.fromkeys(name.decode("latin-1") for name in ops.remove))
    return made


def one_level(levels: Sequence[HeaderOps]) -> HeaderOps:
    """One level that does what these do in turn: what a later one removes or replaces an earlier one need not make."""
    remove: tuple[bytes, ...] = ()
    replaced: tuple[tuple[bytes, Value], ...] = ()
    added: tuple[tuple[bytes, Value], ...] = ()
    for level in levels:
        gone = {*level.remove, *(name for name, value in level.set if value != b"")}
        replaced = tuple(pair for pair in replaced if pair[0] not in gone)
        added = tuple(pair for pair in added if pair[0] not in gone)
        remove += level.remove
        replaced += level.set
        added += level.add
    return HeaderOps(remove, replaced, added)


def common_end(levels: Sequence[Sequence[HeaderOps]]) -> int:
    """How many levels at their ends all have in common: those of a rule, after those of its destinations. Of one alone it is
    the last one, which then stays a level of Envoy's own: a value of it that comes to nothing replaces nothing before it."""
    if len(levels) == 1:
        return min(1, len(levels[0]) - 1) if levels[0] else 0
    count = 0
    while all(len(each) > count and each[-1 - count] == levels[0][-1 - count] for each in levels):
        count += 1
    return count


def _option(pair: tuple[bytes, Value], action: str) -> Json:
    name, value = pair
    text = value.text if isinstance(value, Computed) else value.decode("utf-8", "replace").replace("%", "%%")
    return {"header": {"key": name.decode("latin-1"), "value": text}, "append_action": action}
