"""The second look at a request: by the path that the application's router has chosen."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from meshlib.engine.inbound import CHECK_FAILED

if TYPE_CHECKING:
    from meshlib.engine.inbound import InboundCall
    from meshlib.policy.refusal import Refusal


def judge_routed(call: InboundCall, path: str) -> Refusal | None:
    """Ask the checks of ``call`` that judge by the path (their ``judges_routed`` is true) again, with ``path`` (decoded, a wire
    string) as what the router has matched: what refuses it, None when nothing does. What it was served by decides, not what
    has been loaded since."""
    call.request.routed = path
    for check in call.checks:
        if not getattr(check, "judges_routed", False):
            continue
        try:
            found = check(call.request)
        except Exception as error:  # noqa: BLE001 (fails closed: counted, logged once, and nobody comes in)
            call.failures.note(error)
            found = CHECK_FAILED
        if isinstance(found, Generator):
            found.close()
            raise TypeError("a check that judges the routed path must not ask anybody")
        if found is not None:
            call.refusal = found
            return found
    return None
