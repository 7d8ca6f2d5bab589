"""The application that ``module:app`` names, and what is wrong with the name."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys

from meshlib.problems import MeshError
from meshlib.transport.asgi.middleware import MeshASGIMiddleware
from meshlib.transport.wsgi.middleware import MeshWSGIMiddleware


def load_application(target: str, *, wsgi: bool = False, factory: bool = False, folder: str = ".") -> object:
    """``target`` as ``shop.main:app``; ``folder`` is looked in first. ``factory``: it is called, without arguments, for the
    application. Raises ``MeshError`` for a name that leads to none; whatever the module raises goes on."""
    module_name, colon, path = target.partition(":")
    if not colon or not module_name or not path or "/" in module_name or module_name.endswith(".py"):
        name = module_name.removesuffix(".py").strip("/").replace("/", ".") or "shop"
        raise MeshError(f"{target!r} is not module:app; write it as {name}:{path or 'app'}")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise  # another one, which this module needs
        raise MeshError(
            f"there is no module {error.name!r}: start in the folder that has {module_name.partition('.')[0]}, or name it "
            f"by --app-dir (looked in {folder!r}, and where Python looks)"
        ) from None
    for name in path.split("."):
        if not hasattr(found, name):
            raise MeshError(f"the module {module_name} has no attribute {path!r}{_meant(name, found)}")
        found = getattr(found, name)
    if factory:
        if not callable(found):
            raise MeshError(f"{target} is not callable; without --factory it is the application itself")
        found = found()
    return _checked(found, target, wsgi)


def _meant(name: str, owner: object) -> str:
    near = difflib.get_close_matches(name, [each for each in dir(owner) if not each.startswith("_")], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _checked(app: object, target: str, wsgi: bool) -> object:
    if not callable(app):
        raise MeshError(f"{target} is not an application: it is of type {type(app).__name__}, which cannot be called")
    if isinstance(app, MeshASGIMiddleware | MeshWSGIMiddleware):
        raise MeshError(
            f"{target} has a mesh around it already, and `meshlib serve` puts one around what it serves: name the "
            "application that is inside"
        )
    kind = _kind(app)
    if kind == "wsgi" and not wsgi:
        raise MeshError(f"{target} is a WSGI application: add --wsgi")
    if kind == "asgi" and wsgi:
        raise MeshError(f"{target} is an ASGI application: leave --wsgi out")
    if kind == "factory":
        raise MeshError(f"{target} takes no arguments, as what makes an application does: add --factory")
    return app


def _kind(app: object) -> str:
    """ "asgi", "wsgi", "factory" or "" when it cannot be told. By how many arguments it must be given."""
    call = app if inspect.isroutine(app) else getattr(app, "__call__", app)  # noqa: B004 (the function itself is looked at)
    if inspect.iscoroutinefunction(call):
        return "asgi"
    try:
        parameters = inspect.signature(call).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in parameters):
        return ""
    needed = [each for each in parameters if each.default is each.empty]
    if len(needed) == 0 and inspect.isroutine(app) and not list(parameters):
        return "factory"
    return {2: "wsgi", 3: "asgi"}.get(len(needed), "")
