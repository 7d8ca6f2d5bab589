"""The options of ``meshlib proxy``: what they mean together, and a sentence for each that is wrong, all at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshlib.proxy.iptables import InterceptionMode
from meshlib.proxy.options import Given, InboundPair, ProxyOptions, WrongOptions, checked, usable_cores
from meshlib.proxy.places import TcpPlace, UnixPlace

OUT = ("127.0.0.1:15001",)


def wrong(**given: object) -> list[str]:
    with pytest.raises(WrongOptions) as caught:
        checked(Given(**{"configs": ("mesh/",), "outbound": OUT, **given}))  # type: ignore[arg-type]
    return list(caught.value.sentences)


def good(**given: object) -> ProxyOptions:
    return checked(Given(**{"configs": ("mesh/",), "outbound": OUT, **given}))  # type: ignore[arg-type]


def test_an_outbound_sidecar_needs_a_folder_and_a_port() -> None:
    found = good()
    assert (found.configs, found.outbound, found.inbound, found.workers) == (
        ("mesh/",),
        (TcpPlace("127.0.0.1", 15001),),
        (),
        1,
    )
    assert (found.drain, found.exit_on_zero) == (5.0, False)


def test_each_inbound_is_in_front_of_the_app_of_its_place() -> None:
    found = good(
        inbound=("0.0.0.0:15006", "0.0.0.0:15007", "0.0.0.0:15008"),
        apps=("127.0.0.1:8080", "unix:/run/app.sock", "unix:/run/other.sock"),
        app_ports=(9090, 9091),
    )
    assert found.inbound == (
        InboundPair(TcpPlace("0.0.0.0", 15006), TcpPlace("127.0.0.1", 8080), 8080),
        InboundPair(TcpPlace("0.0.0.0", 15007), UnixPlace("/run/app.sock"), 9090),
        InboundPair(TcpPlace("0.0.0.0", 15008), UnixPlace("/run/other.sock"), 9091),
    )
    assert found.listeners == 4


def test_an_inbound_without_an_app_is_in_front_of_all_ports_that_connections_were_meant_for() -> None:
    found = good(inbound=("0.0.0.0:15006",), transparent=True, outbound=())
    assert found.inbound == (InboundPair(TcpPlace("0.0.0.0", 15006), None, 0),)
    assert found.interception is InterceptionMode.REDIRECT
    found = good(inbound=("0.0.0.0:15006",), transparent=True, interception="TPROXY")
    assert found.interception is InterceptionMode.TPROXY


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(WrongOptions) as caught:
        checked(Given(outbound=("15001",), workers="0", admin="0.0.0.0:15000"))
    assert [sentence.split(":")[0].split(" ")[0] for sentence in caught.value.sentences] == [
        "--config",
        "--outbound",
        "--admin",
        "--workers",
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"configs": ()}, "--config is required"),
        ({"outbound": ()}, "there is nothing to do: give --outbound 127.0.0.1:15001"),
        ({"outbound": ("reviews:80",)}, "--outbound reviews:80: 'reviews' is not an IP address"),
        ({"inbound": ("0.0.0.0:15006",)}, "--inbound is given once and --app not at all: they are pairs"),
        ({"apps": ("127.0.0.1:80",)}, "--inbound is given not at all and --app once"),
        (
            {"inbound": ("0.0.0.0:15006",), "apps": ("unix:/run/a",)},
            "give --app-port 8080 for each, in their order",
        ),
        (
            {"inbound": ("0.0.0.0:15006",), "apps": ("127.0.0.1:80",), "app_ports": (80,)},
            "--app-port is given once and --app unix:PATH not at all: it names the port of a unix socket",
        ),
        ({"inbound": ("0.0.0.0:x",), "apps": ("127.0.0.1:80",)}, "--inbound 0.0.0.0:x: 'x' is not a port"),
        ({"inbound": ("0.0.0.0:1",), "apps": ("app",)}, "--app app: 'app' is not HOST:PORT"),
        ({"admin": "0.0.0.0:15000"}, "--admin '0.0.0.0:15000' can be reached from other machines"),
        ({"health": "ready"}, "--health ready: 'ready' is not HOST:PORT"),
        (
            {"transparent": True, "outbound": (), "inbound": ("0.0.0.0:15006",), "apps": ("127.0.0.1:80",)},
            "--transparent is for connections that iptables leads here",
        ),
        (
            {"transparent": True, "interception": "TPROXY"},
            "--interception-mode TPROXY is for connections to an application",
        ),
        ({"workers": "many"}, "--workers many: write a number from 1 to 1024, or auto for one a core"),
        ({"workers": "1025"}, "--workers 1025: write a number from 1 to 1024"),
        ({"admin": "127.0.0.1:15001"}, "127.0.0.1:15001 is listened on twice"),
        ({"health": "0.0.0.0:15001"}, "0.0.0.0:15001 is listened on twice"),
        (
            {"inbound": ("0.0.0.0:8080",), "apps": ("127.0.0.1:8080",)},
            "--app 127.0.0.1:8080 is where the proxy itself listens: it would call itself",
        ),
        ({"inbound": ("127.0.0.1:8080",), "apps": ("127.0.0.1:15001",)}, "it would call itself"),
    ],
)
def test_what_is_wrong_is_said_with_the_option_and_the_remedy(given: dict[str, object], said: str) -> None:
    (sentence,) = wrong(**given)
    assert said in sentence


def test_free_ports_are_nobodys_twin_and_an_app_on_another_host_is_no_circle() -> None:
    found = good(
        outbound=("127.0.0.1:0", "127.0.0.1:0"), inbound=("0.0.0.0:8080",), apps=("10.0.0.7:8080",), admin="127.0.0.1:0"
    )
    assert found.listeners == 3


def test_workers_may_be_one_a_core() -> None:
    assert checked(Given(("mesh/",), OUT, workers="auto"), cores=7).workers == 7
    assert good(workers="auto").workers >= 1


@pytest.mark.parametrize(
    ("limit", "most"), [("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2), ("max 100000", 99)]
)
def test_one_a_core_is_no_more_than_the_containers_cpu_limit_pays_for(tmp_path: Path, limit: str, most: int) -> None:
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    here = len(os.sched_getaffinity(0))
    assert usable_cores(str(tmp_path / "cpu.max")) == min(here, most)
    assert usable_cores(str(tmp_path / "none")) == here


def test_an_outbound_listener_that_others_can_reach_is_warned_of() -> None:
    (note,) = good(outbound=("0.0.0.0:15001",)).notes
    assert "calls in the name of this workload" in note
    assert good().notes == ()


def test_memory_is_given_in_mebibytes() -> None:
    assert good(max_memory=512).max_memory == 512 * 1024 * 1024
