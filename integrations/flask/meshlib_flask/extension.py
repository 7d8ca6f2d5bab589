"""``Mesh``: a Flask application in the mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask import Flask, current_app, request

import meshlib
from meshlib.problems import MeshError
from meshlib_flask.routed import look
from meshlib_flask.rules import rules_of

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

NAME = "meshlib"
"""Of the extension in ``app.extensions``."""


class Mesh:
    """Adds ``app`` to ``mesh`` where the app is created: ``Mesh(app, mesh)``, or ``init_app`` in a factory.

    - Every request goes through ``meshlib.MeshWSGIMiddleware``. It must be outside other middleware: call it last.
    - The path that the router has matched is checked against AuthorizationPolicies again, before the application's own
      ``before_request`` functions. A refusal there is an HTTPException, for the application's own error handlers.
    - ``current_caller``, ``current_claims``, ``@requires`` and ``@limit`` work, in blueprints too.

    One extension can serve several applications. ``port``: see ``MeshWSGIMiddleware``. Raises ``MeshError`` for an app that is
    in a mesh already, and if no mesh is given.
    """

    def __init__(self, app: Flask | None = None, mesh: meshlib.Mesh | None = None, *, port: int | None = None) -> None:
        self._mesh = mesh
        self._port = port
        if app is not None:
            self.init_app(app)

    @property
    def mesh(self) -> meshlib.Mesh:
        """The mesh of the current application."""
        found = current_app.extensions.get(NAME) if current_app else None
        mesh = self._mesh if found is None else found
        if mesh is None:
            raise MeshError("this application is not in a mesh: call Mesh(app, mesh) where it is made")
        return mesh

    def init_app(self, app: Flask, mesh: meshlib.Mesh | None = None, *, port: int | None = None) -> None:
        """Add ``app``, with this mesh and port if they are given, else the extension's own."""
        mesh = mesh or self._mesh
        if mesh is None:
            raise MeshError("which mesh? Mesh(app, mesh), or init_app(app, mesh)")
        if NAME in app.extensions:
            raise MeshError("this application is in a mesh already")
        app.extensions[NAME] = mesh
        door = meshlib.MeshWSGIMiddleware(app.wsgi_app, mesh, self._port if port is None else port)
        server = door.tells_routes()
        app.wsgi_app = door  # type: ignore[method-assign]
        # the first that Flask calls of a request it has routed, also where no route has matched
        app.url_value_preprocessors.setdefault(None, []).insert(0, lambda _endpoint, _values: look(app, server))
        dispatch = app.dispatch_request

        def dispatch_request(*of: Any, **named: Any) -> ResponseReturnValue:
            _ask(app)
            return dispatch(*of, **named)

        app.dispatch_request = dispatch_request  # type: ignore[method-assign]


def _ask(app: Flask) -> None:
    """What the view that has been matched asks of its callers."""
    route = request.url_rule
    if route is None or request.routing_exception is not None:
        return
    if request.method == "OPTIONS" and getattr(route, "provide_automatic_options", False):
        return  # Flask's own response, without a view
    view: Callable[..., Any] | None = app.view_functions.get(route.endpoint)
    for rule in rules_of(view, request.method):
        rule.check()
