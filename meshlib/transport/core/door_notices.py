"""What the doors of servers find out about the configuration in force that its compiler cannot know: what they are not told
by the server that they stand in, or by the router behind them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from meshlib.problems import Problem, Severity

if TYPE_CHECKING:
    from meshlib.compiler.inbound_protection import Protection

log = logging.getLogger("meshlib.serving")


class DoorNotices:
    """Those of one mesh. Each is logged once, and kept until another configuration is in force."""

    __slots__ = ("_kept", "_logged")

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Problem] = {}
        self._logged: set[tuple[str, str, str]] = set()

    def say(self, protection: Protection, code: str, field: str, message: str, hint: str) -> None:
        """That ``field`` of a ResiliencePolicy does not do at a door what it says."""
        key = (code, protection.resource)
        if key in self._kept:
            return
        where = protection.where
        problem = Problem(code, Severity.NOTICE, where[0], where[1], where[2], field, message, hint)
        self._kept[key] = problem
        if (*key, message) not in self._logged:
            self._logged.add((*key, message))
            log.warning("%s: %s", protection.resource, problem)

    def problems(self) -> list[Problem]:
        """Those of the configuration in force."""
        return list(self._kept.values())

    def forget(self) -> None:
        """Another configuration is in force: doors say again what they still find."""
        self._kept = {}
