"""Resources of servers, in short."""

from __future__ import annotations

from typing import Any


def authorization_policy(name: str, action: str, *rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"action": action, "rules": list(rules), **spec},
    }


def on_paths(*paths: str, **source: Any) -> dict[str, Any]:
    """A rule for these paths, of these sources (none: everybody)."""
    rule: dict[str, Any] = {"to": [{"operation": {"paths": list(paths)}}]}
    if source:
        rule["from"] = [{"source": source}]
    return rule
