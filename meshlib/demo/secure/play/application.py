"""Bookinfo's processes, each with a certificate of one CA, the folder that configures them, and a real Envoy before details."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

import meshlib
from meshlib.ca.store import Store
from meshlib.clock import SystemClock
from meshlib.demo.bookinfo.services.serve import workload_of
from meshlib.demo.discovery import endpoint_resources
from meshlib.demo.process import ChildDied, Process
from meshlib.demo.secure import CONFIG, TRUST_DOMAIN
from meshlib.demo.secure.play import envoy
from meshlib.demo.secure.play.envoy import Envoy
from meshlib.demo.secure.play.tokens import Issuer
from meshlib.workload import Workload

VERSIONS = {"productpage": "v1", "reviews": "v3", "ratings": "v1", "details": "v1"}
START_SECONDS = 60.0
ANSWER_SECONDS = 20.0
STOP_SECONDS = 4.0
TTL = 600.0
VISITOR = Workload("visitor", labels={"app": "visitor"}, service_account="visitor")


def identity_of(service: str) -> str:
    """The SPIFFE ID of a service's workload, or of the visitor."""
    return (VISITOR if service == "visitor" else workload_of(service, VERSIONS[service])).principal


class Application:
    """A context manager. ``binary``: of Envoy; "": details serves by itself. ``keep_files`` leaves YAML and logs behind."""

    def __init__(self, binary: str) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="bookinfo-secure-"))
        self.logs = self.root / "logs"
        self.folder = self.root / "mesh"
        self.keep_files = False
        self.issuer = Issuer()
        self.children: dict[str, Process] = {}
        self.envoy: Envoy | None = None
        self._binary = binary
        self.logs.mkdir()
        self.folder.mkdir()
        self.store = Store.create(self.root / "ca", TRUST_DOMAIN, SystemClock())
        self.renew_all()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop(keep_files=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(keep_files=self.keep_files or isinstance(error, Exception))

    def svid(self, who: str) -> Path:
        """The folder with somebody's certificate, which the CA writes and they follow."""
        return self.store.folder_of(identity_of(who))

    def renew(self, who: str) -> None:
        """A new key and certificate."""
        self.store.issue(identity_of(who), ttl=TTL)

    def renew_all(self) -> None:
        """Everybody's."""
        for who in (*VERSIONS, "visitor"):
            self.renew(who)

    def identity(self, who: str) -> meshlib.Identity:
        """For a mesh of the runner."""
        folder = self.svid(who)
        return meshlib.Identity.from_files(folder / "cert.pem", folder / "key.pem", folder / "bundle.pem")

    def port(self, service: str) -> int:
        """Where a service's workload takes connections of the mesh."""
        if service == "details" and self.envoy is not None:
            return self.envoy.port
        return self.children[service].port

    def ask(self, service: str) -> dict[str, Any]:
        """What the process of a service that serves by meshlib knows of itself."""
        return self.children[service].tell("status", time.monotonic() + ANSWER_SECONDS)

    @property
    def ours(self) -> list[str]:
        """Services that serve by meshlib, not by Envoy."""
        return [name for name in VERSIONS if name != "details" or self.envoy is None]

    def bundle_has_changed(self) -> None:
        """Envoy is handed the roots of now; the others follow their files."""
        if self.envoy is not None:
            self.envoy.trust(self.store.current().bundle_pem.decode())

    def wait_until(self, done: Callable[[], bool], seconds: float = ANSWER_SECONDS) -> bool:
        """Whether it came to be within so many seconds. A process that has ended raises ChildDied."""
        until = time.monotonic() + seconds
        while not done():
            if time.monotonic() > until:
                return False
            for child in self.children.values():
                child.check()
            time.sleep(0.05)
        return True

    def stop(self, *, keep_files: bool = False) -> None:
        """End every process, in time or by force. Idempotent."""
        if self.envoy is not None:
            self.envoy.stop()
        for child in self.children.values():
            child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.children.values():
            child.join(max(0.1, deadline - time.monotonic()))
        self.children.clear()
        if keep_files:
            shutil.rmtree(self.root / "ca", ignore_errors=True)  # keys are left nowhere
        else:
            shutil.rmtree(self.root, ignore_errors=True)

    # -- starting ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._write("services.yaml", (CONFIG / "services.yaml").read_text("utf-8"))
        self._write("security.yaml", self._security())
        for service in VERSIONS:
            self.children[service] = self._child(service)
        deadline = time.monotonic() + START_SECONDS
        for child in self.children.values():
            child.wait_ready(deadline)
        if self._binary:
            self._start_envoy(deadline)
        documents = [document for service in VERSIONS for document in self._endpoint(service)]
        before = {name: self.ask(name)["version"] for name in self.ours}
        self._write("endpoints.yaml", yaml.safe_dump_all(documents, sort_keys=False))
        if not self.wait_until(lambda: all(self.ask(name)["version"] != before[name] for name in self.ours)):
            raise ChildDied(f"the services have not read {self.folder / 'endpoints.yaml'} in {ANSWER_SECONDS:.0f} s")

    def _child(self, service: str) -> Process:
        version = VERSIONS[service]
        if service == "details" and self._binary:  # Envoy stands before it: it knows nothing of meshes
            command = [sys.executable, "-m", "meshlib.demo.bookinfo.services.serve", service, "--lifeline"]
        else:
            command = [sys.executable, "-m", "meshlib.demo.secure.services.serve", service, "--version", version]
            command += ["--mesh", str(self.folder), "--svid", str(self.svid(service))]
        return Process(service, version, f"{service}-{version}-1", command, self.logs)

    def _start_envoy(self, deadline: float) -> None:
        bundle = self.store.current().bundle_pem.decode()
        made = Envoy(
            self._binary,
            self.root / "envoy",
            self.svid("details"),
            TRUST_DOMAIN,
            bundle,
            self.children["details"].port,
            self.logs,
        )
        self.envoy = made
        made.start({name: (self.children[name].port, identity_of(name)) for name in ("productpage", "ratings")})
        made.wait_ready(deadline)

    def _security(self) -> str:
        documents = list(yaml.safe_load_all((CONFIG / "security.yaml").read_text("utf-8")))
        for document in documents:
            for rule in document["spec"].get("jwtRules", ()):
                rule["jwks"] = self.issuer.jwks
        return yaml.safe_dump_all(documents, sort_keys=False)

    def _endpoint(self, service: str) -> list[dict[str, Any]]:
        child = self.children[service]
        pod, piece = endpoint_resources(child, "bookinfo", "http")
        # as Istio's injector marks pods that have a sidecar
        pod["metadata"]["labels"]["security.istio.io/tlsMode"] = "istio"
        pod["spec"]["containers"][0]["ports"][0]["containerPort"] = self.port(service)
        piece["ports"][0]["port"] = self.port(service)
        return [pod, piece]

    def _write(self, name: str, text: str) -> None:
        beside = self.root / name
        beside.write_text(text, "utf-8")
        os.replace(beside, self.folder / name)


def envoy_binary() -> str:
    """Of a real Envoy; "" where there is none."""
    return envoy.find() or ""
