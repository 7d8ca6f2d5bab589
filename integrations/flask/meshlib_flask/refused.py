"""A refusal after routing, as Flask's users expect it: an HTTPException, for the application's own error handlers."""

from __future__ import annotations

import functools
from typing import Any

from werkzeug.exceptions import HTTPException, default_exceptions

from meshlib.policy.refusal import Refusal


class Refused(HTTPException):
    """``refusal`` is what the mesh says. Without a handler of the application its page has the refusal's text."""

    refusal: Refusal

    def get_headers(self, *of: Any, **named: Any) -> list[tuple[str, str]]:
        """As werkzeug's, with those of the refusal."""
        ours = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.refusal.headers]
        names = {name.lower() for name, _ in ours}
        return [*(pair for pair in super().get_headers(*of, **named) if pair[0].lower() not in names), *ours]


def refused(refusal: Refusal) -> Refused:
    """What to raise for ``refusal``: caught by handlers of its status, of the exception that Flask has for that, and of
    HTTPException."""
    made = _kind(refusal.status)(description=refusal.text)
    made.refusal = refusal
    return made


@functools.cache
def _kind(status: int) -> type[Refused]:
    base = default_exceptions.get(status)
    bases = (Refused,) if base is None else (Refused, base)
    return type(f"Refused{status}", bases, {"code": status})
