"""``module:app`` leads to an application, or to a sentence that says what to write instead."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshlib.problems import MeshError
from meshlib.serving.application import load_application

SHOP = """
from fastapi import FastAPI
from flask import Flask
import meshlib

async def function(scope, receive, send): pass
def wsgi(environ, start_response): pass
def make(): return function
fast = FastAPI()
flask = Flask("shop")
wrapped = meshlib.MeshASGIMiddleware(function, meshlib.Mesh.from_resources([]))
class Inner:
    app = fast
class Anything:
    def __call__(self, *args): pass
anything = Anything()
text = "no application"
"""


@pytest.fixture(autouse=True)
def shop(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "a_shop.py").write_text(SHOP)
    (tmp_path / "a_broken_shop.py").write_text("import a_library_that_is_not_there\n")
    path = list(sys.path)
    yield str(tmp_path)
    sys.path[:] = path
    for name in ("a_shop", "a_broken_shop"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["function", "fast", "Inner.app", "anything"])
def test_an_asgi_application_is_found(shop: str, name: str) -> None:
    assert callable(load_application(f"a_shop:{name}", folder=shop))


@pytest.mark.parametrize("name", ["wsgi", "flask", "anything"])
def test_a_wsgi_application_is_found(shop: str, name: str) -> None:
    assert callable(load_application(f"a_shop:{name}", folder=shop, wsgi=True))


def test_a_factory_is_called(shop: str) -> None:
    found = load_application("a_shop:make", folder=shop, factory=True)
    assert found is load_application("a_shop:function", folder=shop)


@pytest.mark.parametrize(
    ("target", "options", "says"),
    [
        ("a_shop", {}, "'a_shop' is not module:app; write it as a_shop:app"),
        ("a_shop.py:fast", {}, "write it as a_shop:fast"),
        ("shops/a_shop.py", {}, "write it as shops.a_shop:app"),
        (":fast", {}, "is not module:app"),
        ("no_such_shop:app", {}, "there is no module 'no_such_shop'.*--app-dir"),
        ("a_shop.inner:app", {}, "there is no module 'a_shop.inner'"),
        ("a_shop:fsat", {}, "the module a_shop has no attribute 'fsat'; did you mean fast"),
        ("a_shop:text", {}, "of type str"),
        ("a_shop:flask", {}, "is a WSGI application: add --wsgi"),
        ("a_shop:wsgi", {}, "is a WSGI application: add --wsgi"),
        ("a_shop:fast", {"wsgi": True}, "is an ASGI application: leave --wsgi out"),
        ("a_shop:make", {}, "add --factory"),
        ("a_shop:text", {"factory": True}, "is not callable"),
        ("a_shop:wrapped", {}, "has a mesh around it already"),
    ],
)
def test_what_leads_to_none_is_said_with_its_remedy(
    shop: str, target: str, options: dict[str, bool], says: str
) -> None:
    with pytest.raises(MeshError, match=says):
        load_application(target, folder=shop, **options)


def test_what_the_module_itself_lacks_is_not_the_modules_own_absence(shop: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_there"):
        load_application("a_broken_shop:app", folder=shop)
