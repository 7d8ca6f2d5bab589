"""``meshlib demo sidecar --once`` as it is: twelve processes, and the verdicts of the demo bookinfo. CI plays it in full."""

from __future__ import annotations

import os

import pytest
from click.testing import CliRunner

from meshlib.cli.main import main
from meshlib.demo.bookinfo.play.session import PAGE_RULES
from meshlib.demo.sidecar.application import Sidecars
from meshlib.workload import Workload


@pytest.fixture(scope="module")
def application():
    with Sidecars() as made:
        yield made


def test_every_service_is_behind_a_proxy_of_its_own(application):
    assert len({child.pid for child in application.children}) == 6
    for child in application.children:
        places = child.ask("/listeners?format=json")["listener_statuses"]
        assert f"127.0.0.1:{child.port}" in {each["local_address"] for each in places}
        assert child.ask("/status")["workload"].startswith(f"{child.service}-{child.version}")


def test_rules_take_effect_in_the_proxies(application):
    application.play(PAGE_RULES.path.read_bytes())
    wanted = application.snapshot(Workload("visitor", labels={"app": "visitor"})).version
    assert application.status(application.find("productpage"))["version"] == wanted


def test_a_killed_replica_takes_its_proxy_along(application):
    child = application.scale_up("reviews", "v1")
    proxy = child._proxy.pid
    child.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(proxy, 0)
    application.remove(child)


def test_a_wrong_number_of_requests_is_a_usage_error():
    assert CliRunner().invoke(main, ["demo", "sidecar", "--requests", "0"]).exit_code == 2
