"""When two sides' answers to one call are the same."""

from __future__ import annotations

from dataclasses import replace

from tests.differential.grpcside.ask import Ask, Heard
from tests.differential.grpcside.servers import Attempt, Pairs
from tests.differential.referee.answers import NOT_POLICY

OF_A_PROXY = frozenset(("date", "server", "x-envoy-upstream-service-time"))
"""Metadata of answers that only a proxy's own clock and name put there."""
FOR_THE_PROXY = frozenset(
    (
        "x-envoy-max-retries",
        "x-envoy-retry-grpc-on",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-upstream-rq-per-try-timeout-ms",
    )
)
"""Request headers by which a caller changes policy; whether they are passed on has a test of its own."""
NOT_SENT_BY_POLICY = NOT_POLICY | FOR_THE_PROXY | {"x-call", "grpc-timeout", "accept-encoding", "grpc-accept-encoding"}
OF_GRPCIO = (
    "Stream removed",
    "Received http2 header",
    "Received RST_STREAM",
    "Deadline Exceeded",
    "No status received",
)
"""How details begin that grpcio's client writes, not Envoy: what a client says of a broken stream is its own affair."""
NO_DEADLINE = 1e9
SLACK = 0.12  # seconds, for a busy machine
AT_THE_DEADLINE = frozenset(("DEADLINE_EXCEEDED", "UNAVAILABLE", "INTERNAL"))
"""Envoy's clock and the clock of the client in front of it end a call at the same time; either may be first."""


def differences(ask: Ask, ours: Heard, theirs: Heard, drawn: bool = False, timed: bool = False) -> list[str]:
    """What differs, with both values. ``drawn``: each side draws its own endpoint; ``timed``: it must take as long."""
    if drawn:
        ours, theirs = anonymous(ours), anonymous(theirs)
    found: list[str] = []

    def same(what: str, our: object, their: object) -> None:
        if our != their:
            found.append(f"{what}: ours {our!r}, Envoy's {their!r}")

    late = ask.races and theirs.code in AT_THE_DEADLINE
    same("code", ours.code, "DEADLINE_EXCEEDED" if late else theirs.code)
    if not late:
        if not theirs.details.startswith(OF_GRPCIO) and not ours.details.startswith(theirs.details):
            same("details", ours.details, theirs.details)
        same("initial metadata", told(ours.initial), told(theirs.initial))
        same("trailing metadata", told(ours.trailing), told(theirs.trailing))
    if not (_is_cut(ask) and ours.code != "OK" and _one_begins_the_other(ours.texts, theirs.texts)):
        same("messages", ours.texts, theirs.texts)
    same("attempts", len(ours.attempts), len(theirs.attempts))
    same("places", where(ask, ours, drawn), where(ask, theirs, drawn))
    if timed and abs(ours.seconds - theirs.seconds) > SLACK:
        same("seconds", round(ours.seconds, 3), round(theirs.seconds, 3))
    by_server = [sorted(heard.attempts, key=lambda a: a.server) for heard in (ours, theirs)] if ask.copies else None
    for number, (our, their) in enumerate(zip(*(by_server or (ours.attempts, theirs.attempts)), strict=False), 1):
        same(f"path of attempt {number}", our.path, their.path)
        same(f"authority of attempt {number}", our.authority, their.authority)
        same(f"metadata of attempt {number}", sent(our.metadata), sent(their.metadata))
        if abs(left(our) - left(their)) > 0.02 + left(their) / 50:
            same(f"seconds left at attempt {number}", left(our), left(their))
    return found


def _is_cut(ask: Ask) -> bool:
    """Whether a server breaks off behind a message: whether that gets to the caller is a race of Envoy's and of gRPC core's."""
    return any(step.startswith(("mrst", "mclose")) for step in ask.script.split(","))


def _one_begins_the_other(these: tuple[str, ...], those: tuple[str, ...]) -> bool:
    return all(one == other for one, other in zip(these, those, strict=False))


def where(ask: Ask, heard: Heard, drawn: bool) -> tuple[object, ...]:
    """The servers of the attempts. Drawn ones: whether the second attempt went elsewhere (what follows is drawn again);
    copies come before or after the call itself."""
    if drawn:
        return (len(set(heard.places[:2])),)
    return tuple(sorted(heard.places)) if ask.copies else heard.places


def anonymous(heard: Heard) -> Heard:
    """Without the values that name the server that answered."""
    names = ("x-head", "answered-by")
    initial, trailing = (
        tuple((name, "?" if name in names else value) for name, value in pairs)
        for pairs in (heard.initial, heard.trailing)
    )
    return replace(heard, initial=initial, trailing=trailing)


def told(pairs: Pairs) -> Pairs:
    """Metadata of an answer, by name; values of one name stay in order."""
    kept = [p for p in pairs if p[0] not in OF_A_PROXY and not p[0].startswith("meshlib-")]
    return tuple(sorted(kept, key=lambda pair: str(pair[0])))


def sent(pairs: Pairs) -> Pairs:
    """Metadata of a request that policy may have changed."""
    kept = (
        (n, v.replace("-asyncio/", "/") if n == "user-agent" else v) for n, v in pairs if n not in NOT_SENT_BY_POLICY
    )
    return tuple(sorted(kept, key=lambda pair: str(pair[0])))


UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def left(attempt: Attempt) -> float:
    """The deadline that a server was told, in seconds from now."""
    if attempt.seconds_left is not None:
        return min(attempt.seconds_left, NO_DEADLINE)
    value = (attempt.values("grpc-timeout") or [""])[0]
    return int(value[:-1]) * UNITS[value[-1]] if value else NO_DEADLINE
