"""WSGI (PEP 3333) in types, as far as the standard library's leave it open."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias
from wsgiref.types import StartResponse, WSGIApplication

__all__ = ["Application", "Environ", "Headers", "Pieces", "StartResponse", "Write"]

Application: TypeAlias = WSGIApplication
Environ: TypeAlias = dict[str, Any]
"""Whatever a server puts there."""
Headers: TypeAlias = list[tuple[str, str]]
Write: TypeAlias = Callable[[bytes], object]
Pieces: TypeAlias = Iterable[bytes]
