"""Callers that tests make up: their identities, and the claims of a token."""

from __future__ import annotations

OPS = "cluster.local/ns/default/sa/ops"
WEB = "cluster.local/ns/shop/sa/web"
TOKEN = {"iss": "https://idp", "sub": "ann", "groups": ["staff", "admins"], "scope": "read"}
