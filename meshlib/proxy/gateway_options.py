"""What the command line of ``meshlib proxy`` says of gateways, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from meshlib.compiler.gateway_model import GatewayChoice
from meshlib.proxy.places import TcpPlace, WrongPlace, listen_place

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_PORT = 65535


class Given(Protocol):
    """What was typed."""

    @property
    def gateways(self) -> Sequence[str]: ...
    @property
    def all_gateways(self) -> bool: ...
    @property
    def gateway_ports(self) -> Sequence[str]: ...
    @property
    def outbound(self) -> Sequence[str]: ...
    @property
    def inbound(self) -> Sequence[str]: ...
    @property
    def apps(self) -> Sequence[str]: ...


def gateway_choice(given: Given, wrong: list[str]) -> GatewayChoice | None:
    """Which Gateways are served, None: it is no gateway. What is wrong becomes sentences."""
    if not given.gateways and not given.all_gateways:
        if given.gateway_ports:
            wrong.append("--gateway-port is for gateways: give --gateway NAMESPACE/NAME, or --gateways, too")
        return None
    if given.gateways and given.all_gateways:
        wrong.append(
            "--gateway and --gateways are given: the one serves the Gateways that it names, the other all that select "
            "--labels; give one of them"
        )
    if given.outbound or given.inbound or given.apps:
        wrong.append(
            "--gateway is given together with --outbound, --inbound or --app: a gateway is a process of its own; start a "
            "second one for the application"
        )
    for name in given.gateways:
        namespace, _, short = name.partition("/")
        if not namespace or not short or "/" in short:
            wrong.append(f"--gateway {name}: write NAMESPACE/NAME, as in istio-system/public")
    return GatewayChoice(tuple(given.gateways))


def gateway_places(given: Given, wrong: list[str]) -> Mapping[int, TcpPlace]:
    """Where their ports are listened on; a host of "" is what the Gateway says."""
    found: dict[int, TcpPlace] = {}
    for text in given.gateway_ports:
        number, equals, where = text.partition("=")
        if not equals or not _is_port(number) or not where:
            wrong.append(f"--gateway-port {text}: write N=PORT or N=HOST:PORT, as in 80=8080 or 443=127.0.0.1:8443")
            continue
        if int(number) in found:
            wrong.append(f"--gateway-port {text}: where port {number} is listened on has been said before")
            continue
        if _is_port(where) or where == "0":
            found[int(number)] = TcpPlace("", int(where))
            continue
        try:
            found[int(number)] = listen_place(where)
        except WrongPlace as error:
            wrong.append(f"--gateway-port {text}: {error}")
    return found


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) <= MOST_PORT
