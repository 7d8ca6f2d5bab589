"""The version of a configuration: a short hash of all its resources, told anew from what has changed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from meshlib.pace import take_turns

if TYPE_CHECKING:
    from meshlib.changes import Change
    from meshlib.resources.base import Resource

_BYTES = hashlib.sha256().digest_size


class Version:
    """Another one when any resource is, the same in every process and whatever the order of resources. It is a hash of the sum
    of their hashes, so that what has gone is subtracted."""

    def __init__(self) -> None:
        self._sum = 0

    def take(self, change: Change[Resource]) -> str:
        """The version after a change; the first is one from nothing."""
        for resource in change.gone:
            take_turns()
            self._sum -= int.from_bytes(resource.digest(), "big")
        for _, resource in change.come:
            take_turns()
            self._sum += int.from_bytes(resource.digest(), "big")
        self._sum %= 1 << 8 * _BYTES
        return hashlib.sha256(self._sum.to_bytes(_BYTES, "big")).hexdigest()[:12]
