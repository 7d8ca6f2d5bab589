"""``python -m tests.soak.client FOLDER PORTS SEED``: the process with the mesh in it, and all that calls through it.

It is told on stdin what comes next (``storm``, ``quiet``) and tells on stdout, a JSON array a line, what it finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import json
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx

import meshlib
from meshlib.transport.upstream import names
from tests.soak import callers, census, grpc_callers, judge
from tests.soak.callers import Stop, call, call_async, until
from tests.soak.history import Ledger
from tests.soak.plans import HTTP_HOSTS, Planner

LOOPS = ("loop one", "loop two")
SETTLES = 60.0
"""Seconds that things may take to go away after the last call, on a busy machine."""
ENDS = 120.0
"""Seconds in which every call has ended: twice what callers wait."""
SAMPLE = 1.0
FORK_EVERY = (3.0, 8.0)
CHILD_PATIENCE = 120.0
BRIEF_LOOP_EVERY = 0.5
BRIEF_GRPC = 0.1
"""The share of brief loops with gRPC calls: grpcio itself keeps every loop that it was used on while others use it."""


def tell(*entry: object) -> None:
    sys.stdout.write(json.dumps(entry) + "\n")
    sys.stdout.flush()


class Resolver:
    """``socket.getaddrinfo`` for names of this soak: their addresses change all the time, looks fail and dawdle."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"{seed} names")
        self._system = socket.getaddrinfo
        self.stormy = False
        self.looks = 0
        self.failures = 0

    def __call__(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if not str(host).endswith(".internal"):
            return self._system(host, port, *args, **kwargs)
        self.looks += 1
        if str(host).startswith("slow-"):
            time.sleep(0.5)
        addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        if self.stormy:
            if self._random.random() < 0.1:
                time.sleep(0.2)
            if self._random.random() < 0.2:
                self.failures += 1
                raise self._random.choice(
                    [
                        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
                        UnicodeError("label too long"),
                        LookupError("unknown encoding: idna"),
                    ]
                )
            addresses = self._random.sample(addresses, self._random.randint(1, 3))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0)) for address in addresses]


class Loops:
    """Event loops in threads of their own, for as long as the soak lasts."""

    def __init__(self) -> None:
        self.running: dict[str, asyncio.AbstractEventLoop] = {}
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Loops:
        for name in LOOPS:
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=self._run, args=(loop,), name=f"soak-{name}", daemon=True)
            thread.start()
            self.running[name] = loop
            self._threads.append(thread)
        return self

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    def run(self, make: Callable[[str], Coroutine[Any, Any, Any]]) -> None:
        """The same on each loop, to its end."""
        for future in [asyncio.run_coroutine_threadsafe(make(name), loop) for name, loop in self.running.items()]:
            future.result(300)

    def __exit__(self, *exc: object) -> None:
        for loop in self.running.values():
            loop.call_soon_threadsafe(loop.stop)
        for thread in self._threads:
            thread.join()
        self.running.clear()


class Soak:
    """The mesh and its callers."""

    def __init__(self, folder: Path, ports: dict[str, list[int]], seed: int) -> None:
        self.folder = folder
        self.ports = ports
        self.seed = seed
        self.resolver = Resolver(seed)
        self.ledger = Ledger(folder / f"calls-{os.getpid()}.jsonl")
        self.children = Ledger(folder / "children.jsonl")
        self.stop = Stop()
        self.mesh: meshlib.Mesh
        self._workers = 0

    def planner(self, worker: str) -> Planner:
        self._workers += 1
        return Planner(self.seed, f"{worker}{self._workers}", self.ports["http1"])

    # -- the routine: what is the same before and after the storm ----------------------------------------------------

    def routine(self, loops: Loops) -> None:
        """Plain calls to every host from every runtime, so that all there is to connect is connected; then nothing. Its
        calls must be answered."""
        planner = self.planner("routine")

        def http() -> None:
            with self.mesh.client(trust_env=False) as client:
                for _ in range(4):
                    for host in HTTP_HOSTS:
                        call(self.ledger, client, planner.plain(host), "routine")
                    hurried = [threading.Thread(target=self._mirrored, args=(client,)) for _ in range(8)]
                    for thread in hurried:
                        thread.start()
                    for thread in hurried:
                        thread.join()

        def rpcs() -> None:
            for host in grpc_callers.HOSTS:
                with self.mesh.grpc_channel(f"{host}:80") as channel:
                    stub = grpc_callers.Stub(channel)
                    for kind in (*grpc_callers.KINDS, *grpc_callers.KINDS):
                        rpc = grpc_callers.Rpc(planner, plain=True, host=host, kind=kind)
                        grpc_callers.call(self.ledger, stub, rpc, self.stop, "routine")

        async def on_loop(name: str) -> None:
            here = self.planner("routine")
            async with self.mesh.async_client(trust_env=False) as client:
                for _ in range(4):
                    for host in HTTP_HOSTS:
                        await call_async(self.ledger, client, here.plain(host), "routine")
            for host in grpc_callers.HOSTS:
                async with self.mesh.aio_grpc_channel(f"{host}:80") as channel:
                    stub = grpc_callers.Stub(channel)
                    for kind in (*grpc_callers.KINDS, *grpc_callers.KINDS):
                        rpc = grpc_callers.Rpc(here, plain=True, host=host, kind=kind)
                        await grpc_callers.call_async(self.ledger, stub, rpc, here.random, "routine")

        async def close_idle(_: str) -> None:
            async with self.mesh.async_client(trust_env=False):
                pass

        http()
        rpcs()
        loops.run(on_loop)
        until(lambda: not any(census.under_way(self.mesh.status()).values()), SETTLES)  # mirrored copies, too
        self.mesh.client(trust_env=False).close()  # which closes what is idle
        loops.run(close_idle)

    def saturate(self) -> None:
        """Pools of threads are as large as they get: four look for names."""
        planner = self.planner("routine")

        def look(number: int) -> None:
            plan = planner.plain("outside")
            plan.url = f"http://slow-{number}.internal:{self.ports['http1'][0]}/{plan.id}"
            with self.mesh.client(trust_env=False) as client:
                call(self.ledger, client, plan, "routine")

        threads = [threading.Thread(target=look, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _mirrored(self, client: httpx.Client) -> None:
        plan = self.planner("routine").plain("mirrored.test", "POST")
        plan.headers["x-soak-fault"] = "slow"
        call(self.ledger, client, plan, "routine")

    def settled(self, loops: Loops, before: dict[str, int] | None = None) -> dict[str, int]:
        """What there is once it does not get less any more, or is no more than ``before``."""
        end = time.monotonic() + SETTLES
        found: dict[str, int] = {}
        steady = 0
        while time.monotonic() < end:
            gc.collect()
            now = dict(census.all_of(loops.running))
            steady = steady + 1 if now == found else 0
            found = now
            if (before is not None and not census.more(before, found)) or (before is None and steady >= 10):
                break
            time.sleep(0.2)
        return found

    # -- the storm --------------------------------------------------------------------------------------------------

    def storm(self, loops: Loops) -> None:
        """Everything at once, until told to stop."""
        self.resolver.stormy = True
        mesh, ledger, stop = self.mesh, self.ledger, self.stop
        work: list[tuple[str, Callable[[], None]]] = []
        for i in range(4):
            planner = self.planner("thread")
            own = i % 2 == 1
            work.append(
                ("threads", lambda p=planner, o=own: callers.threads_worker(mesh, ledger, p, stop, o))  # type: ignore[misc]
            )
        for _ in range(2):
            planner = self.planner("grpc")
            work.append(
                ("grpc", lambda p=planner: grpc_callers.threads_worker(mesh, ledger, p, stop))  # type: ignore[misc]
            )
        work.append(("brief-loops", self._brief_loops))
        work.append(("forks", self._forks))
        threads = [threading.Thread(target=self._guarded, args=(w,), name=f"soak-{name}") for name, w in work]
        for thread in threads:
            thread.start()

        async def on_loop(name: str) -> None:
            await asyncio.gather(
                *[callers.loop_worker(mesh, ledger, self.planner("task"), stop, i % 2 == 1, name) for i in range(5)],
                grpc_callers.loop_worker(mesh, ledger, self.planner("grpc-task"), stop, f"grpc {name}"),
            )

        running = [asyncio.run_coroutine_threadsafe(on_loop(n), loop) for n, loop in loops.running.items()]
        while not stop.wait(SAMPLE):
            self._sample()
        self.resolver.stormy = False
        end = time.monotonic() + ENDS
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                tell("problem", f"{thread.name} has not ended {ENDS:.0f} s after it was told to")
        for future in running:
            try:
                future.result(max(0.0, end - time.monotonic()))
            except BaseException as error:
                tell("problem", f"a loop's callers ended with {error!r}")
        if time.monotonic() >= end:
            census.stacks(loops.running)
        self.ledger.flush()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            tell("problem", f"{threading.current_thread().name} died of {error!r}")
            raise

    def _sample(self) -> None:
        gc.collect()
        self.ledger.flush()
        tell(
            "sample",
            time.monotonic(),
            census.memory(),
            len(os.listdir("/proc/self/fd")),
            threading.active_count(),
            census.native_threads(),
            sys.getallocatedblocks(),  # gc.get_objects() is not for running threads: it shows tuples half made
            self.mesh.status()["source"]["reloads"],
            census.in_use(),
        )

    def _brief_loops(self) -> None:
        planner = self.planner("brief")
        while not self.stop.wait(BRIEF_LOOP_EVERY):
            asyncio.run(callers.brief_loop(self.mesh, self.ledger, planner))
            if planner.random.random() < BRIEF_GRPC:
                asyncio.run(grpc_callers.brief_loop(self.mesh, self.ledger, planner))

    def _forks(self) -> None:
        rng = random.Random(f"{self.seed} forks")
        planner = self.planner("fork")
        client = self.mesh.client(trust_env=False)
        while not self.stop.wait(rng.uniform(*FORK_EVERY)):
            call(self.ledger, client, planner.plain("steady.test"), "threads")  # something to inherit
            began = time.monotonic()
            pid = os.fork()
            if pid == 0:
                self._child(client, planner)
            code: int | None = None
            while True:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    code = os.waitstatus_to_exitcode(status)
                    break
                if time.monotonic() - began > CHILD_PATIENCE:
                    os.kill(pid, signal.SIGABRT)  # says on stderr where it stands
                    os.waitpid(pid, 0)
                    break
                time.sleep(0.02)
            self.children.write(pid, code, round(time.monotonic() - began, 3))
        client.close()

    def _child(self, client: httpx.Client, planner: Planner) -> None:
        code = 2
        try:
            ledger = Ledger(self.folder / f"calls-{os.getpid()}.jsonl")
            callers.in_child(self.mesh, client, ledger, planner)
            grpc_callers.in_child(self.mesh, ledger, planner, self.stop)
            ledger.close()
            code = 0
        except BaseException:
            logging.getLogger("soak").exception("a child failed")
        finally:
            os._exit(code)

    # -- all of it --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        socket.getaddrinfo = self.resolver
        names.REFRESH, names.RETRY = 0.5, 0.5
        _warm_grpcio(self.ports["grpc"][0])
        with Loops() as loops:
            untouched, nowhere = self.settled(loops), census.sockets()
            self.mesh = meshlib.Mesh.from_path(self.folder / "mesh", seed=self.seed)
            self.saturate()
            for _ in range(2):
                self.routine(loops)
            idle, connected = self.settled(loops), census.sockets()
            types = census.types()
            tell("idle", untouched, idle)
            wait_for("storm")
            stopper = threading.Thread(target=self._stop_when_told, name="soak-stopper", daemon=True)
            stopper.start()
            self.storm(loops)
            stopper.join()
            tell("calm")
            wait_for("quiet")
            self._see_the_last_edit()
            self.routine(loops)
            self.ledger.flush()
            after, sockets = self.settled(loops, idle), census.sockets()
            late: list[str] = []
            if census.more(idle, after):
                # a reload may have come in the middle of the routine: what the last calls before it still hold goes with the
                # next ones, and what has leaked stays
                late = judge.leaks(connected, sockets)
                census.tell_of_channels(self.mesh)
                self.routine(loops)
                after, sockets = self.settled(loops, idle), census.sockets()
            grown = (census.types() - types).most_common(12)
            tell("grown", grown)
            tell("leaks", idle, after, connected, sockets, late)
            status: dict[str, Any] = {}

            def nothing_under_way() -> bool:
                status.update(self.mesh.status())
                return not any(census.under_way(status).values())

            until(nothing_under_way, SETTLES)
            tell("under way", census.under_way(status))
            tell("source", status["source"], self.resolver.looks, self.resolver.failures)
            self._close(loops)
            end = self.settled(loops, untouched)
            tell("leaks after close", untouched, end, nowhere, census.sockets(), [])
        self.ledger.close()
        self.children.close()
        tell("end")

    def _stop_when_told(self) -> None:
        wait_for("calm")
        self.stop.event.set()

    def _see_the_last_edit(self) -> None:
        """The last edit takes effect."""
        with self.mesh.client(trust_env=False) as client:
            wanted = (self.folder / "generation").read_text()
            seen = ""

            def now() -> bool:
                nonlocal seen
                seen = client.get("http://generation.test/").text
                return seen == wanted

            if not until(now, SETTLES):
                tell("problem", f"the last edit was number {wanted}, and the mesh serves number {seen}")

    def _close(self, loops: Loops) -> None:
        async def close_there() -> None:
            await asyncio.sleep(0.2)

        self.mesh.close()
        loops.run(lambda _: close_there())
        del self.mesh


def _warm_grpcio(port: int) -> None:
    """What grpcio itself starts and keeps, in both runtimes, is no leak of the mesh."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(60)

    async def on_a_loop() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as there:
            await there.channel_ready()

    asyncio.run(on_a_loop())


def wait_for(word: str) -> None:
    line = sys.stdin.readline()
    if line.strip() != word:
        raise SystemExit(f"told {line!r} where {word!r} was to come")


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """What the mesh logs goes to a file, for whoever looks into a failure."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    yield


def main(folder: str, ports: str, seed: str) -> None:
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    faulthandler.enable()
    with quiet_logs():
        Soak(Path(folder), json.loads(ports), int(seed)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
