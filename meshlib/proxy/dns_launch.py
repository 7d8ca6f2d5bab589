"""From the options of ``--dns-capture`` to what tells names: sockets, resolvers, a server for each worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from meshlib.problems import MeshError
from meshlib.proxy.dns_server import DnsServer, DnsSockets
from meshlib.proxy.dns_sockets import dns_listening, unreachable
from meshlib.proxy.dns_upstream import Resolvers
from meshlib.proxy.resolv_conf import ResolvConf, read

if TYPE_CHECKING:
    from meshlib.proxy.options import DnsOptions
    from meshlib.transport.core.mesh_core import MeshCore


class Dns(NamedTuple):
    """Of one worker."""

    sockets: DnsSockets
    part: Callable[[MeshCore], DnsServer]


def check_dns(options: DnsOptions) -> ResolvConf:
    """What resolv.conf says, less the port itself. Raises ``MeshError``."""
    found = read(options.resolv_conf)
    others = [server for server in found.servers if not _is_itself(server, options.port)]
    if not others:
        raise MeshError(
            f"--dns-capture: the resolver that {options.resolv_conf} names is this port itself: say --resolv-conf where the "
            "file is that names the others"
        )
    return ResolvConf(tuple(others), found.search)


def dns_of(options: DnsOptions, workers: int, *, share: bool) -> Sequence[Dns]:
    """Listening already, for each worker. Raises ``MeshError``."""
    said = check_dns(options)

    def of(sockets: DnsSockets) -> Dns:
        return Dns(sockets, lambda core: DnsServer(sockets, core, said.search, Resolvers(said.servers), unreachable))

    return [of(sockets) for sockets in dns_listening(options.port, workers, share=share)]


def _is_itself(server: tuple[str, int], port: int) -> bool:
    host, asked = server
    return asked == port and (host == "::1" or host.startswith("127."))
