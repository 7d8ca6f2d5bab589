"""What the fixture ``mesh`` is: it makes meshes out of YAML that stands in the test."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeAlias, Unpack

from meshlib.mesh import Mesh

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.mesh.options import MeshOptions
    from meshlib.resources.endpoints_argument import EndpointsByHost

Source: TypeAlias = "str | os.PathLike[str] | Iterable[Mapping[str, object]]"
"""YAML, the path of a file or folder of it, or resources as dicts."""


class HasEndpoints(Protocol):
    """The test's upstreams."""

    @property
    def endpoints(self) -> EndpointsByHost: ...


class MeshFactory:
    """Makes meshes for one test: on its ``clock``, with its ``seed`` and its ``upstreams``; ``close`` closes them all."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self.clock = clock
        self.seed = seed
        self.upstreams: HasEndpoints | None = None
        self.made: list[Mesh] = []

    def __call__(self, source: Source = (), **options: Unpack[MeshOptions]) -> Mesh:
        """A mesh with the resources in ``source``: YAML (which may be indented as the test is), a ``pathlib.Path`` of a file or
        folder, or dicts. ``options`` are those of ``meshlib.Mesh``.

        By default its clock is ``fake_clock``, its seed the test's, its metrics go to a registry of its own, and the test's
        ``upstreams`` that exist by now are endpoints of their hosts. It is closed when the test ends. Raises ``ConfigError``
        with every problem and its line."""
        import prometheus_client

        options.setdefault("clock", self.clock)
        options.setdefault("seed", self.seed)
        options.setdefault("registry", prometheus_client.CollectorRegistry())
        if self.upstreams is not None and options.get("endpoints") != "dns":
            given = options.get("endpoints")
            options["endpoints"] = _with(self.upstreams.endpoints, None if given == "dns" else given)
        if isinstance(source, str):
            made = Mesh.from_yaml(textwrap.dedent(source), **options)
        elif isinstance(source, os.PathLike):
            made = Mesh.from_path(source, watch=False, **options)
        else:
            made = Mesh.from_resources(source, **options)
        self.made.append(made)
        return made

    def __getattr__(self, name: str) -> NoReturn:
        if hasattr(Mesh, name):
            raise AttributeError(
                f"the fixture mesh makes meshes: mesh(yaml).{name}, or mark the test @pytest.mark.mesh(yaml)"
            )
        raise AttributeError(f"{type(self).__name__} has no attribute {name}")

    def close(self) -> None:
        """Close all that were made."""
        for mesh in self.made:
            mesh.close()
        self.made.clear()


def _with(upstreams: EndpointsByHost, given: EndpointsByHost | None) -> EndpointsByHost:
    """The test's own endpoints take the place of upstreams of the same host."""
    return {**upstreams, **(given or {})}
