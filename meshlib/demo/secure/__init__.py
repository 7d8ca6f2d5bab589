"""Bookinfo with identities: STRICT mTLS by certificates of our own CA that rotate, tokens, policies, and a real Envoy."""

from __future__ import annotations

from pathlib import Path

CONFIG = Path(__file__).parent / "config"
TRUST_DOMAIN = "cluster.local"
