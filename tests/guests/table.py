"""The table of docs/compatibility.md: what was tried with which version, what works, and what does not.

``python -m tests.guests.table`` writes it with the versions that are installed; ``make guests`` does so when the suite has
passed. ``tests/test_compatibility.py`` holds that its words are these.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/compatibility.md"
BEGINS, ENDS = "<!-- guests -->\n", "<!-- /guests -->"
GUESTS_DIR = "tests/guests/"
MOCKS = "tests/testing/test_mocks.py"


class Guest(NamedTuple):
    """``name`` of the distribution, what it is ``over``, ``how`` it is put into the mesh, ``shown`` by ``test``; ``limits``."""

    name: str
    over: str
    how: str
    shown: str
    test: str
    limits: str = ""


OBSERVERS = GUESTS_DIR + "test_observers.py"
REST = GUESTS_DIR + "test_rest_clients.py"
STREAMS = GUESTS_DIR + "test_streams.py"
GRPC = GUESTS_DIR + "test_grpc_guests.py"
OWN_RETRIES = "its own retries multiply the mesh's: turn one off"

GUESTS = [
    Guest(
        "openai",
        "httpx2",
        "`http_client=mesh.client(module=httpx2)`, or the async one",
        "calls, retries, streams, uploads, errors",
        GUESTS_DIR + "test_openai.py",
        f"{OWN_RETRIES} (`max_retries=0`)",
    ),
    Guest(
        "anthropic",
        "httpx2",
        "`http_client=mesh.client(module=httpx2)`, or the async one",
        "calls, retries, streams, errors",
        GUESTS_DIR + "test_anthropic.py",
        f"{OWN_RETRIES} (`max_retries=0`)",
    ),
    Guest(
        "mistralai",
        "httpx2",
        "`client=mesh.client(module=httpx2)`, `async_client=`",
        "calls, retries, streams",
        GUESTS_DIR + "test_mistralai.py",
    ),
    Guest(
        "mcp",
        "httpx2",
        "`streamable_http_client(url, http_client=mesh.async_client(module=httpx2))`",
        "sessions and tool calls over streamable HTTP, as events and as JSON; retries",
        STREAMS,
    ),
    Guest(
        "authlib",
        "httpx2, or httpx without it",
        "`OAuth2Client(..., transport=mesh.http_transport())`, or the async one",
        "tokens, calls with them, retries",
        REST,
        "its clients over requests do not use httpx",
    ),
    Guest(
        "gql",
        "httpx2, or httpx without it",
        "`HTTPXTransport(url=..., transport=mesh.http_transport())`, or the async one",
        "queries, uploads, retries",
        REST,
        "its transports over requests, aiohttp and websockets do not use httpx",
    ),
    Guest(
        "qdrant-client",
        "httpx",
        "`QdrantClient(url=..., transport=mesh.http_transport())`, or the async one",
        "reads, writes, retries",
        REST,
        "`prefer_grpc=True` makes channels of its own, which pass the mesh by",
    ),
    Guest(
        "postgrest",
        "httpx",
        "`http_client=mesh.client(base_url=...)`, or the async one",
        "reads, writes, retries",
        REST,
        OWN_RETRIES + " (`retry_enabled=False`)",
    ),
    Guest(
        "elasticsearch",
        "httpx, async only",
        "`node_class=`: an `HttpxAsyncHttpNode` whose `client` is `mesh.async_client(base_url=...)`",
        "searches, retries",
        REST,
        "the blocking client uses urllib3 or requests, which the mesh does not see",
    ),
    Guest(
        "githubkit",
        "httpx",
        "`transport=mesh.http_transport()`, `async_transport=`",
        "calls, retries",
        REST,
        "0.16.1 cannot be imported with hishel 2.0, which it allows: install `hishel<2`",
    ),
    Guest(
        "httpx-sse",
        "httpx",
        "`connect_sse(mesh.client(), ...)`, or the async one",
        "events, retries of the first request",
        STREAMS,
        "a stream that has begun is not tried again",
    ),
    Guest(
        "httpx-ws",
        "httpx",
        "`connect_ws(url, mesh.client())`, or the async one",
        "messages both ways",
        STREAMS,
        "over HTTP/1.1, as httpx-ws speaks it",
    ),
    Guest(
        "google-cloud-tasks",
        "grpcio",
        "`CloudTasksGrpcTransport(channel=mesh.grpc_channel(...))`, or the async one",
        "calls, pages, retries, blocking and asyncio",
        GRPC,
        f"{OWN_RETRIES}; its REST transport uses requests",
    ),
    Guest(
        "grpcio-status",
        "grpcio",
        "`rpc_status.from_call(error)`",
        "details of a server's error, blocking and asyncio",
        GRPC,
        "an error that the mesh has made has no details: None",
    ),
    Guest(
        "grpcio-reflection",
        "grpcio",
        "`ProtoReflectionDescriptorDatabase(mesh.grpc_channel(...))`",
        "services and their methods",
        GRPC,
    ),
    Guest(
        "grpcio-health-checking",
        "grpcio",
        "`HealthStub(mesh.grpc_channel(...))`",
        "Check and Watch, retries, blocking and asyncio",
        GRPC,
    ),
    Guest(
        "opentelemetry-instrumentation-httpx",
        "httpx, httpx2",
        "`instrument()`",
        "one span a call, the mesh's, in the trace of the caller",
        OBSERVERS,
        "its hooks are not called for calls of a mesh, whose span is the mesh's own",
    ),
    Guest(
        "opentelemetry-instrumentation-grpc",
        "grpcio",
        "`instrument()`",
        "one span a call, the mesh's",
        OBSERVERS,
        "as above",
    ),
    Guest(
        "opentelemetry-instrumentation-fastapi",
        "FastAPI",
        "`instrument_app(app)` before or after `MeshExtension(app, mesh)`",
        "one server span, the parent of the mesh's calls",
        OBSERVERS,
    ),
    Guest(
        "sentry-sdk",
        "httpx, httpx2",
        "`sentry_sdk.init()`, any time",
        "one span a call, with its trace header on every attempt",
        OBSERVERS,
        "it cannot be imported where eventlet and trio are both installed",
    ),
    Guest("respx", "httpx", "the fixture `mesh_mocks`", 'router, decorator, fixture, `using="httpx"`', MOCKS),
    Guest("pytest-httpx", "httpx", "the fixture `mesh_mocks`", "`httpx_mock`", MOCKS),
    Guest("pytest-httpx2", "httpx2", "the fixture `mesh_mocks`", "`httpx2_mock`", MOCKS),
    Guest(
        "vcrpy", "httpx, httpx2", "the fixture `mesh_mocks`", "recording from an endpoint, playing without one", MOCKS
    ),
]


def installed() -> dict[str, str]:
    """Versions by name. Raises ``PackageNotFoundError``."""
    return {guest.name: importlib.metadata.version(guest.name) for guest in GUESTS}


def rendered(versions: Mapping[str, str]) -> str:
    """The table."""
    lines = [
        "| library | tried | over | how it is put into the mesh | shown | what does not work |",
        "|---|---|---|---|---|---|",
    ]
    for guest in GUESTS:
        name = f"[{guest.name}](https://pypi.org/project/{guest.name}/)"
        lines.append(
            f"| {name} | {versions[guest.name]} | {guest.over} | {guest.how} | {guest.shown} | {guest.limits or '-'} |"
        )
    return "\n".join(lines) + "\n"


def on_the_page() -> str:
    """The table as it stands there."""
    return PAGE.read_text().partition(BEGINS)[2].partition(ENDS)[0]


def versions_on_the_page() -> dict[str, str]:
    """By name."""
    return dict(re.findall(r"^\| \[([\w.-]+)\]\(\S+\) \| (\S+) \|", on_the_page(), re.M))


def write() -> None:
    """Put the table there."""
    before, _, rest = PAGE.read_text().partition(BEGINS)
    PAGE.write_text(before + BEGINS + rendered(installed()) + ENDS + rest.partition(ENDS)[2])


if __name__ == "__main__":
    write()
