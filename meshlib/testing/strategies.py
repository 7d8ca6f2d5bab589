"""Hypothesis strategies for outages: what goes wrong, where, when and for how long. What fails is shrunk to the few outages,
short and plain, that it takes. Needs hypothesis, which meshlib does not install."""

from __future__ import annotations

from collections.abc import Sequence

from meshlib.testing.outage import KINDS, Kind, Outage
from meshlib.testing.rules import seconds_of

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError("meshlib.testing.strategies needs hypothesis: pip install hypothesis") from error

TENTHS = 10
"""Times are tenths of seconds: they shrink to numbers that a person would write."""


def outage(
    hosts: Sequence[str] = ("*",),
    *,
    endpoints: Sequence[str | None] = (None,),
    kinds: Sequence[Kind] = KINDS,
    within: float = 60.0,
    longest: float | None = None,
) -> st.SearchStrategy[Outage]:
    """One outage of one of these hosts and endpoints (None: all of the host), of one of these kinds. It begins in the first
    ``within`` seconds and takes ``longest`` at most (None: ``within``). Shrinks towards what stands first, and towards 0 s.
    Raises ValueError for what can be no outage."""
    _check("hosts", hosts)
    _check("endpoints", endpoints)
    _check("kinds", kinds, KINDS)
    seconds_of("within", within)
    most = within if longest is None else longest
    if not seconds_of("longest", most) >= 1 / TENTHS:
        raise ValueError(f"an outage of {most} s at most is none: it takes a tenth of a second")
    what = [(kind, endpoint, host) for kind in kinds for endpoint in endpoints for host in hosts]

    # few choices: hypothesis takes elements of a list out as long as each is five choices at most
    @st.composite
    def made(draw: st.DrawFn) -> Outage:
        kind, endpoint, host = draw(st.sampled_from(what))
        start, seconds = draw(_seconds(0, within)), draw(_seconds(0.1, most))
        if kind == "latency":
            return Outage(host, None, endpoint, kind, start, seconds, latency=draw(_seconds(0.1, 10)))
        return Outage(host, None, endpoint, kind, start, seconds)

    return made()


def outages(
    hosts: Sequence[str] = ("*",),
    *,
    endpoints: Sequence[str | None] = (None,),
    kinds: Sequence[Kind] = KINDS,
    within: float = 60.0,
    longest: float | None = None,
    most: int = 4,
) -> st.SearchStrategy[list[Outage]]:
    """Up to ``most`` outages, for ``chaos.play``; they may overlap. The rest: see ``outage``."""
    one = outage(hosts, endpoints=endpoints, kinds=kinds, within=within, longest=longest)
    return st.lists(one, max_size=most)


def _check(name: str, given: Sequence[str | None], known: Sequence[str] = ()) -> None:
    if isinstance(given, str) or not given:
        raise ValueError(f"{name}={given!r}: it is a list with at least one of them")
    for each in given:
        if known and each not in known:
            raise ValueError(f"{name}: {each!r} is none of {', '.join(known)}")


def _seconds(least: float, most: float) -> st.SearchStrategy[float]:
    return st.integers(round(least * TENTHS), round(most * TENTHS)).map(lambda tenths: tenths / TENTHS)
