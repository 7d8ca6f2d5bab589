"""Whether shortcuts are taken: ways past what a call would do otherwise, which come to the same.

``MESHLIB_PLAIN=1`` in the environment turns all of them off, for those who want to know whether one of them is to blame.
docs/performance.md says of each when it applies; ``make plain`` runs the tests without any.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

VARIABLE = "MESHLIB_PLAIN"


def turned_off(environment: Mapping[str, str]) -> bool:
    """Whether the environment says so: by ``1`` and nothing else."""
    return environment.get(VARIABLE, "") == "1"


PLAIN: Final = turned_off(os.environ)
"""As of the import of this module."""
