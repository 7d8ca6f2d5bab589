"""Fixtures for pytest. It finds them by itself where meshlib is installed; what a fixture needs is loaded when it is used."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from meshlib.mesh import Mesh
    from meshlib.testing.callers import AsCaller
    from meshlib.testing.chaos import Chaos
    from meshlib.testing.clock import FakeClock
    from meshlib.testing.factory import MeshFactory
    from meshlib.testing.upstreams import Upstreams

MARKER = "mesh(yaml, **options): the fixture `mesh` is a meshlib.Mesh with these resources, not what makes one"


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--mesh-seed``."""
    parser.getgroup("meshlib").addoption(
        "--mesh-seed",
        metavar="N",
        help="seed of the fixtures mesh and chaos, to replay a run (default: MESHLIB_SEED, or a new one)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker ``mesh``."""
    config.addinivalue_line("markers", MARKER)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails says its seed, if it has asked for one."""
    made = yield
    if "mesh_seed" in getattr(item, "fixturenames", ()):
        from meshlib.testing.replay import report

        report(item, made)
    return made


@pytest.fixture
def mesh_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test's random choices: ``--mesh-seed``, else MESHLIB_SEED, else a new one in each run. A test that fails
    says how to replay it."""
    from meshlib.testing.replay import replayed_by, seed_of_run, tell

    seed = seed_of_run(request.config)
    tell(request.node, lambda: replayed_by(seed, request.node))
    return seed


@pytest.fixture
def fake_clock() -> FakeClock:
    """The clock of this test's meshes (``meshlib.testing.FakeClock``): nobody waits; ``fake_clock.advance(30)`` moves it."""
    from meshlib.testing.clock import FakeClock

    return FakeClock()


@pytest.fixture
def mesh(request: pytest.FixtureRequest, fake_clock: FakeClock, mesh_seed: int) -> Iterator[MeshFactory | Mesh]:
    """Makes meshes out of YAML: ``mesh(text, workload=...)`` (``meshlib.testing.MeshFactory``). In a test that is marked
    ``@pytest.mark.mesh(text)`` it is a mesh with those resources (``meshlib.Mesh``). They are closed when the test ends."""
    from meshlib.testing.factory import MeshFactory

    factory = MeshFactory(fake_clock, mesh_seed)
    if "upstreams" in request.fixturenames:
        factory.upstreams = request.getfixturevalue("upstreams")
    marked = request.node.get_closest_marker("mesh")
    try:
        yield factory if marked is None else factory(*marked.args, **marked.kwargs)
    finally:
        factory.close()


@pytest.fixture
def chaos(request: pytest.FixtureRequest, fake_clock: FakeClock, mesh_seed: int) -> Iterator[Chaos]:
    """What goes wrong between every mesh of this process and its endpoints (``meshlib.testing.Chaos``), with the test's seed:
    ``chaos.on("reviews", "v2", nth=3).reset()``. A test that fails says what was injected."""
    from meshlib.testing.chaos import Chaos
    from meshlib.testing.replay import tell

    made = Chaos(mesh_seed, fake_clock)
    tell(request.node, lambda: str(made))
    with made:
        yield made
    made.warn_of_unused()


@pytest.fixture
def upstreams(fake_clock: FakeClock) -> Iterator[Upstreams]:
    """Scripted servers on loopback (``meshlib.testing.Upstreams``): ``upstreams.http("reviews", "v1").respond(503)``,
    ``upstreams.grpc("ratings")``. Meshes that ``mesh`` makes after them have them as endpoints. They end with the test."""
    from meshlib.testing.seam import taking_part
    from meshlib.testing.upstreams import Upstreams

    with Upstreams(fake_clock) as made, taking_part(made, last=True):
        yield made


@pytest.fixture
def mesh_caller() -> AsCaller:
    """``meshlib.testing.as_caller``: ``mesh_caller(app, principal=..., claims=..., source_ip=...)`` wraps the application so
    that a test client calls it as that caller."""
    from meshlib.testing import as_caller

    return as_caller


@pytest.fixture
def mesh_mocks() -> Iterator[None]:
    """Make respx, pytest-httpx, vcrpy and similar libraries work with every mesh: calls go through httpx's own transports,
    which they patch, with the URL that the caller wrote (``meshlib.testing.through_mocks``). Request it in a test, or for a
    whole suite::

        @pytest.fixture(autouse=True)
        def _mocks(mesh_mocks): ...
    """
    from meshlib.testing.mocks import through_mocks

    with through_mocks():
        yield
