"""What the picks of one call have in common: its hash, or the address of the name that it dials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.compiler.snapshot import split_authority

if TYPE_CHECKING:
    import random

    from meshlib.compiler.routes import Rule
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.policy.http_match import RequestView

UNSET = -1


class Picks:
    """Made for calls to clusters that hash or that dial what the URL names, and handed into each pick: every attempt leads to
    the same hash and the same address. ``set_cookie``: a cookie that hashing made, for the response to set; "" without."""

    __slots__ = ("_address", "_hash", "_request", "_rule", "_snapshot", "set_cookie")

    def __init__(self, request: RequestView, rule: Rule, snapshot: Snapshot) -> None:
        self._request = request
        self._rule = rule
        self._snapshot = snapshot
        self._hash: int | None = UNSET
        self._address = ""
        self.set_cookie = ""

    def hash(self, rng: random.Random) -> int:
        """The request's hash; a random number when it has no key."""
        value = self._hash
        if value == UNSET:
            value = self._hash = self._hashed(rng)
        return rng.getrandbits(64) if value is None else value

    def _hashed(self, rng: random.Random) -> int | None:
        """By the policies of the route; a cookie that one wants and the request lacks is made."""
        from meshlib.policy.consistent_hash import combined, hash_of, new_cookie_value

        workload = self._snapshot.workload
        value: int | None = None
        made: dict[str, str] = {}
        for policy in self._rule.hash_policies:
            found = policy.request_hash(self._request, workload.address or workload.name)
            cookie = policy.cookie
            if found is None and cookie is not None and cookie.ttl is not None:
                if cookie.name not in made:
                    made[cookie.name] = new_cookie_value(rng)
                    self.set_cookie = cookie.set_cookie(made[cookie.name])
                found = hash_of(made[cookie.name])
            value = value if found is None else combined(value, found)
        return value

    def dialled(self, default_port: int, rng: random.Random) -> tuple[str, int]:
        """The address and port that the caller's URL names, never what a Host header says. A headless service's name is any one
        of its pods, as if the resolver had told this one first."""
        host, port = split_authority(self._request.dialled)
        known = self._snapshot.dialled.get(host)
        if known:
            if self._address not in known:
                self._address = known[0] if len(known) == 1 else rng.choice(known)
            host = self._address
        return host, port or default_port or (443 if self._request.scheme == "https" else 80)
