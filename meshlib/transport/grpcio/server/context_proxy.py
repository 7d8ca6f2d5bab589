"""A context of grpcio that is partly ours."""

from __future__ import annotations

from typing import Any


class ContextProxy:
    """A handler's context of which something is the mesh's; all else is grpcio's own."""

    __slots__ = ("_context",)

    def __init__(self, context: object) -> None:
        self._context: Any = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
