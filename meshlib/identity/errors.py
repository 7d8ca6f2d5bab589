"""What is raised when an identity is made."""

from __future__ import annotations

from meshlib.problems import MeshError


class BadCredentials(MeshError, ValueError):
    """A certificate, key or bundle that cannot be used: says which file or address, why, and what to do."""
