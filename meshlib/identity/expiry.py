"""What is reported of a certificate that is not renewed, in time for a person to act."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.security.svid import when

if TYPE_CHECKING:
    from meshlib.security.svid import Svid

DAY = 86400.0
SHORT_LIFE = 5
"""Of a certificate that lives less than two days it is said when this part of its life is left: it is renewed at 50-80 %."""
LOOK = 30.0
"""Seconds between two looks: a clock may jump."""


def expiry_notice(svid: Svid, now: float, *, in_trouble: bool) -> str:
    """A sentence, or "" while there is time. ``in_trouble``: a newer version is there that cannot be used, which was said when
    it was seen and is said again 24 hours before the end."""
    left = svid.not_after - now
    if left < 0:
        return (
            f"the certificate of {svid.identity} has expired on {when(svid.not_after)}: peers refuse it; "
            "look at what is to renew it, and at the clock of this machine"
        )
    life = svid.not_after - svid.not_before
    soon = DAY if life >= 2 * DAY or (in_trouble and life > 1.1 * DAY) else life / SHORT_LIFE
    if left > soon:
        return ""
    return (
        f"the certificate of {svid.identity} expires on {when(svid.not_after)} and has not been renewed: "
        "peers will refuse it then; check what should renew it"
    )
