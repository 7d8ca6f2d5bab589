"""Attempts with a single response, the caller's thread waiting."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc

from meshlib.engine.outcome import Outcome
from meshlib.transport.grpcio.client.attempt import (
    callable_on,
    not_begun,
    outcome_of_end,
    refused,
    upstream_for,
    wants_headers,
)
from meshlib.transport.grpcio.client.callback_runtime import FromCallbacks
from meshlib.transport.grpcio.client.connect import CannotConnect, ChannelSettings
from meshlib.transport.grpcio.client.core_unary import Unary
from meshlib.transport.grpcio.client.outcome import GrpcOutcome
from meshlib.transport.grpcio.client.upstream import Upstream
from meshlib.transport.grpcio.contracts import ended_call
from meshlib.transport.runtimes.race import ThreadRace
from meshlib.transport.runtimes.threads import ThreadRuntime

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.engine.effects import Race, Send
    from meshlib.transport.core.mesh_core import MeshCore
    from meshlib.transport.grpcio.client.request import ThreadRequest
    from meshlib.transport.grpcio.contracts import ThreadMultiCallable


class Blocking(ThreadRuntime["ThreadRequest"]):
    """Calls with a single response, the caller's thread waiting."""

    def __init__(self, core: MeshCore, settings: ChannelSettings) -> None:
        super().__init__(core)
        self._settings = settings

    def send(self, effect: Send[ThreadRequest]) -> Outcome:
        # between two calls everything here falls out of the processor's caches: each function that need not be called is a
        # microsecond of `make bench`
        sent = effect.call.request
        upstream: Upstream | None = None
        try:
            known = effect.cluster.targets.get((effect.endpoint, self._settings))
            if type(known) is Upstream and not known.worn and not sent.sent_authority:
                upstream = known  # nearly always
            else:
                upstream = upstream_for(self._core, self._settings, effect)
            called: ThreadMultiCallable = upstream.calls.get((sent.method_called.key, sent.target)) or callable_on(
                upstream, effect
            )
            messages, metadata = sent.messages, sent.metadata(effect.attempt)
            rule = effect.call.record.rule_object
            changes = not rule.plain and wants_headers(effect)  # type: ignore[union-attr]  # there is one
            if (
                type(called) is Unary
                and type(messages) is bytes
                and sent.call_options is None
                and not changes
                and not sent.with_call
            ):
                return called.outcome(messages, effect.timeout, metadata)  # nearly always
            data = messages if isinstance(messages, bytes) else messages.attempt()
            outcome, options, timeout = GrpcOutcome(), sent.call_options, effect.timeout
            if changes or sent.with_call:
                if options is None:
                    outcome.message, outcome.call = called.with_call(data, timeout, metadata)
                else:
                    outcome.message, outcome.call = called.with_call(
                        data, timeout, metadata, options.credentials, None, options.compression
                    )
            elif options is None:
                outcome.message = called(data, timeout, metadata)
            else:
                outcome.message = called(data, timeout, metadata, options.credentials, None, options.compression)
        except grpc.RpcError as error:
            return outcome_of_end(self._core, upstream, effect, ended_call(error), effect.timeout is not None)
        except CannotConnect as error:
            return refused(error)
        except Exception as error:  # noqa: BLE001 (told to the caller)
            return not_begun(self._core, error)
        if changes:
            outcome.tell_headers(outcome.call.initial_metadata(), None, "")
        return outcome

    def race(self, effect: Race[ThreadRequest]) -> None:
        effect.winner, effect.winner.outcome = ThreadRace(effect, self._send_watched, self._core.alarms).run()

    def _send_watched(self, effect: Send[ThreadRequest], watch: Callable[[Callable[[], None]], None]) -> Outcome:
        """As ``send``, but so that it can be broken off."""
        over = threading.Event()
        result: list[Outcome] = []

        def done(outcome: Outcome) -> None:
            result.append(outcome)
            over.set()

        watch(FromCallbacks(self._core, self._settings).send(effect, done))
        over.wait()
        return result[0]
