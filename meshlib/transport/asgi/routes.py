"""The route that an application's router has chosen, as the scope tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def route_of(scope: Mapping[str, Any]) -> object:
    """The route that was chosen, None when no router says. Newer FastAPIs tell the route as it was written in its
    router; with the prefixes of the routers that include it, it stands apart."""
    route: object = scope.get("route")
    told = scope.get("fastapi")
    included = told.get("effective_route_context") if isinstance(told, dict) else None
    if included is not None and getattr(included, "original_route", None) is route:
        return getattr(included, "starlette_route", None) or included
    return route


def template_of(scope: Mapping[str, Any]) -> str:
    """``/items/{item}``, or "" when no router says (Starlette's and FastAPI's put what has matched into ``scope["route"]``).
    Under a mount the prefix that has matched stands before it, as the mount's own template is not told."""
    route = route_of(scope)
    template = getattr(route, "path_format", None) or getattr(route, "path", None)
    if not isinstance(template, str):
        return ""
    outer, root = scope.get("app_root_path"), scope.get("root_path", "")
    if isinstance(outer, str) and root.startswith(outer):
        mounted = root[len(outer) :]
        return template if template.startswith(mounted) and mounted else mounted + template
    return template
