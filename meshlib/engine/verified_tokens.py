"""Tokens that were verified, by their text: the next request that carries one needs no signature checked."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.policy.authorization.tokens import VerifiedClaims
    from meshlib.security.jwk import KeySet
    from meshlib.security.jwt import Jwt

MOST_TOKENS = 2048
MOST_CHARACTERS = 4 * 1024 * 1024
"""Of each rule's."""


class Verified:
    """A token that one of ``keys`` has signed, and what comes of it: ``claims`` and ``principal`` for policies, ``headers`` for
    the application. It is valid from ``begins`` on, before ``ends``."""

    __slots__ = ("begins", "claims", "ends", "headers", "keys", "principal", "token")

    def __init__(
        self,
        token: Jwt,
        keys: KeySet,
        claims: VerifiedClaims,
        principal: str,
        headers: tuple[tuple[str, bytes], ...],
    ) -> None:
        self.token = token
        self.keys = keys
        self.claims = claims
        self.principal = principal
        self.headers = headers
        self.begins, self.ends = token.current()

    def __repr__(self) -> str:
        return f"<Verified {self.token!r}>"


class VerifiedTokens:
    """Those of one rule, the oldest given up first. Only who holds a token that is valid can fill it."""

    __slots__ = ("_characters", "_found", "_lock", "kept")

    def __init__(self) -> None:
        self._found: dict[str, Verified] = {}
        self.kept: Callable[[str], Verified | None] = self._found.get
        """What was kept of a token, whatever keys have verified it."""
        self._characters = 0
        self._lock = Lock()

    def get(self, text: str, keys: KeySet | None) -> Verified | None:
        """What was kept of this token, if it was verified with these very keys. Its times are the caller's to check."""
        found = self._found.get(text)
        if found is not None and found.keys is not keys:
            self.forget(text)
            return None
        return found

    def keep(self, text: str, verified: Verified) -> None:
        """Keep it, and give up others when there are too many."""
        with self._lock:
            if text not in self._found:
                self._characters += len(text)
            self._found[text] = verified
            while len(self._found) > MOST_TOKENS or self._characters > MOST_CHARACTERS:
                oldest = next(iter(self._found))
                del self._found[oldest]
                self._characters -= len(oldest)

    def forget(self, text: str) -> None:
        """It has expired, or its keys have changed."""
        with self._lock:
            if self._found.pop(text, None) is not None:
                self._characters -= len(text)

    def after_fork(self) -> None:
        """In a forked child: another thread may have held the lock."""
        self._lock = Lock()
        self._characters = sum(map(len, self._found))

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"<VerifiedTokens {len(self._found)}>"
