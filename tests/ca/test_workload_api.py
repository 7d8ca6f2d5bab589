"""The Workload API server for development, asked by PyPI's ``spiffe``, by go-spiffe and by us."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from meshlib.alarms import Alarms
from meshlib.ca.issued import Issued
from meshlib.ca.workload_api import WorkloadApiServer
from meshlib.clock import SystemClock
from meshlib.identity.workload_api import WorkloadApiSource
from meshlib.problems import MeshError
from meshlib.security.authority import Authority
from meshlib.security.trust_bundles import TrustBundles
from tests.support.standing import Standing
from tests.support.workload_api import LONG, Listener, clock_at

CLOCK = SystemClock()
REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"
ROOT = Authority.root("cluster.local", CLOCK.time())
OTHER = Authority.root("other.test", CLOCK.time())
STANDING = Standing(
    ROOT.intermediate(CLOCK.time()),
    TrustBundles({"cluster.local": (ROOT.root_der,), "other.test": (OTHER.root_der,)}),
)


class Served:
    def __init__(self, folder: Path) -> None:
        self.path = f"{folder}/agent.sock"
        self.uri = f"unix://{self.path}"
        self.issued = Issued(lambda: STANDING, REVIEWS, CLOCK, Alarms(), ttl=3600)
        self.server = WorkloadApiServer(self.uri, self.issued)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    made.server.start()
    yield made
    made.server.close()


def test_the_socket_is_for_this_user_alone(served: Served) -> None:
    assert stat.S_IMODE(os.stat(served.path).st_mode) == 0o600


@pytest.mark.parametrize("method", ["FetchX509SVID", "FetchX509Bundles"])
@pytest.mark.parametrize("metadata", [(), (("workload.spiffe.io", "false"),), (("workload.spiffe.io", "TRUE"),)])
def test_a_call_without_the_security_header_is_refused(
    served: Served, method: str, metadata: tuple[tuple[str, str], ...]
) -> None:
    with grpc.insecure_channel(f"unix:{served.path}") as channel:
        call = channel.unary_stream(f"/SpiffeWorkloadAPI/{method}")(b"", metadata=metadata, timeout=LONG)
        with pytest.raises(grpc.RpcError) as raised:
            next(call)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID"])
def test_jwt_svids_are_not_served(served: Served, method: str) -> None:
    with grpc.insecure_channel(f"unix:{served.path}") as channel:
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary(f"/SpiffeWorkloadAPI/{method}")(b"", metadata=(("workload.spiffe.io", "true"),))
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def rotations() -> int:
    return 180


def test_ours_follows_ours_through_180_rotations(served: Served) -> None:
    with Listener(WorkloadApiSource(served.uri), clock_at(CLOCK.time())) as heard:
        svid, bundles = heard.next()
        assert bundles == STANDING.bundles
        seen = {svid.leaf}
        for _ in range(rotations()):
            served.issued.renew()
            svid, _ = heard.next()
            seen.add(svid.leaf)
        assert len(seen) == rotations() + 1
        assert set(heard.said) <= {""}


def test_pypi_spiffe_fetches_from_ours_and_hears_of_rotations(served: Served) -> None:
    spiffe = pytest.importorskip("spiffe", reason="PyPI spiffe is not installed: no second opinion")
    with spiffe.X509Source(spiffe.WorkloadApiClient(served.uri)) as source:
        first = source.get_x509_context().default_svid
        assert str(first.spiffe_id) == REVIEWS
        assert len(first.cert_chain) == 2
        for name in ("cluster.local", "other.test"):
            assert source.get_bundle_for_trust_domain(spiffe.TrustDomain(name)) is not None
    with spiffe.WorkloadApiClient(served.uri) as client:
        served.issued.renew()
        assert client.fetch_x509_svid().leaf.serial_number != first.leaf.serial_number
        bundles = client.fetch_x509_bundles()
        assert bundles.get_bundle_for_trust_domain(spiffe.TrustDomain("other.test")) is not None


GO = """
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(os.Args[1]))
	check(err)
	defer client.Close()
	found, err := client.FetchX509Context(ctx)
	check(err)
	svid := found.DefaultSVID()
	id, _, err := x509svid.Verify(svid.Certificates, found.Bundles)
	check(err)
	bundles, err := client.FetchX509Bundles(ctx)
	check(err)
	fmt.Println(id, len(svid.Certificates), bundles.Len(), bundles.Has(spiffeid.RequireTrustDomainFromString("other.test")))
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
"""


def test_go_spiffe_fetches_from_ours_and_verifies_it(served: Served, tmp_path: Path) -> None:
    if not os.environ.get("MESHLIB_FAULTS"):
        pytest.skip("go-spiffe takes a minute to build: MESHLIB_FAULTS=1")
    if shutil.which("go") is None:
        pytest.skip("go is not installed: no second opinion of go-spiffe")
    (tmp_path / "main.go").write_text(GO)
    (tmp_path / "go.mod").write_text("module peer\n\ngo 1.24\n\nrequire github.com/spiffe/go-spiffe/v2 v2.9.0\n")
    made = subprocess.run(
        ["go", "build", "-mod=mod", "-o", "peer", "."], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    if made.returncode:
        pytest.skip(f"go-spiffe cannot be had here: no second opinion ({made.stderr[-200:]})")
    run = subprocess.run([tmp_path / "peer", served.uri], capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == [REVIEWS, "2", "2", "true"], run.stdout


def test_a_socket_whose_server_is_gone_is_taken_over(tmp_path: Path) -> None:
    made = Served(tmp_path)
    left = socket.socket(socket.AF_UNIX)
    left.bind(made.path)
    left.close()
    made.server.start()
    made.server.close()


def test_one_that_is_served_is_not(served: Served) -> None:
    with pytest.raises(MeshError, match="is served by another process"):
        WorkloadApiServer(served.uri, served.issued).start()


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    made = Served(tmp_path)
    Path(made.path).write_text("mine")
    with pytest.raises(MeshError, match="is not a socket"):
        made.server.start()
    assert Path(made.path).read_text() == "mine"


def test_what_is_no_endpoint_says_so(served: Served) -> None:
    with pytest.raises(MeshError, match=r"'agent\.sock' must have the scheme unix or tcp"):
        WorkloadApiServer("agent.sock", served.issued)
