"""The laws that docstrings of modules and CONTRIBUTING.md lay down: docs/laws.md is the table of what holds each.

Laws of the source itself are held here, by reading it; of those that are held by what the code does, the table names the
test. (Who may import whom among the folders is import-linter's, see pyproject.toml.)
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import meshlib
from tests.support.frozen import uncollected

ROOT = Path(__file__).parents[1]
PACKAGE = Path(meshlib.__file__).parent
PROGRAMS = ("demo/", "bench/")
"""Around the library: they play applications that use it, and what else there is."""

HOT = ("engine/", "policy/", "transport/protocol/", "transport/upstream/", "transport/runtimes/", "transport/httpx/")
"""Whose functions run at every call (CONTRIBUTING: the hot path), up to what ``ONCE`` names."""

ONCE: dict[str, str] = {
    "policy/regex.py": "compiles replacements: when a rule is compiled",
    "engine/explain.py": "answers mesh.explain",
    "engine/explain_text.py": "answers mesh.explain",
    "transport/upstream/names.py": "the thread that looks names up",
    "transport/upstream/followed.py": "looks at files when a connection is made",
    "transport/protocol/head_layout.py": "compiles a layout: when some requests have had it, of which there are few",
    "transport/protocol/response_layout.py": "the same, of some responses",
}

# -- the table --------------------------------------------------------------------------------------------------------


LAWS = re.findall(r"^\| (\S+) \| (.+) \| `(tests/\S+)` \|$", (ROOT / "docs/laws.md").read_text(), re.M)


@pytest.mark.parametrize(("where", "words", "test"), LAWS, ids=[f"{where}: {words}" for where, words, _ in LAWS])
def test_a_law_is_said_and_held_where_the_table_says(where: str, words: str, test: str) -> None:
    assert words in " ".join((ROOT / where).read_text().split()), f"{where} no longer says it"
    file, _, name = test.partition("::")
    named = rf"def {name}\(|{name} = " if name else r"def test_"
    assert re.search(rf"^(async )?({named})", (ROOT / file).read_text(), re.M), f"{file} has no {name or 'test'}"


def test_the_table_is_whole() -> None:
    assert len(LAWS) >= 40
    assert {where for where, _, _ in LAWS} >= {
        "CONTRIBUTING.md",
        "meshlib/clock.py",
        "meshlib/engine/call.py",
        "meshlib/engine/inbound.py",
    }
    rows = [line for line in (ROOT / "docs/laws.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == len(LAWS) + 1, "a row that cannot be read"


def test_the_places_that_contributing_names_are_there() -> None:
    named = set(
        re.findall(
            r"`((?:meshlib/|tests/|docs/)?[a-z_0-9]+(?:/[a-z_0-9.]+)+/?)`", (ROOT / "CONTRIBUTING.md").read_text()
        )
    )
    assert len(named) > 10
    missing = [name for name in named if not (ROOT / name).exists() and not (PACKAGE / name).exists()]
    assert missing == []


# -- laws of the source -----------------------------------------------------------------------------------------------

IO = {
    "asyncio",
    "socket",
    "ssl",
    "select",
    "selectors",
    "subprocess",
    "os",
    "io",
    "pathlib",
    "shutil",
    "tempfile",
    "http",
}
LIBRARIES = {"httpx", "httpx2", "httpcore", "grpc", "requests", "urllib3", "click", "rich", "redis", "h2", "httptools"}
TIMES = {"time", "sched"}
WAITING = {"asyncio", "socket", "ssl", "select", "selectors", "threading"}
NO_IO = IO | LIBRARIES | TIMES | {"logging", "opentelemetry", "prometheus_client"}


def called(node: ast.AST) -> str:
    """The name of what is called, as far as it is written out: ``json.loads``, ``contextlib.suppress``."""
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Name):
        return node.func.id
    return ast.unparse(node.func) if isinstance(node.func, ast.Attribute) else ""


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []


def imports_of(forbidden: set[str], folder: str, *but: str) -> Callable[[str, ast.AST], str | None]:
    def law(module: str, node: ast.AST) -> str | None:
        if not module.startswith(folder) or module in but:
            return None
        return next((f"import {name}" for name in imported(node) if name.partition(".")[0] in forbidden), None)

    return law


def opens_files(module: str, node: ast.AST) -> str | None:
    if not module.startswith(("policy/", "engine/", "compiler/", "registry/")) or module.endswith("__main__.py"):
        return None
    name = called(node)
    return name if name in ("open", "print", "input") or name.endswith((".read_text", ".read_bytes")) else None


def draws_by_itself(module: str, node: ast.AST) -> str | None:
    """``random.Random`` is a type there; whose numbers they are is the caller's to say."""
    if not module.startswith(("policy/", "compiler/", "registry/")):
        return None
    if any(name in ("secrets", "uuid") for name in imported(node)):
        return ast.unparse(node)
    if isinstance(node, ast.ImportFrom) and node.module == "random":
        return ast.unparse(node)
    return called(node) if called(node).startswith("random.") else None


def reads_the_clock(module: str, node: ast.AST) -> str | None:
    """Nor may it come in: what a policy needs is a number."""
    if not module.startswith(("policy/", "compiler/", "registry/", "transport/protocol/")):
        return None
    return next((name for name in imported(node) if name in ("meshlib.clock", "time")), None)


def imports_within_meshlib(module: str, node: ast.AST) -> str | None:
    if not module.startswith("policy/"):
        return None
    return next((n for n in imported(node) if n.startswith("meshlib") and not n.startswith("meshlib.policy")), None)


def swallows(_module: str, node: ast.AST) -> str | None:
    """``except Exception: pass`` and what comes to the same."""
    if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "suppress":
        wide = [a for a in node.args if ast.unparse(a) in ("Exception", "BaseException")]
        return ast.unparse(node) if wide else None
    if not isinstance(node, ast.ExceptHandler):
        return None
    caught = "BaseException" if node.type is None else ast.unparse(node.type)
    if not re.search(r"\b(Exception|BaseException)\b", caught):
        return None
    idle = all(
        isinstance(s, ast.Pass | ast.Continue | ast.Break)
        or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
        or (isinstance(s, ast.Return) and (s.value is None or isinstance(s.value, ast.Constant)))
        for s in node.body
    )
    return f"except {caught}: {ast.unparse(node.body[0])}" if idle else None


def works_at_a_call(module: str, node: ast.AST) -> str | None:
    """Of a function on the hot path: parsing, formatting for logs and looking labels up belong to compiling."""
    if not module.startswith(HOT) or module in ONCE or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    for inner in ast.walk(node):
        if not isinstance(inner, ast.Call) or not isinstance(inner.func, ast.Attribute):
            continue
        owner, name = ast.unparse(inner.func.value), inner.func.attr
        if owner == "re" or (owner == "re2" and module != "policy/regex.py"):
            return f"{node.name}: {owner}.{name}"
        if owner in ("json", "yaml", "ast", "pickle") or name in ("labels", "model_validate", "strftime", "strptime"):
            return f"{node.name}: {owner}.{name}"
        if owner in ("log", "logger", "logging") and any(
            isinstance(a, ast.JoinedStr | ast.BinOp)
            or (isinstance(a, ast.Call) and ast.unparse(a.func).endswith("format"))
            for a in inner.args[:1]
        ):
            return f"{node.name}: a message of {owner} is made whether it is logged or not"
    return None


def json_on_the_hot_path(module: str, node: ast.AST) -> str | None:
    if not module.startswith(HOT):
        return None
    return next((n for n in imported(node) if n.partition(".")[0] in ("json", "yaml", "pydantic", "pickle")), None)


def lazily_imported(module: str, node: ast.AST) -> str | None:
    """Libraries of extras, and those that are slow to load: inside a function, or for types."""
    if not isinstance(node, ast.Module):
        return None
    slow = {"redis", "tenacity", "watchfiles", "uvicorn", "fastapi"}
    by_itself = "meshlib.serving.http_server"  # is a server of uvicorn's; who needs it imports it in a function
    top = [n for statement in node.body for n in imported(statement)]
    if module.startswith(PROGRAMS) or module == "serving/http_server.py":
        return None
    return next((name for name in top if name.partition(".")[0] in slow or name.startswith(by_itself)), None)


SLOTTED = ("policy/", "engine/")


def has_no_slots(module: str, node: ast.AST) -> str | None:
    """What there is one of for each call, endpoint or rule has no dict."""
    if not module.startswith(SLOTTED) or not isinstance(node, ast.ClassDef):
        return None
    if any(
        "Protocol" in ast.unparse(b) or ast.unparse(b).endswith(("Error", "Enum", "Exception", "TypedDict"))
        for b in node.bases
    ):
        return None
    decorators = " ".join(ast.unparse(d) for d in node.decorator_list)
    slots = any("__slots__" in ast.unparse(s).partition("=")[0] for s in node.body) or "slots=True" in decorators
    return None if slots or node.name in DICTS else f"class {node.name}"


DICTS = {
    "Breaker": "one a guarded service; pybreaker's own has a dict anyway",
    "CallbackRace": "one a hedged attempt",
    "Hedges": "one a hedged attempt",
    "InboundCall": "what most calls keep as it is stands in its class: half of what its constructor cost",
}


def is_not_frozen(module: str, node: ast.AST) -> str | None:
    """Settings are compiled from resources and shared by all calls."""
    if not module.startswith("policy/") or not isinstance(node, ast.ClassDef):
        return None
    made = [ast.unparse(d) for d in node.decorator_list if "dataclass" in ast.unparse(d)]
    return f"class {node.name}" if made and "frozen=True" not in made[0] else None


SDKS = ("mesh/metric_export.py", "mesh/options.py", "telemetry/otlp_metrics.py", "otel.py")
"""What a user who asks for OpenTelemetry's exporters gets, the extra ``otel``: imported then, and only there."""


def imports_the_sdk(module: str, node: ast.AST) -> str | None:
    if module in SDKS:
        return None
    return next((name for name in imported(node) if name.startswith("opentelemetry.sdk")), None)


def knows(libraries: set[str], where: tuple[str, ...]) -> Callable[[str, ast.AST], str | None]:
    def law(module: str, node: ast.AST) -> str | None:
        if module.startswith((*where, *PROGRAMS)):
            return None
        return next((name for name in imported(node) if name.partition(".")[0] in libraries), None)

    return law


knows_httpx = knows(
    {"httpx", "httpx2", "httpcore"},
    ("transport/httpx/", "http_errors.py", "httpx_module.py", "mesh/", "testing/mocks.py", "testing/upstreams/http.py"),
)
"""Errors of calls derive from httpx's; a mesh makes httpx clients; ``httpx_module.py`` finds whichever there is,
``testing/mocks.py`` puts its own transports in the place of a mesh's connections, and the upstreams of tests have requests."""
knows_grpcio = knows(
    {"grpc", "grpc_health"},
    ("transport/grpcio/", "mesh/", "identity/", "ca/", "testing/upstreams/grpc.py", "testing/grpc_", "envoy/ads.py"),
)
"""The SPIFFE Workload API and istiod's certificates are gRPC: who asks for an identity, who issues one. Servers of tests. What
Envoy asks us."""


RULES: dict[str, Callable[[str, ast.AST], str | None]] = {
    "policy does no I/O": imports_of(NO_IO, "policy/"),
    "policy imports nothing of the rest": imports_within_meshlib,
    "the engine does no I/O and knows no library": imports_of(NO_IO, "engine/"),
    "the compiler does no I/O": imports_of(NO_IO, "compiler/"),
    "the registry does no I/O": imports_of(NO_IO, "registry/"),
    "no file is opened below the sources": opens_files,
    "randomness comes in": draws_by_itself,
    "time comes in": reads_the_clock,
    "bytes have no socket and do not wait": imports_of(
        {"asyncio", "socket", "ssl", "select", "threading"}, "transport/protocol/"
    ),
    "only the door httpx and its errors know httpx": knows_httpx,
    "only the door grpcio and where identities come from know grpcio": knows_grpcio,
    "nothing is swallowed": swallows,
    "a call parses and formats nothing": works_at_a_call,
    "no library that parses on the hot path": json_on_the_hot_path,
    "extras are imported when they are needed": lazily_imported,
    "objects of calls have slots": has_no_slots,
    "settings are frozen": is_not_frozen,
    "only opentelemetry-api is used": imports_the_sdk,
}


LOOKED_AT = (
    ast.Module,
    ast.Import,
    ast.ImportFrom,
    ast.Call,
    ast.ExceptHandler,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
)
"""What a law is asked about: one node of eight, and no name, constant or attribute."""


def nodes_of(source: str) -> list[ast.AST]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, LOOKED_AT)]


def modules() -> Iterator[tuple[str, list[ast.AST]]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        yield file.relative_to(PACKAGE).as_posix(), nodes_of(file.read_text())


Parsed = list[tuple[str, list[ast.AST]]]


@pytest.fixture(scope="module")
def parsed() -> Parsed:
    """Half a million nodes: only while they are read, not for the garbage collector in every other test."""
    with uncollected():
        return list(modules())


@pytest.mark.parametrize("rule", RULES)
def test_the_source_keeps_the_law(parsed: Parsed, rule: str) -> None:
    broken = [f"meshlib/{m}: {what}" for m, nodes in parsed for node in nodes if (what := RULES[rule](m, node))]
    assert broken == [], f"{rule}; see {Path(__file__).name}"


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        ("policy does no I/O", "policy/x.py", "import socket"),
        ("policy does no I/O", "policy/x.py", "def f():\n from os import environ"),
        ("policy does no I/O", "policy/x.py", "import logging"),
        ("policy imports nothing of the rest", "policy/x.py", "from meshlib.engine.call import Call"),
        ("policy imports nothing of the rest", "policy/x.py", "import meshlib.clock"),
        ("the engine does no I/O and knows no library", "engine/x.py", "import httpx"),
        ("the engine does no I/O and knows no library", "engine/x.py", "import asyncio"),
        ("the compiler does no I/O", "compiler/x.py", "import pathlib"),
        ("the registry does no I/O", "registry/x.py", "import socket"),
        ("no file is opened below the sources", "compiler/x.py", "open(name)"),
        ("no file is opened below the sources", "engine/x.py", "Path(name).read_text()"),
        ("no file is opened below the sources", "policy/x.py", "print(1)"),
        ("randomness comes in", "policy/x.py", "import random\nrandom.random()"),
        ("randomness comes in", "policy/x.py", "rng = random.Random()"),
        ("randomness comes in", "policy/x.py", "from random import choice"),
        ("randomness comes in", "compiler/x.py", "import uuid"),
        ("time comes in", "policy/x.py", "from meshlib.clock import SystemClock"),
        ("time comes in", "transport/protocol/x.py", "import time"),
        ("bytes have no socket and do not wait", "transport/protocol/x.py", "import asyncio"),
        ("bytes have no socket and do not wait", "transport/protocol/x.py", "from socket import socket"),
        ("only the door httpx and its errors know httpx", "compiler/x.py", "def f():\n import httpx"),
        ("only the door grpcio and where identities come from know grpcio", "transport/httpx/x.py", "import grpc"),
        ("nothing is swallowed", "mesh.py", "try:\n f()\nexcept Exception:\n pass"),
        ("nothing is swallowed", "mesh.py", "try:\n f()\nexcept:\n ..."),
        ("nothing is swallowed", "mesh.py", "for x in y:\n try:\n  f()\n except (OSError, Exception):\n  continue"),
        ("nothing is swallowed", "mesh.py", "def g():\n try:\n  f()\n except BaseException:\n  return None"),
        ("nothing is swallowed", "mesh.py", "with contextlib.suppress(Exception):\n f()"),
        ("a call parses and formats nothing", "engine/x.py", "def f():\n return re.compile('a')"),
        ("a call parses and formats nothing", "transport/upstream/x.py", "async def f():\n return json.loads(a)"),
        ("a call parses and formats nothing", "engine/x.py", "def f():\n family.labels('a').inc()"),
        ("a call parses and formats nothing", "transport/httpx/x.py", "def f():\n log.warning(f'{a}')"),
        ("a call parses and formats nothing", "transport/httpx/x.py", "def f():\n log.warning('%s' % a)"),
        ("no library that parses on the hot path", "engine/x.py", "import json"),
        ("extras are imported when they are needed", "policy/x.py", "from tenacity import Retrying"),
        ("extras are imported when they are needed", "transport/core/x.py", "import redis"),
        ("extras are imported when they are needed", "serving/x.py", "import uvicorn"),
        (
            "extras are imported when they are needed",
            "cli/x.py",
            "from meshlib.serving.http_server import HttpServer",
        ),
        ("objects of calls have slots", "engine/x.py", "class Thing:\n def __init__(self): self.x = 1"),
        ("objects of calls have slots", "policy/x.py", "@dataclass(frozen=True)\nclass Thing:\n x: int"),
        ("settings are frozen", "policy/x.py", "@dataclass(slots=True)\nclass Thing:\n x: int"),
        ("only opentelemetry-api is used", "telemetry/x.py", "def f():\n from opentelemetry.sdk.trace import Tracer"),
    ],
)
def test_a_law_sees(rule: str, module: str, source: str) -> None:
    assert any(RULES[rule](module, node) for node in nodes_of(source))


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [
        ("policy does no I/O", "mesh.py", "import socket"),
        ("randomness comes in", "policy/x.py", "import random\ndef f(rng: random.Random): return rng.random()"),
        ("nothing is swallowed", "mesh.py", "try:\n f()\nexcept Exception:\n count += 1"),
        ("nothing is swallowed", "mesh.py", "try:\n f()\nexcept OSError:\n pass"),
        ("nothing is swallowed", "mesh.py", "with contextlib.suppress(OSError):\n f()"),
        ("a call parses and formats nothing", "engine/x.py", "A = re.compile('a')\ndef f(): return A.match('a')"),
        ("a call parses and formats nothing", "transport/httpx/x.py", "def f():\n log.warning('%s', a)"),
        ("extras are imported when they are needed", "policy/x.py", "def f():\n import tenacity"),
        ("objects of calls have slots", "engine/x.py", "class Thing(Protocol):\n x: int"),
        ("objects of calls have slots", "engine/x.py", "class Thing:\n __slots__ = ('x',)"),
    ],
)
def test_a_law_lets_pass(rule: str, module: str, source: str) -> None:
    assert not any(RULES[rule](module, node) for node in nodes_of(source))


def test_no_exception_outlives_its_reason(parsed: Parsed) -> None:
    there = {module for module, _ in parsed}
    assert set(ONCE) <= there
    classes = {n.name for m, nodes in parsed if m.startswith(SLOTTED) for n in nodes if isinstance(n, ast.ClassDef)}
    assert set(DICTS) <= classes


# -- effects ----------------------------------------------------------------------------------------------------------


def names_in(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_every_driver_performs_every_effect(parsed: Parsed) -> None:
    trees = {module: nodes[0] for module, nodes in parsed}
    effects = {
        n.name
        for n in trees["engine/effects.py"].body
        if isinstance(n, ast.ClassDef) and "final" in [getattr(decorator, "id", "") for decorator in n.decorator_list]
    }
    assert {"Send", "Deliver", "Sleep", "Ask", "Wait", "Serve"} <= effects
    effects -= {"Deliver", "Serve"}  # what a driver does not perform it hands over
    drivers = [
        n for n in trees["engine/drivers.py"].body if getattr(n, "name", "") in ("run", "run_async", "CallbackDriver")
    ]
    assert len(drivers) == 3
    assert {driver.name: effects - names_in(driver) for driver in drivers} == {driver.name: set() for driver in drivers}


# -- the command line -------------------------------------------------------------------------------------------------


def test_a_command_is_imported_when_it_is_called() -> None:
    code = "import sys, meshlib.cli.main as main; print(*sorted(m for m in sys.modules if m.startswith('meshlib.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert set(done.stdout.split()) == {"meshlib.cli", "meshlib.cli.main", "meshlib.distribution"}


# -- what is handed to others -----------------------------------------------------------------------------------------

TEXTS = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".cfg", ".json", ".sh", ""}


def test_no_file_knows_the_machine_it_was_written_on(parsed: Parsed) -> None:
    homes = [f"{folder}/" for folder in (ROOT, Path.home()) if len(folder.parts) > 2]
    others = [r"(?:^|[\s\"'=])/(?:home|Users)/[a-z]+/", r"(?:extra-)?index[-_]url\s*="]
    private = re.compile("|".join([*map(re.escape, homes), *others]))
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    files = [ROOT / name for name in listed.stdout.split("\0") if name] or [PACKAGE / module for module, _ in parsed]
    texts = [file for file in files if file.suffix in TEXTS and file.is_file() and file != Path(__file__)]
    found = {file.relative_to(ROOT): private.search(file.read_text(errors="replace")) for file in texts}
    assert {str(file): hit[0].strip() for file, hit in found.items() if hit} == {}
