"""``meshlib demo sidecar`` with half of its services, nine processes, and its verdicts about gateways. CI plays it in full."""

from __future__ import annotations

import asyncio
import os

import httpx
import pytest
from click.testing import CliRunner

from meshlib.cli.main import main
from meshlib.demo.bookinfo.play import application as bookinfo
from meshlib.demo.bookinfo.play.scenarios import SCENARIOS
from meshlib.demo.report import Report
from meshlib.demo.sidecar.application import Sidecars
from meshlib.demo.sidecar.gateways import NAME
from meshlib.workload import Workload

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def application():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bookinfo, "REPLICAS", bookinfo.REPLICAS[:3])  # all that verdicts about gateways ask
        with Sidecars() as made:
            yield made


def test_every_service_is_behind_a_proxy_of_its_own(application):
    assert len({child.pid for child in application.children}) == 3
    for child in application.children:
        places = child.ask("/listeners?format=json")["listener_statuses"]
        assert f"127.0.0.1:{child.port}" in {each["local_address"] for each in places}
        assert child.ask("/status")["workload"].startswith(f"{child.service}-{child.version}")


def test_rules_take_effect_in_the_proxies(application):
    (rules,) = (each.path for each in SCENARIOS if each.file == "01-all-v1.yaml")
    application.play(rules.read_bytes())
    wanted = application.snapshot(Workload("visitor", labels={"app": "visitor"})).version
    assert application.status(application.find("productpage"))["version"] == wanted


def test_a_killed_replica_takes_its_proxy_along(application):
    child = application.scale_up("reviews", "v1")
    proxy = child._proxy.pid
    child.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(proxy, 0)
    application.remove(child)


def test_visitors_come_through_the_ingress_gateway_and_calls_leave_through_the_egress_gateway(application):
    report = Report()

    async def scenes():
        async with application.visitor(None) as client:
            await application.also_plays(client, report, 1)

    asyncio.run(scenes())
    assert [row.who for chapter in report.chapters for row in chapter.rows if row.verdict != "pass"] == []
    assert report.judged == 6


def test_the_site_is_proved_by_its_name_and_by_our_root_alone(application):
    gateways = application.gateways
    url, named = f"https://{gateways.ingress.host}:{gateways.port}/api/v1/products/0", {"sni_hostname": NAME}
    refused = pytest.raises(httpx.ConnectError, match=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed")
    with httpx.Client(trust_env=False) as stranger, refused:
        stranger.get(url, headers={"host": NAME}, extensions=named)
    with httpx.Client(verify=gateways.context(), trust_env=False) as client:
        assert client.get(url, headers={"host": NAME}, extensions=named).status_code == 200
        assert client.get(url, headers={"host": "other.example.com"}, extensions=named).status_code == 404


def test_keys_are_where_the_ingress_gateway_alone_reads_them(application):
    texts = {file.name: file.read_text() for file in application.folder.path.iterdir()}
    assert not [name for name, text in texts.items() if "kind: Secret\n" in text or "PRIVATE KEY" in text]


def test_a_wrong_number_of_requests_is_a_usage_error():
    assert CliRunner().invoke(main, ["demo", "sidecar", "--requests", "0"]).exit_code == 2
