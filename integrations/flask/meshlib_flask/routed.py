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
from meshlib.engine.drivers import run
from meshlib.engine.inbound import InboundCall
from meshlib.engine.routed_limits import limits_of_route
from meshlib.policy.path_spellings import decode
from meshlib.transport.runtimes.serving import Server
from meshlib.transport.wsgi.request import other_path
from meshlib_flask.current import current_call
from meshlib_flask.refused import refused

VERBATIM = (UnicodeConverter, PathConverter)
"""Converters whose values are what stands in the path."""


def look(app: Flask, server: Server) -> None:
    """Judge the request of the current context, at the ``server`` that lets it in. Raises ``Refused``."""
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
    if call.route_limits is not None:
        template = _template(app, rule)
        if template is not None:
            _count(call, template, server)


def _count(call: InboundCall, template: str, server: Server) -> None:
    """Ask the limits that count by route."""
    refusal, others = limits_of_route(call, template)
    if others is not None:
        refusal = run(others, server.blocking).refusal
    if refusal is not None:
        raise refused(refusal)


def _template(app: Flask, rule: Rule | None) -> str | None:
    """That of the rule that has matched, with the wrong method, too; None when none has."""
    if rule is not None:
        return rule.rule
    error = request.routing_exception
    if isinstance(error, MethodNotAllowed):
        adapter = app.create_url_adapter(request)
        assert adapter is not None  # there is one for every request
        for method in error.valid_methods or ():
            with contextlib.suppress(HTTPException):
                return str(adapter.match(method=method, return_rule=True)[0].rule)
    return None


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
