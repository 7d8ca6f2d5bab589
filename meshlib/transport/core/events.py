"""What the machinery of a mesh tells the log: one line for each event that an operator looks for at night.

docs/operations.md has all loggers, with what is said at which level.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshlib.policy.inbound_view import InboundView
    from meshlib.policy.outlier import Ejection
    from meshlib.telemetry.observe import Telemetry

inbound = logging.getLogger("meshlib.inbound")
outlier = logging.getLogger("meshlib.outlier")
breaker = logging.getLogger("meshlib.breaker")


def ejection(cluster: str, event: Ejection) -> None:
    """An endpoint is ejected, or comes back."""
    if event.kind == "ejected":
        outlier.info("%s of %s is ejected for at least %g s: %s", event.endpoint, cluster, event.seconds, event.trigger)
    else:
        outlier.info("%s of %s is back in use: %s", event.endpoint, cluster, event.trigger)


def resilience(telemetry: Telemetry, host: str, mechanism: str, mode: str, verdict: str) -> None:
    """A mechanism of a ResiliencePolicy has decided something: counted, and a breaker that changes is told."""
    telemetry.resilience(host, mechanism, mode, verdict)
    if mechanism != "circuitBreaker" or verdict == "refused":
        return
    shadow = "" if mode == "enforce" else " (mode: shadow, so calls go on)"
    if verdict == "open":
        breaker.info("the circuit breaker of %s is open: calls are refused until a trial call succeeds%s", host, shadow)
    else:
        breaker.info("the circuit breaker of %s is %s again%s", host, verdict, shadow)


def check_failure(error: Exception) -> None:
    """A check of a server has raised."""
    inbound.error(
        "a check has raised, and its request was refused; further ones are only counted (status: check_failures)",
        exc_info=error,
    )


def fetch_failure(url: str, why: str) -> None:
    """Keys of tokens could not be fetched."""
    inbound.warning(
        "the keys of %s could not be fetched: %s; without keys its tokens are refused, older ones serve for a day "
        "(it is tried again, and said again after the next success)",
        url,
        why,
    )


def authorizer(provider: str, why: str) -> None:
    """An external authorizer stops deciding (``why``), or decides again ("")."""
    if why:
        inbound.error(
            "the authorizer of extension provider %s has not decided: %s; what it is to decide about is refused, unless "
            "failOpen is written (status: authorizers)",
            provider,
            why,
        )
    else:
        inbound.warning("the authorizer of extension provider %s decides again", provider)


def authorization(what: str, request: InboundView, rule: str) -> None:
    """A request was refused, or is to be audited."""
    who = request.principal or "an unauthenticated peer"
    inbound.info("%s: %s %r from %s at %r: %s", what, request.method, request.path, who, request.peer, rule)
