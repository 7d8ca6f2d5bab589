"""Mirroring: a copy of the request goes to another destination, and its response is thrown away.

The copy runs beside the call (``Spawn``): it never delays it, never fails it, is tried once, and is told apart by the
``-shadow`` on its host, as in Envoy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.call import Call
from meshlib.engine.effects import Deliver, Send, Spawn
from meshlib.engine.message import R
from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.picks import Picks
from meshlib.engine.tally import result_of
from meshlib.engine.verdicts import TOO_LONG

if TYPE_CHECKING:
    from collections.abc import Generator

    from meshlib.compiler.routes import Mirror, Rule
    from meshlib.engine.effects import Exchange

MILLION = 1_000_000
PATIENCE = 60.0
"""Seconds a copy may take when its route has no timeout: nobody waits for it, so nobody would ever end it."""


def copies(
    call: Call[R], rule: Rule, mirrors: tuple[Mirror, ...], ready: bool
) -> Generator[Spawn[R], None, tuple[Mirror, ...]]:
    """The copies that are drawn for this call, each mirror on its own. ``ready``: whether all that is to be copied is there.
    The mirrors that are left to be asked later. What cannot be sent again cannot be copied, and the call's record says so."""
    if not ready:
        return mirrors
    if not call.request.replayable:
        if mirrors and call.request.protocol != "grpc":  # whose streams are copied as they go
            call.record.not_again(f"not mirrored: {TOO_LONG}")
        return ()
    for mirror in mirrors:
        if mirror.share < MILLION and call.rng.random() * MILLION >= mirror.share:
            continue
        if mirror.destination.cluster:  # a mirror to nowhere is ignored; the load has reported it
            # the request as it is now: the copy itself begins when the driver gets to it
            copy = Call(call.request.shadow(), call.live, call.clock, call.rng)
            copy.record = call.record
            yield Spawn(_copy(call, copy, rule, mirror.destination.cluster))
    return ()


def _copy(call: Call[R], copy: Call[R], rule: Rule, cluster_key: str) -> Exchange[R]:
    whole = call.timeouts.read if call.request.protocol == "grpc" else None  # gRPC's deadline is for all of a call
    cluster = call.live.cluster(cluster_key)
    now = call.clock.monotonic()
    picks = Picks(copy.request, rule, call.live.snapshot) if cluster.remembers_picks else None
    endpoint = cluster.pick(call.rng, now, picks, (), rule.retry)
    if endpoint is None or cluster.spec.refusal:
        yield Deliver(Outcome(Failure.CONNECT_FAILED, "the mirror has no usable endpoint"))
        return
    patience = min(rule.timeout or PATIENCE, PATIENCE if whole is None else whole)
    sent = Send(copy, cluster, endpoint, patience, now + patience)
    try:
        cluster.begin(sent)
        yield sent
        outcome = sent.outcome
        if outcome.failure is None:
            cluster.record_status(endpoint, outcome.health_status, call.clock.monotonic())
        else:
            cluster.state.tally.note(result_of(outcome))
        yield Deliver(outcome)
    except BaseException:
        if not hasattr(sent, "outcome"):
            cluster.state.tally.note(result_of(None))
        raise
    finally:
        cluster.end(sent)
