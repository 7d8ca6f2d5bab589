"""For all tests: hypothesis keeps no time (how long an example takes says how busy the machine is, and nothing of meshlib), no
test leaves an OpenTelemetry provider behind for those that come after it in its process, and a run leaves no files behind."""

from __future__ import annotations

import faulthandler
import gc
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import certifi
import httpx
import httpx2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from opentelemetry import trace

from tests.support.frozen import freeze

# whoever imports eventlet (Sentry does, where it is installed) has it import dnspython anew, on sockets of its own: that breaks
# the DNS that other tests of the process speak
os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")

# the same examples each time: what a run finds is what somebody has changed. MESHLIB_FAULTS=1 draws others
settings.register_profile(
    "untimed",
    deadline=None,
    derandomize="MESHLIB_FAULTS" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("untimed")
if "MESHLIB_FAULTS" not in os.environ:
    # among its examples are constants of all of our modules that a process has imported: other ones in a run of all tests than
    # in one of the file that fails. And to find them takes two CPU seconds in each process, five in a clean clone
    providers._get_local_constants = lambda: providers._local_constants


def _folder_of_this_run() -> str | None:
    """Where everything of a run has its temporary files, for processes that tests kill cannot remove theirs. Made by the first
    process, before anything asks for ``tempfile.tempdir``; those of xdist inherit it. Its path is short: sockets are in it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return None
    outside = tempfile.gettempdir()
    made = tempfile.mkdtemp(prefix="mt-")
    os.chmod(made, 0o755)  # servers of tests that have given up root come through
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", outside)  # pytest itself keeps tmp_path of the last three runs
    os.environ["TMPDIR"] = tempfile.tempdir = made
    return made


FOLDER = _folder_of_this_run()


def _one_root_of_the_web() -> None:
    """For ``httpx.Client()``, which reads all of certifi's 140 for 25 ms, each time, though no test leaves this machine."""
    first, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----\n")
    one = Path(tempfile.gettempdir()) / f"root-{os.getpid()}.pem"
    one.write_text(first + end)
    certifi.where = lambda: str(one)


_one_root_of_the_web()


def _a_minute_for_httpx() -> None:
    """Who says nothing to httpx waits for five seconds, and a machine may be busy for longer: what ends there says how busy it
    is, and nothing of meshlib. A test that is about a timeout gives one."""
    for module in (httpx, httpx2):
        default = (
            module._config.DEFAULT_TIMEOUT_CONFIG
        )  # the one object that clients and ``httpx.get`` have as their default
        default.connect = default.read = default.write = default.pool = 60.0


_a_minute_for_httpx()


class Watchdog:
    """Shows the stacks of all threads once no test has begun for four minutes, even where no signal is handled any more, which
    pytest-timeout needs. ``faulthandler_timeout`` would make and join a thread for each of twenty thousand tests."""

    SECONDS, MOST_BETWEEN = 240, 20

    def __init__(self) -> None:
        self.armed = float("-inf")
        self.file = os.dup(2)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        now = time.monotonic()
        if now - self.armed > self.MOST_BETWEEN:
            self.armed = now
            faulthandler.dump_traceback_later(self.SECONDS, file=self.file)

    def pytest_unconfigure(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        os.close(self.file)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Watchdog())


def pytest_unconfigure() -> None:
    if FOLDER is not None:
        shutil.rmtree(FOLDER, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """The garbage collector would look thirty times at what only grows: modules, and thousands of tests that pytest keeps. Nor
    does it look at them afterwards."""
    gc.disable()
    try:
        return (yield)
    finally:
        freeze()
        gc.enable()


SLOW = ("slow", "fault", "differential")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among the processes of xdist, files with slow tests go first, then those with many: the last ones that run beside nothing
    are short. (xdist itself counts tests alone; ``--no-loadscope-reorder`` keeps to this order.)"""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if any(item.get_closest_marker(name) for name in SLOW)}
        tests = Counter(item.path for item in items)
        items.sort(key=lambda item: (item.path not in slow, -tests[item.path]))


@pytest.fixture(autouse=True)
def no_global_tracer_provider_is_left():
    yield
    left = trace._TRACER_PROVIDER
    if left is not None:
        trace._TRACER_PROVIDER = None
        trace._TRACER_PROVIDER_SET_ONCE = trace.Once()
        pytest.fail(
            f"left as OpenTelemetry's global tracer provider: {left!r}; give it to the mesh, or use monkeypatch"
        )
