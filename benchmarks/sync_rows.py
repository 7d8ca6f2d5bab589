"""Blocking clients, one call at a time: ``mesh.client()``, and a client of the user's own with the mesh's transport, over bare
httpx and over the standard library's http.client."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Callable

import httpx

import meshlib
from benchmarks import synthetic
from benchmarks.measure import Row, Unit, interleaved, latency_row
from benchmarks.processes import backend
from benchmarks.web_backend import SIZES, web_backend

MESH = "http://reviews:9080"


def sync_latency(quick: bool) -> list[Row]:
    """A response of 64 bytes."""
    rounds, calls = (4, 100) if quick else (24, 150)
    unit = Unit()
    with contextlib.ExitStack() as stack:
        port, _ = stack.enter_context(web_backend())
        mesh = stack.enter_context(meshlib.Mesh.from_resources(synthetic.reviews(port)))
        bare = stack.enter_context(httpx.Client())
        meshed = stack.enter_context(mesh.client())
        own = stack.enter_context(httpx.Client(transport=mesh.http_transport()))
        kept = http.client.HTTPConnection("127.0.0.1", port)
        stack.callback(kept.close)

        def standard_library() -> None:
            kept.request("GET", "/same")
            kept.getresponse().read()

        url, through_mesh = f"http://127.0.0.1:{port}/same", f"{MESH}/same"
        all_answered(lambda: meshed.get(through_mesh))
        plain, library, through, transport = interleaved(
            [lambda: bare.get(url), standard_library, lambda: meshed.get(through_mesh), lambda: own.get(through_mesh)],
            rounds,
            calls,
            unit=unit,
        )
    own_name = "own client with mesh.http_transport()"
    return [
        latency_row("httpx.Client p50, mesh.client() / bare", plain, through, 0.35, unit, rounds),
        latency_row(f"httpx.Client p50, {own_name} / bare", plain, transport, 0.52, unit, rounds),
        latency_row("httpx.Client p50, mesh.client() / http.client", library, through, None, unit, rounds),
        latency_row(
            "httpx.Client p50, own client, same transport / http.client", library, transport, None, unit, rounds
        ),
    ]


def sync_bodies(quick: bool) -> list[Row]:
    """Bodies of 1 kB, 64 kB and 1 MB both ways."""
    rounds, calls = (3, 10) if quick else (20, 20)
    unit, rows = Unit(), []
    with contextlib.ExitStack() as stack:
        web, _ = stack.enter_context(web_backend())
        upload, _ = stack.enter_context(backend())
        down = stack.enter_context(meshlib.Mesh.from_resources(synthetic.reviews(web)))
        up = stack.enter_context(meshlib.Mesh.from_resources(synthetic.reviews(upload)))
        bare = stack.enter_context(httpx.Client())
        downward, upward = stack.enter_context(down.client()), stack.enter_context(up.client())
        for size in SIZES:
            path, data = f"/size/{size}", b"x" * size
            ways: dict[str, list[Callable[[], object]]] = {
                "down": [
                    lambda path=path: bare.get(f"http://127.0.0.1:{web}{path}"),  # type: ignore[misc]
                    lambda path=path: downward.get(f"{MESH}{path}"),  # type: ignore[misc]
                ],
                "up": [
                    lambda data=data: bare.post(f"http://127.0.0.1:{upload}/", content=data),  # type: ignore[misc]
                    lambda data=data: upward.post(f"{MESH}/", content=data),  # type: ignore[misc]
                ],
            }
            for way, pair in ways.items():
                plain, through = interleaved(pair, rounds, calls, warm_up=10, unit=unit)
                name = f"httpx.Client p50, {size} bytes {way}, mesh.client() / bare"
                rows.append(latency_row(name, plain, through, None, unit, rounds))
    return rows


def all_answered(call: Callable[[], httpx.Response], calls: int = 200) -> None:
    """Raises RuntimeError when the backend does not answer each of some calls: what the mesh refuses is fast, and not what
    is to be measured."""
    for _ in range(calls):
        answer = call()
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code} {answer.text}")
