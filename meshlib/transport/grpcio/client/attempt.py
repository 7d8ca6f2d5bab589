"""What the attempts of all runtimes have in common: the channel they are made on, how long they may take, what their end
comes to."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, TypedDict

from meshlib.engine.outcome import Failure, Outcome
from meshlib.transport.grpcio.client.connect import CannotConnect, ChannelSettings, MeshGone, connect, mutual_tls
from meshlib.transport.grpcio.client.outcome import UNAVAILABLE, UNKNOWN, GrpcOutcome, ended, failure_of
from meshlib.transport.grpcio.client.reachability import lost_connection
from meshlib.transport.grpcio.client.upstream import Upstream
from meshlib.transport.grpcio.client.upstreams import mutual_of, upstreams_of_mesh
from meshlib.transport.upstream.problems import MESH_CLOSED, mesh_closed

if TYPE_CHECKING:
    import grpc

    from meshlib.engine.call import Call
    from meshlib.engine.cluster import BoundCluster
    from meshlib.engine.effects import Send
    from meshlib.policy.endpoint import EndpointState
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.client.request import AnyRequest, GrpcRequest
    from meshlib.transport.grpcio.contracts import Messages, Metadata, ThreadCall

INFINITE = float("inf")
BROKEN = (Failure.CONNECT_FAILED, Failure.RESET)

_connecting = threading.Lock()
os.register_at_fork(after_in_child=_connecting._at_fork_reinit)  # type: ignore[attr-defined]  # its holder may not exist there


def upstream_for(
    core: MeshCore, settings: ChannelSettings, effect: Send[AnyRequest], loop: asyncio.AbstractEventLoop | None = None
) -> Upstream:
    """The channel for an attempt, of this runtime alone; made on first use. Raises ``CannotConnect``."""
    sent = effect.call.request
    return endpoint_upstream(core, settings, effect.cluster, effect.endpoint, sent.sent_authority, loop)


def endpoint_upstream(
    core: MeshCore,
    settings: ChannelSettings,
    cluster: BoundCluster,
    endpoint: EndpointState,
    authority: str = "",
    loop: asyncio.AbstractEventLoop | None = None,
) -> Upstream:
    """The same for an endpoint. ``authority``: one that a rule has set, "" for the channel's own."""
    key: tuple[object, ...]
    mutual = None if cluster.tls is None else mutual_tls(core, cluster, endpoint, settings)
    if mutual is not None:
        key = (endpoint, settings, loop, authority, mutual.mode)
    elif loop is None:
        key = (endpoint, settings, authority) if authority else (endpoint, settings)
    else:
        key = (endpoint, settings, loop, authority)
    known = cluster.targets.get(key)
    found = known if type(known) is Upstream else None
    if found is not None and (not found.worn or found.usable(core.clock.monotonic())):
        return found
    with _connecting:
        if core.closed:
            raise MeshGone(MESH_CLOSED)
        again = cluster.targets.get(key)
        if type(again) is Upstream and again is not found:
            return again
        if found is not None and found.pid == os.getpid():
            core.forget_targets([found])
        if loop is not None:
            _forget_closed_loops(core, cluster.targets)
            core.loop_ends.watch(loop)
        upstreams_of_mesh(core).check()
        now = core.clock.monotonic()
        try:
            through = None if mutual is None else (mutual, mutual_of(core))
            made = connect(core, cluster, endpoint, settings, authority or settings.authority, loop, now, through)
            if settings.health_service is not None:
                from meshlib.transport.grpcio.client.health import watch

                watch(made, cluster, endpoint, settings.health_service, core.alarms)
        except Exception as error:
            raise unable(error, f"no channel to {endpoint.key} could be made") from error
        made.usable(now)
        if mutual is not None and cluster.spec.tls is None:
            _forget_plain(core, cluster, endpoint, settings, authority, loop)
        cluster.targets[key] = made
        if cluster.has_left(endpoint):  # looked at after the channel can be found by who takes the endpoint out
            cluster.targets.pop(key, None)
        return made


def _forget_plain(
    core: MeshCore,
    cluster: BoundCluster,
    endpoint: EndpointState,
    settings: ChannelSettings,
    authority: str,
    loop: asyncio.AbstractEventLoop | None,
) -> None:
    """Auto mTLS: our certificate has come, and what was open in plain text is used no more."""
    for key in ((endpoint, settings, authority), (endpoint, settings), (endpoint, settings, loop, authority)):
        plain = cluster.targets.get(key)
        if isinstance(plain, Upstream) and plain.loop is loop:
            core.forget_targets([cluster.targets.pop(key)])


def unable(error: Exception, what: str) -> CannotConnect:
    """Raise it from ``error``."""
    return error if isinstance(error, CannotConnect) else CannotConnect(f"{what}: {type(error).__name__}: {error}")


def _forget_closed_loops(core: MeshCore, targets: dict[object, object]) -> None:
    for key, target in list(targets.items()):
        if isinstance(target, Upstream) and target.loop is not None and target.loop.is_closed():
            core.forget_targets([targets.pop(key)])


def invoker(upstream: Upstream, effect: Send[AnyRequest]) -> Any:
    """grpcio's multicallable for an attempt on a channel, of the channel's runtime. Raises ``CannotConnect``."""
    sent = effect.call.request
    return upstream.calls.get((sent.method_called.key, sent.target)) or callable_on(upstream, effect)


def callable_on(upstream: Upstream, effect: Send[AnyRequest]) -> Any:
    """A new multicallable for an attempt. Raises ``CannotConnect``."""
    sent = effect.call.request
    try:
        return upstream.multicallable(sent.method_called, sent.target)
    except Exception as error:
        raise unable(error, f"the channel to {effect.endpoint.key} cannot make calls") from error


def arguments(sent: GrpcRequest[Messages]) -> tuple[grpc.CallCredentials | None, None, grpc.Compression | None]:
    """The call's own arguments, as grpcio's multicallables of threads take them after the metadata."""
    options = sent.call_options
    return (None, None, None) if options is None else (options.credentials, None, options.compression)


class Keywords(TypedDict):
    """The arguments of grpcio's multicallables of asyncio."""

    timeout: float | None
    metadata: Metadata
    credentials: grpc.CallCredentials | None
    compression: grpc.Compression | None


def keywords(sent: GrpcRequest[Messages], timeout: float | None, metadata: Metadata) -> Keywords:
    """Arguments for asyncio."""
    credentials, _, compression = arguments(sent)
    return {"timeout": timeout, "metadata": metadata, "credentials": credentials, "compression": compression}


def refused(error: CannotConnect) -> Outcome:
    """No attempt can be made."""
    if isinstance(error, MeshGone):
        return mesh_closed(error)
    return Outcome(Failure.CONNECT_FAILED, str(error), error.__cause__ or error)


def not_begun(core: MeshCore, error: Exception) -> Outcome:
    """Something raised where an attempt begins (or where its end is told), and not to say how the call ended: whatever it
    is, it ends this attempt. No endpoint is to blame."""
    if core.closed:  # grpcio refuses calls on a channel that the mesh's closing has closed
        return mesh_closed(error)
    return Outcome(Failure.INVALID_REQUEST, f"the call could not be made: {type(error).__name__}: {error}", error)


def broken_off(core: MeshCore) -> bool:
    """Whether a CancelledError in this task is what grpcio's call ended with when the mesh was closed."""
    task = asyncio.current_task()
    return core.closed and task is not None and not task.cancelling()


def wants_headers(effect: Send[AnyRequest]) -> bool:
    """Whether a rule looks at the headers of the response."""
    record = effect.call.record
    destination, rule = record.destination, record.rule_object
    return (destination is not None and bool(destination.response_ops)) or (rule is not None and rule.cors is not None)


def total_time(core: MeshCore, effect: Send[AnyRequest]) -> float | None:
    """Seconds until all of a call must be over: the route's timeout and the caller's, whichever is earlier."""
    read = effect.call.timeouts.read
    end = effect.deadline
    if read is not None:
        by = effect.call.record.started + read
        end = by if end is None or by < end else end
    return None if end is None else max(0.0, end - core.clock.monotonic())


def outcome_of_end(
    core: MeshCore,
    upstream: Upstream | None,
    effect: Send[AnyRequest],
    end: ThreadCall,
    timed: bool,
    initial: Metadata | None = None,
    call: object = None,
) -> Outcome:
    """What an attempt that ended without any message comes to. ``end`` has the status: grpcio's exception, or its call.
    ``initial``: its initial metadata, where that must not be asked for here; ``call``: grpcio's call, if ``end`` is none."""
    if core.closed:
        return mesh_closed(end if isinstance(end, BaseException) else None)
    if initial is None:
        initial = end.initial_metadata()
    sent = effect.call.request
    messages = sent.messages
    code, details = end.code().value, end.details() or ""
    number = code[0] if isinstance(code, tuple) else UNKNOWN
    outcome = ended(
        number,
        details,
        initial,
        end if call is None else call,
        end if number and isinstance(end, BaseException) else None,
        timed,
        None if isinstance(messages, bytes) else messages.error,
    )
    if upstream is not None and upstream.local is not None and upstream.local.problem and outcome.failure in BROKEN:
        outcome = Outcome(Failure.CONNECT_FAILED, upstream.local.problem, outcome.error)
    if outcome.failure is Failure.CONNECT_FAILED and upstream is not None:
        lost_connection(core, upstream, effect)
    elif type(outcome) is GrpcOutcome and wants_headers(effect):
        outcome.tell_headers(tuple(initial), end.trailing_metadata(), details)
    return outcome


def end_of_stream(call: Call[AnyRequest], code: int, details: str, timed: bool) -> Failure | None:
    """What cut a stream whose response had begun, None when the server ended it; the record learns the caller's status."""
    record = call.record
    record.grpc_status = code
    failure = failure_of(code, details, timed) if code else None
    if failure is not Failure.TIMEOUT:
        return failure
    read = call.timeouts.read
    if read is not None and call.clock.monotonic() >= record.started + read:
        record.add_flag("DC")  # the caller's own time, which no endpoint is to blame for
        return None
    record.grpc_status = UNAVAILABLE  # what the caller of a route that took too long hears
    return failure
