"""A shop in three languages: Node.js and Go behind ``meshlib proxy``, Python under ``meshlib serve``. See README.md.

python examples/polyglot/run.py           # the shop stays open until Ctrl-C
python examples/polyglot/run.py --once    # verdicts, and exit code 0, 1 (one fails) or 2 (it could not be started)
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import httpx
from processes import HERE, NAMESPACE, CannotRun, Shop, Workload
from prometheus_client.parser import text_string_to_metric_families

import meshlib

SPIFFE = f"spiffe://cluster.local/ns/{NAMESPACE}/sa/"
LANGUAGES = {"web": "Node.js", "stock": "Go", "prices": "Python"}
LEADS = {"web": "stock", "stock": "prices", "prices": "web"}
"""Who calls whom, so that every reporter can be asked for."""

Verdict = Callable[[], str]
"""Observes; returns what was seen. Raises AssertionError with what is wrong."""


class Verdicts:
    """Expectations, one after another, each with what was observed."""

    def __init__(self, shop: Shop, shopper: httpx.Client) -> None:
        self._shop = shop
        self._shopper = shopper
        self.failed = self.passed = self.skipped = 0

    def judge(self, expected: str, needs: tuple[str, ...], look: Verdict) -> None:
        """Prints one. ``needs``: tools that it cannot be had without."""
        missing = [tool for tool in needs if tool in self._shop.missing]
        if missing:
            self.skipped += 1
            print(f"NOT PLAYED  {expected}: there is no {' and no '.join(missing)} here", flush=True)
            return
        try:
            observed = look()
        except (AssertionError, KeyError, OSError, ValueError, httpx.HTTPError) as error:
            self.failed += 1
            print(f"FAIL  {expected}: {error or type(error).__name__}", flush=True)
        else:
            self.passed += 1
            print(f"pass  {expected}: {observed}", flush=True)

    def all(self) -> None:
        """In an order that people can follow: who gets through, who does not, what was counted."""
        both = ("node", "go")
        self.judge("Node.js, Go and Python call each other over mTLS", both, self._chain)
        self.judge("each is told who called it, by X-Forwarded-Client-Cert", both, self._callers)
        self.judge("one trace through all three languages", both, self._trace)
        self.judge("x-canary leads to stock v2, and nobody else goes there", both, self._canary)
        self.judge("prices is busy: Go's proxy asks again", both, self._retry)
        self.judge("Python calls Node.js", ("node",), lambda: self._from_python("web", "/campaign"))
        self.judge("Python calls Go", ("go",), lambda: self._from_python("stock", "/levels/7"))
        self.judge("a shopper may not ask Go", ("go",), lambda: self._refused("stock", "/stock/7"))
        self.judge(
            "a shopper may not ask Node.js for what is for prices", ("node",), lambda: self._refused("web", "/campaign")
        )
        self.judge("Node.js may not ask Python", ("node",), self._peek)
        for name, tools in (("web-v1", ("node",)), ("stock-v1", ("go",)), ("stock-v2", ("go",)), ("prices-v1", ())):
            self.judge(f"{name} refuses plain text", tools, lambda at=name: self._plain(self._shop.of(at)))
        for app, callee in LEADS.items():
            language, other = LANGUAGES[app], LANGUAGES[callee]
            tools = ("node",) if (app, callee) == ("prices", "web") else both
            self.judge(
                f"{language} counts its calls to {other}",
                tools,
                lambda a=app, c=callee: self._counted(a, a, c, "source"),
            )
            self.judge(
                f"{other} counts them, too", tools, lambda a=app, c=callee: self._counted(c, a, c, "destination")
            )

    def _get(self, url: str, status: int = 200, **headers: str) -> httpx.Response:
        response = self._shopper.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
        assert response.status_code == status, f"{url}: {response.status_code} {response.text[:300]!r}"
        return response

    def _seen(self, url: str, **headers: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self._get(url, **headers).json()["seen"]
        return found

    def _chain(self) -> str:
        found = self._get("http://web:8080/products/7").json()
        # ten per cent off by web's campaign, twenty on because stock has few: prices has asked both
        assert (found["left"], found["cents"]) == (3, 1100), f"not what they make together: {found}"
        way = [f"{hop['service']} {hop['path']}" for hop in found["seen"]]
        assert way == ["web /products/7", "stock /stock/7", "prices /prices/7", "web /campaign", "stock /levels/7"], way
        return " > ".join(way[:3]) + " > " + " and ".join(way[3:])

    def _callers(self) -> str:
        found = [hop["caller"].removeprefix(SPIFFE) for hop in self._seen("http://web:8080/products/7")]
        assert found == ["shopper", "web", "stock", "prices", "prices"], found
        return f"{SPIFFE}{', '.join(found)}"

    def _trace(self) -> str:
        ours = secrets.token_hex(16)
        parent = f"00-{ours}-{secrets.token_hex(8)}-01"
        found = [hop["trace"] for hop in self._seen("http://web:8080/products/7", traceparent=parent)]
        assert found == [ours] * 5, f"sent {ours}, seen {found}"
        return f"{ours} at all five"

    def _canary(self) -> str:
        asked = ("yes", "no", "yes", "", "YES", "yes")
        found = [self._get("http://web:8080/products/7", x_canary=each).json()["version"] for each in asked]
        assert found == ["v2", "v1", "v2", "v1", "v1", "v2"], found
        return ", ".join(f"{each or 'nothing'}: {version}" for each, version in zip(asked, found, strict=True))

    def _retry(self) -> str:
        hops = self._seen("http://web:8080/products/7", x_drill="busy")
        found = {hop["service"]: hop["attempt"] for hop in hops[:3]}
        assert found == {"web": "1", "stock": "1", "prices": "2"}, found
        return "200, by attempt 2 of 3 at most"

    def _from_python(self, app: str, path: str) -> str:
        # what is missing of the two is left out of the price
        hops = [hop for hop in self._seen("http://prices:8080/prices/7") if hop["service"] == app]
        assert [(hop["path"], hop["caller"]) for hop in hops] == [(path, f"{SPIFFE}prices")], hops
        return f"{path}, as {hops[0]['caller']}"

    def _refused(self, app: str, path: str) -> str:
        response = self._get(f"http://{app}:8080{path}", 403)
        return f"403 {response.text}"

    def _peek(self) -> str:
        response = self._get("http://web:8080/peek/7", 403)
        return f"403 {response.json()['error']}"

    @staticmethod
    def _plain(workload: Workload) -> str:
        with socket.create_connection(("127.0.0.1", workload.port), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: anybody\r\n\r\n")
            try:
                found = connection.recv(4096)
            except ConnectionResetError:
                return "reset"
        assert not found, f"it responds with {found[:100]!r}"
        return "closed"

    def _counted(self, at: str, source: str, destination: str, reporter: str) -> str:
        labels = {"reporter": reporter, "destination_workload": f"{destination}-v1", "response_code": "200"}
        if reporter == "source":
            labels |= {"source_workload": f"{source}-v1"}
        else:  # who it was, by the certificate
            labels |= {"connection_security_policy": "mutual_tls", "source_principal": f"{SPIFFE}{source}"}
        found = 0.0
        for family in text_string_to_metric_families(self._shop.of(f"{at}-v1").page("/stats/prometheus").text):
            for sample in family.samples:
                if sample.name == "istio_requests_total" and labels.items() <= sample.labels.items():
                    found += sample.value
        assert found > 0, f"istio_requests_total has nothing with {labels}"
        return f"{found:.0f} by reporter={reporter}"


def play(once: bool, without: list[str], resources: Path, keep: Path | None) -> int:
    """The exit code."""
    with tempfile.TemporaryDirectory(prefix="polyglot-") as made:
        shop = Shop(keep or Path(made), resources, without)
        for tool in shop.missing:
            print(f"THERE IS NO {tool} HERE: what needs it is not played", flush=True)
        try:
            print(
                "starting: certificates, a proxy beside each service that is not Python, the services ...", flush=True
            )
            shop.start()
            svid = shop.folder / "svid" / "shopper"
            identity = meshlib.Identity.from_files(svid / "cert.pem", svid / "key.pem", svid / "bundle.pem")
            who = meshlib.Workload("shopper", namespace=NAMESPACE, service_account="shopper", labels={"app": "shopper"})
            with (
                meshlib.Mesh.from_path(shop.folder / "mesh", workload=who, identity=identity) as mesh,
                mesh.client(timeout=30) as shopper,
            ):
                verdicts = Verdicts(shop, shopper)
                verdicts.all()
            print(f"{verdicts.passed} pass, {verdicts.failed} fail, {verdicts.skipped} not played", flush=True)
            if verdicts.failed:
                print(shop.logs(), flush=True)
            if not once:
                stay(shop, svid)
        except CannotRun as error:
            print(f"could not be started: {error}", flush=True)
            return 2
        finally:
            shop.stop()
    return 1 if verdicts.failed else 0


def stay(shop: Shop, svid: Path) -> None:
    """Open until Ctrl-C or SIGTERM."""
    shown = "web-v1" if "node" not in shop.missing else "prices-v1"
    path = "/products/7" if shown == "web-v1" else "/prices/7"
    print(
        "\nThe shop is open. Shop in it (Ctrl-C closes it):\n"
        f"  curl --cert {svid}/cert.pem --key {svid}/key.pem --cacert {svid}/bundle.pem"
        f" https://127.0.0.1:{shop.of(shown).port}{path}\n"
        f"Edit the resources in {shop.folder / 'mesh'}: all processes follow them. Logs are beside that folder.",
        flush=True,
    )
    signal.pause()


def stopped(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends it as Ctrl-C does: no process stays behind."""
    raise KeyboardInterrupt


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--once", action="store_true", help="end after the verdicts")
    parser.add_argument("--without", action="append", default=[], choices=("node", "go"), help="as if it were not here")
    parser.add_argument("--mesh", type=Path, default=HERE / "mesh", metavar="FOLDER", help="resources instead of ours")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="a new folder for certificates, resources and logs, kept"
    )
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, stopped)
    if given.keep is not None:
        os.makedirs(given.keep, mode=0o700)
    try:
        return play(given.once, given.without, given.mesh, given.keep and given.keep.resolve())
    except KeyboardInterrupt:
        print("closed", flush=True)
        return 0 if not given.once else 2


if __name__ == "__main__":
    sys.exit(main())
