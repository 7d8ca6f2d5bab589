"""Claims of a caller's token among the headers that a rule at a gateway asks for: ``@request.auth.claims.group``,
``@request.auth.claims.group.id``, ``@request.auth.claims[group][id]``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from meshlib.policy.authorization.tokens import claim_reader

PREFIX = "@request.auth.claims"


@functools.lru_cache(1024)
def reader_of(name: str) -> Callable[[Mapping[str, object] | None], tuple[str, ...]] | None:
    """What reads the texts of a claim, which ``name`` asks for; None: it asks for a header."""
    if not name.startswith(PREFIX):
        return None
    rest = name[len(PREFIX) :]
    if rest[:1] == "[" and rest[-1:] == "]":
        return claim_reader(tuple(rest[1:-1].split("][")))
    return claim_reader(tuple(rest[1:].split("."))) if rest[:1] == "." else None
