"""``meshlib.errors``: every exception says what happened, and none has an empty text."""

from __future__ import annotations

import ast
import importlib
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import httpx2
import pytest

import meshlib
from meshlib import errors
from meshlib.engine.outcome import Failure, Outcome
from meshlib.problems import said
from meshlib.transport.httpx.dialect import dialect_of
from meshlib.transport.httpx.errors import call_error
from tests.support.grpc_begun import begun
from tests.support.grpc_runtimes import mesh_of
from tests.support.resources import service

ROOT = Path(meshlib.__file__).parents[1]
SOURCES = [*(ROOT / "meshlib").rglob("*.py"), *(ROOT / "integrations").rglob("*.py")]

INSIDE: dict[str, str] = {
    "CancelledError": "the caller has cancelled its own task",
    "ClientGone": "ends an ASGI application whose client is gone: servers drop it",
    "NotPlain": "the reader of plain YAML gives up, and the whole one reads",
    "NotWanted": "a reload that a newer one makes needless",
    "NotImplementedError": "of a method that each kind has",
    "StopIteration": "the end of an iterator",
    "TimeoutError": "is caught where it is raised from, and made an outcome that says of what",
    "TooDeep": "the copier of plain values gives up, and the whole one copies",
    "UnknownValue": "an attribute that is not known, which is judged where it is asked for",
    "AssertionError": "what cannot be",
}
"""Exceptions that nobody outside gets to see: they have nothing to say."""


# -- the classes ------------------------------------------------------------------------------------------------------


def exceptions() -> dict[str, ast.ClassDef]:
    """All that meshlib defines, found by what they derive from: importing everything would take too long."""
    classes: dict[str, ast.ClassDef] = {}
    for path in SOURCES:
        text = path.read_text()
        if re.search(r"^class \w+\(", text, re.M) and re.search(r"Exception|Error|Failed|OutOf", text):
            classes |= {node.name: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)}
    known: dict[str, ast.ClassDef] = {}
    while True:
        more = {
            name: node
            for name, node in classes.items()
            if name not in known
            and any(
                (base := ast.unparse(each).rpartition(".")[2]) in known
                or base.endswith(("Error", "Exception", "Timeout"))
                for each in node.bases
            )
        }
        if not more:
            return known
        known |= more


def test_every_exception_class_says_what_it_means() -> None:
    found = exceptions()
    assert found.keys() > {"RpcFailed", "ConnectFailed", "ConfigError", "BadCredentials"}
    assert [name for name, node in found.items() if name[0] != "_" and not ast.get_docstring(node)] == []


@pytest.mark.parametrize("name", sorted({"CallError", "MeshClosed", "MeshError", *errors.OF_HTTP}))
def test_an_error_shows_what_it_is_told(name: str) -> None:
    made = getattr(errors, name)("what happened")
    assert str(made) == "what happened"
    assert type(made).__module__ in ("meshlib.errors", "meshlib.problems")
    assert getattr(importlib.import_module(type(made).__module__), name) is type(made)
    assert name in dir(errors)


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        errors.Nonsense


# -- the raise sites --------------------------------------------------------------------------------------------------


PERHAPS = re.compile(r"""raise [\w.]+(\(\)|\((""|''|str\().*)?( from \w+)?$""", re.M)


def without_a_text(source: str) -> Iterator[tuple[int, str]]:
    """``raise X``, ``raise X()`` and ``raise X("")``, by line."""
    if not PERHAPS.search(source):  # most files are not worth being parsed
        return
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Raise) or node.exc is None:
            continue
        raised = node.exc
        if isinstance(raised, ast.Call):
            name = ast.unparse(raised.func).rpartition(".")[2]
            arguments = [*raised.args, *(keyword.value for keyword in raised.keywords)]
            empty = not arguments or (isinstance(arguments[0], ast.Constant) and not arguments[0].value)
            first = arguments[0] if arguments else None
            if isinstance(first, ast.Call) and ast.unparse(first.func) == "str":
                empty = ast.unparse(first.args[0]) == "error" and name not in TOLD_AGAIN
        else:
            name = ast.unparse(raised).rpartition(".")[2]
            empty = isinstance(raised, ast.Name | ast.Attribute) and name[:1].isupper()
        if empty and name not in INSIDE:
            yield node.lineno, ast.unparse(node)


TOLD_AGAIN = {"ClickException", "UsageError", "NotUsed", "CannotConnect"}
"""Raised with the text of an error of ours, which has one."""


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("raise ValueError", True),
        ("raise ValueError()", True),
        ("raise grpc.FutureTimeoutError()", True),
        ("raise ValueError('')", True),
        ("raise core.ReadError(str(error)) from error", True),
        ("raise core.ReadError(said(error)) from error", False),
        ("raise ValueError('a text')", False),
        ("raise error", False),
        ("raise self._error", False),
        ("raise StopIteration", False),
    ],
)
def test_a_raise_without_a_text_is_found(line: str, found: bool) -> None:
    assert bool(list(without_a_text(line))) is found


def test_nothing_is_raised_without_a_text() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{number}: {text}"
        for path in SOURCES
        if "demo" not in path.parts
        for number, text in without_a_text(path.read_text())
    }
    assert found == set()


def test_what_is_kept_inside_is_still_raised_somewhere() -> None:
    raised = "\n".join(path.read_text() for path in SOURCES)
    assert [name for name in INSIDE if not re.search(rf"raise (\w+\.)?{name}\b", raised)] == []


# -- what causes them need not say anything ---------------------------------------------------------------------------


def test_an_exception_without_a_text_is_quoted_by_its_class() -> None:
    assert said(TimeoutError()) == "TimeoutError"
    assert said(OSError("the cause")) == "the cause"


@pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize("failure", [failure for failure in Failure if failure is not Failure.REQUEST_BODY_FAILED])
def test_a_call_that_fails_without_a_word_still_says_which_one_and_where_it_went(module, failure) -> None:
    request = module.Request("GET", "http://reviews:9080/x?token=secret")
    with meshlib.Mesh.from_resources([service("reviews")]) as mesh:
        call = mesh.http_transport()._begin(request, dialect_of(request))
        text = str(call_error(Outcome(failure, "", TimeoutError()), call, request, module))
    assert text.startswith("GET http://reviews:9080/x?...: ")
    assert "default route -> " in text
    assert "secret" not in text


@pytest.mark.parametrize("failure", [failure for failure in Failure if failure is not Failure.REQUEST_BODY_FAILED])
def test_so_does_one_of_grpc(failure) -> None:
    pytest.importorskip("grpc")
    from meshlib.transport.grpcio.client.errors import error_of

    with mesh_of(1) as mesh:
        call, exchange = begun(mesh)
        next(exchange)
        made = error_of(Outcome(failure, "", None), call)
        assert made.details().strip("() ")
        assert str(made)
        exchange.close()


# -- httpx's exceptions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_an_error_of_either_module_can_be_pickled(module) -> None:
    with meshlib.Mesh.from_resources([]) as mesh, mesh.client(module=module) as client:
        with pytest.raises(module.ConnectError) as raised:
            client.get("http://127.0.0.1:1/")
    again = pickle.loads(pickle.dumps(raised.value))
    assert type(again) is type(raised.value)
    assert (str(again), again.request.url) == (str(raised.value), raised.value.request.url)
    assert again.exchange.flags == "UF"


def in_a_program(text: str) -> None:
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("before", "kind"),
    [
        ("pass", "__import__('httpx').ConnectError"),
        ("import httpx2", "httpx2.ConnectError"),
        ("import httpx2, httpx", "httpx.ConnectError"),
        ("import sys, httpx2; sys.modules['httpx'] = None", "httpx2.ConnectError"),
        ("import httpx2; httpx2.alias_httpx()", "httpx2.ConnectError"),
    ],
    ids=["none yet", "httpx2", "both", "httpx2 alone is installed", "httpx2 in httpx's place"],
)
def test_errors_derive_from_the_module_that_the_program_uses(before, kind) -> None:
    in_a_program(f"{before}\nfrom meshlib import errors\nassert issubclass(errors.ConnectFailed, {kind})")


def test_a_mesh_and_the_errors_of_every_call_load_neither() -> None:
    in_a_program(
        "import sys, meshlib\n"
        "meshlib.Mesh.from_resources([]).close()\n"
        "assert issubclass(meshlib.errors.MeshClosed, meshlib.errors.CallError)\n"
        "assert not {'httpx', 'httpx2', 'httpcore', 'grpc'} & set(sys.modules)\n"
    )
