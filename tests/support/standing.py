"""An authority in memory, as ``meshlib ca serve`` sees the one on disk."""

from __future__ import annotations

from dataclasses import dataclass

from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles


@dataclass(frozen=True)
class Standing:
    signer: Authority
    bundles: TrustBundles
