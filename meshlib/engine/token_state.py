"""The token checks of a mesh's servers, and what they know from one configuration to the next: keys, and tokens that those
verified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshlib.engine.key_sets import KeySets
from meshlib.engine.token_check import TokenCheck

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.compiler.inbound import Inbound
    from meshlib.compiler.token_rules import TokenRules
    from meshlib.engine.key_sets import Asker
    from meshlib.policy.path_spellings import Normalization


class TokenState:
    """Of one mesh, for as long as it lives."""

    __slots__ = ("_checks", "_clock", "key_sets")

    def __init__(self, clock: Clock, ask: Asker) -> None:
        self._clock = clock
        self.key_sets = KeySets(clock, ask)
        self._checks: dict[tuple[TokenRules, Normalization], TokenCheck] = {}

    def take(self, settings: Sequence[Inbound]) -> None:
        """The checks of a new configuration: for the same rules the same one, with the tokens that it has verified. Keys that
        no rule needs any more are forgotten."""
        wanted = [found for inbound in settings if (found := _of(inbound)) is not None]
        self._checks = {
            key: self._checks.get(key) or TokenCheck(key[0], self.key_sets, self._clock, key[1]) for key in wanted
        }
        self.key_sets.retain({source for rules, _ in wanted for source in rules.sources()})

    def checks(self, inbound: Inbound) -> tuple[TokenCheck, ...]:
        """Those of settings that were taken: one, or none."""
        key = _of(inbound)
        return () if key is None else (self._checks[key],)

    def after_fork(self) -> None:
        """In a forked child: locks may be held, and fetches under way, by threads that do not exist here."""
        self.key_sets.after_fork()
        for check in self._checks.values():
            check.after_fork()


def _of(inbound: Inbound) -> tuple[TokenRules, Normalization] | None:
    return None if inbound.tokens is None else (inbound.tokens, inbound.mesh.path_normalization)
