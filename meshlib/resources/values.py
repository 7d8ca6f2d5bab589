"""What YAML and JSON texts hold, once read."""

from __future__ import annotations

from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None
Value: TypeAlias = "Scalar | list[Value] | dict[str, Value]"
"""A value of a document."""
Place: TypeAlias = tuple[int, int]
"""Line and column."""
