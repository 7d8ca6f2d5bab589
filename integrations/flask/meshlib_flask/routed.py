"""The second look: the path that Flask's router has matched is judged again, before anything that it leads to is called.

What lies between the mesh's middleware and the router may rewrite the path, and the router may read it otherwise than a policy
does (``/items/007`` is item 7 to ``<int:item>``). So the path that the application is shown and the one that the matched rule
makes of its values are judged where they are not the one that has been judged already; also where the method is wrong and the
response would be a 405.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Flask, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import PathConverter, Rule, UnicodeConverter

from meshlib.engine.authorization_check import judge_routed
from meshlib.policy.path_spellings import decode
from meshlib.transport.wsgi.request import other_path
from meshlib_flask.current import current_call
from meshlib_flask.refused import refused

VERBATIM = (UnicodeConverter, PathConverter)
"""Converters whose values are what stands in the path."""


def look(app: Flask) -> None:
    """Judge the request of the current context. Raises ``Refused``."""
    call = current_call()
    rule = request.url_rule
    if rule is not None and call.around is not None:
        call.route = rule.rule
    sent = decode(call.request.path)
    environ = request.environ
    shown = environ.get("PATH_INFO") or ""
    judged = {call.request.routed, None}
    for path in (shown, *_matched(app, rule, request.view_args)):
        other = other_path(sent, environ, path)
        if other is not None and other not in judged:
            judged.add(other)
            refusal = judge_routed(call, other)
            if refusal is not None:
                raise refused(refusal)


def _matched(app: Flask, rule: Rule | None, values: Any) -> Iterator[str]:
    """The path with its values as the converters of what matches it read them, wire strings; nothing where the values stand in
    it as they are."""
    if rule is not None:
        yield from _read(rule, values or {})
        return
    error = request.routing_exception
    if isinstance(error, MethodNotAllowed):
        adapter = app.create_url_adapter(request)
        assert adapter is not None  # there is one for every request
        for method in error.valid_methods or ():
            with contextlib.suppress(HTTPException):
                yield from _read(*adapter.match(method=method, return_rule=True))


def _read(rule: Rule, values: Mapping[str, Any]) -> Iterator[str]:
    if any(type(converter) not in VERBATIM for converter in rule._converters.values()):
        built = rule.build({name: values[name] for name in rule.arguments if name in values})
        if built is not None:
            yield decode(built[1])
