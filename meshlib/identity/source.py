"""What feeds an ``Identity``: files, the SPIFFE Workload API, istiod, or the program itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from meshlib.alarms import Alarms
    from meshlib.clock import Clock
    from meshlib.security.svid import Svid
    from meshlib.security.trust_bundles import TrustBundles

Publish = Callable[["Svid", "TrustBundles"], None]
"""A new good version, from any thread. A version that is reported again without a change is not a rotation."""
Report = Callable[[str], None]
"""What is wrong, as a sentence with its file or address and its remedy; "" when it is over. The last good version stays."""


class CredentialSource(Protocol):
    """Runs from ``start`` to ``close``."""

    @property
    def what(self) -> str:
        """What it is, for people: ``the files a.pem, a.key, roots.pem``."""
        ...

    def start(self, publish: Publish, report: Report, clock: Clock, alarms: Alarms) -> None:
        """Publish what there is before it returns, if there is something; afterwards each change. Raises nothing for what may
        come later (a socket that is not there yet); ``BadCredentials`` (``meshlib.identity.errors``) for what cannot be
        meant."""
        ...

    def look(self) -> None:
        """Look now whether something has changed, where a look is cheap (files); else nothing."""
        ...

    def close(self) -> None:
        """Stop; no ``publish`` afterwards. Idempotent."""
        ...

    def after_fork(self) -> None:
        """In a forked child: threads of the parent do not exist here. What was published stays."""
        ...
