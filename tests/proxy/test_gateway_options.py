"""What the command line says of gateways."""

from __future__ import annotations

import pytest

from meshlib.compiler.gateway_model import GatewayChoice
from meshlib.proxy.gateway_options import gateway_choice, gateway_places
from meshlib.proxy.options import Given
from meshlib.proxy.places import TcpPlace


def choice(**given):
    wrong: list[str] = []
    return gateway_choice(Given(**given), wrong), wrong


def places(*texts):
    wrong: list[str] = []
    return gateway_places(Given(gateway_ports=texts), wrong), wrong


def test_gateways_are_named_or_selected():
    assert choice() == (None, [])
    assert choice(gateways=["ns/a", "ns/b"]) == (GatewayChoice(("ns/a", "ns/b")), [])
    assert choice(all_gateways=True) == (GatewayChoice(), [])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"gateways": ["a"]}, "--gateway a: write NAMESPACE/NAME"),
        ({"gateways": ["a/b/c"]}, "--gateway a/b/c: write NAMESPACE/NAME"),
        ({"gateways": ["a/b"], "all_gateways": True}, "give one of them"),
        ({"gateways": ["a/b"], "outbound": ["127.0.0.1:1"]}, "a gateway is a process of its own"),
        ({"gateway_ports": ["80=8080"]}, "--gateway-port is for gateways"),
    ],
)
def test_what_does_not_fit_is_a_sentence(given, says):
    (sentence,) = choice(**given)[1]
    assert says in sentence


def test_ports_are_listened_on_elsewhere():
    assert places("80=8080", "443=127.0.0.1:8443", "81=0", "82=[::1]:82") == (
        {
            80: TcpPlace("", 8080),
            443: TcpPlace("127.0.0.1", 8443),
            81: TcpPlace("", 0),
            82: TcpPlace("::1", 82),
        },
        [],
    )


@pytest.mark.parametrize("text", ["80", "=80", "80=", "x=80", "0=80", "70000=80", "80=host:80", "80=70000"])
def test_a_port_that_is_none_is_a_sentence(text):
    found, (sentence,) = places(text)
    assert found == {}
    assert sentence.startswith(f"--gateway-port {text}: ")


def test_a_port_is_said_once():
    assert places("80=1", "80=2")[1] == ["--gateway-port 80=2: where port 80 is listened on has been said before"]
