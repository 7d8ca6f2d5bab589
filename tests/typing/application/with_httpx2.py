"""The same under httpx's successor."""

from __future__ import annotations

from typing import assert_type

import httpx2

import meshlib


def clients(mesh: meshlib.Mesh) -> None:
    assert_type(mesh.client(module=httpx2), httpx2.Client)
    assert_type(mesh.async_client(module=httpx2), httpx2.AsyncClient)
    httpx2.Client(transport=mesh.http_transport(module=httpx2, local_replies="respond"))
    httpx2.AsyncClient(transport=mesh.async_http_transport(module=httpx2))
