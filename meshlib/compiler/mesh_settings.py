"""What of Istio's MeshConfig acts here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """``path_normalization`` is MeshConfig's ``pathNormalization.normalization``: NONE, BASE (which DEFAULT is too),
    MERGE_SLASHES or DECODE_AND_MERGE_SLASHES. ``trust_domain_aliases`` are trust domains whose identities count as those of
    ``trust_domain``."""

    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    path_normalization: str = "BASE"


DEFAULTS = MeshSettings()
