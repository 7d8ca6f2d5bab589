"""One run of the demo from the first process to the last, with the signals that may end it early."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry

import meshlib
from meshlib.demo.process import ChildDied
from meshlib.demo.report import Report
from meshlib.demo.shop import APP
from meshlib.demo.shop.play.chain import play_deadline, play_orders
from meshlib.demo.shop.play.customer import CUSTOMER, Customer
from meshlib.demo.shop.play.facts import play_explain, play_metrics
from meshlib.demo.shop.play.failures import play_fault, play_killed, play_retries, play_timeouts
from meshlib.demo.shop.play.processes import Shop
from meshlib.demo.shop.play.routes import play_canary, play_streams, play_weights
from meshlib.demo.shop.play.scenario import Stage

SCENARIOS: tuple[Callable[[Stage], None], ...] = (
    play_canary,
    play_weights,
    play_streams,
    play_orders,
    play_fault,
    play_retries,
    play_timeouts,
    play_deadline,
    play_killed,
    play_explain,
)


class CannotPlay(RuntimeError):
    """The demo could not be played to its end: a process died, or the run was stopped half-way."""


def play(report: Report, *, once: bool, calls: int) -> None:
    """Play everything, then, without ``once``, leave the shop up until a signal. Raises CannotPlay."""
    restore = _interrupt_on_signals()
    started = time.monotonic()
    done = False
    try:
        report.say("starting the shop: catalog v1 (2 replicas) and v2, orders ...")
        with Shop() as shop:
            report.say(f"ready after {time.monotonic() - started:.1f} s")
            report.say(f"mesh YAML in {shop.folder}, logs in {shop.logs}")
            registry = CollectorRegistry()
            mesh = meshlib.Mesh.from_path(shop.folder, watch=True, workload=CUSTOMER, registry=registry)
            with mesh, Customer(mesh) as customer:
                stage = Stage(shop, customer, report, calls)
                for scenario in SCENARIOS:
                    scenario(stage)
                    shop.check()
                play_metrics(stage, registry)
            report.table()
            if report.failed:
                shop.keep_files = True
                report.say(f"YAML and logs are kept in {shop.root}")
            report.say(f"{time.monotonic() - started:.0f} s in all")
            done = True
            if not once:
                shop.replace("v1")  # for the replica that was killed
                _stay_up(shop, report)
    except ChildDied as error:
        raise CannotPlay(str(error)) from error
    except KeyboardInterrupt:
        report.say("\nstopped")
        if not done:
            raise CannotPlay("stopped before the end") from None
    finally:
        restore()


def _interrupt_on_signals() -> Callable[[], None]:
    """SIGTERM and SIGHUP end the run as Ctrl-C does. Returns what undoes this."""

    def handle(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


def _stay_up(shop: Shop, report: Report) -> None:
    report.say("The shop is open. Buy something:")
    report.say(f"  python {APP / 'buy.py'} {shop.folder} [--canary]")
    report.say(f"Edit the rules while it runs: {shop.folder / 'routes.yaml'}")
    report.say("Ctrl-C ends it.")
    while True:
        shop.check()
        time.sleep(0.5)
