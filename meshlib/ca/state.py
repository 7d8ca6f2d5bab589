"""What an authority on disk has decided: who signs, and whose roots are in the bundle. One file, replaced whole, so that a step
of a change has been taken or has not."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from meshlib.ca.folders import BadStore
from meshlib.security.authority import ROOT_TTL

FILE = "ca.json"
FORMAT = 1
DAMAGED = "is damaged; put it back from a backup, or make a new CA: meshlib ca init DIR"


class Step(StrEnum):
    """Where a change of the authority stands: the last step that was taken."""

    NONE = "none"
    """No change is under way."""
    TRUST = "trust"
    """The new root is in the bundle beside the old; the old one signs."""
    SIGN = "sign"
    """The new one signs; the old root is still in the bundle."""


@dataclass(frozen=True, slots=True)
class State:
    """Authorities have numbers, which grow. ``trusted``: whose roots are in the bundle; ``signing``: who signs, one of them."""

    trust_domain: str
    signing: int
    trusted: tuple[int, ...]
    rsa: bool = False
    ttl: float = ROOT_TTL
    """Seconds that a new root is valid, as the first one."""

    @property
    def step(self) -> Step:
        """Where a change stands."""
        newest = max(self.trusted)
        if newest != self.signing:
            return Step.TRUST
        return Step.SIGN if len(self.trusted) > 1 else Step.NONE

    def trusting(self, trusted: tuple[int, ...]) -> State:
        """With these roots in the bundle."""
        return replace(self, trusted=trusted)

    def signed_by(self, signing: int) -> State:
        """With this one signing."""
        return replace(self, signing=signing)

    def dump(self) -> bytes:
        """As ``parse`` reads it."""
        document = {
            "format": FORMAT,
            "trustDomain": self.trust_domain,
            "signing": self.signing,
            "trusted": list(self.trusted),
            "rsa": self.rsa,
            "rootSeconds": self.ttl,
        }
        return json.dumps(document, indent=2).encode() + b"\n"

    @classmethod
    def parse(cls, text: bytes, file: Path) -> State:
        """Raises ``BadStore`` for what ``dump`` has not written."""
        try:
            found = json.loads(text)
            number = found["format"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadStore(f"{file} {DAMAGED}") from None
        if number != FORMAT:
            raise BadStore(
                f"{file} has format {number!r}, which this version of meshlib does not read; use a newer one"
            )
        try:
            made = cls(
                found["trustDomain"], found["signing"], tuple(found["trusted"]), found["rsa"], found["rootSeconds"]
            )
            whole = (
                isinstance(made.trust_domain, str)
                and isinstance(made.rsa, bool)
                and type(made.ttl) in (int, float)
                and all(type(each) is int and each > 0 for each in (made.signing, *made.trusted))
                and made.signing in made.trusted
            )
        except (KeyError, TypeError):
            whole = False
        if not whole:
            raise BadStore(f"{file} {DAMAGED}")
        return made
