"""From the options of ``--dns-capture`` to what tells names."""

from __future__ import annotations

import pytest

from meshlib.problems import MeshError
from meshlib.proxy.dns_launch import check_dns, dns_of
from meshlib.proxy.options import DnsOptions


def conf(tmp_path, text: str) -> str:
    path = tmp_path / "resolv.conf"
    path.write_text(text)
    return str(path)


def test_the_port_itself_is_no_resolver(tmp_path):
    path = conf(tmp_path, "nameserver 127.0.0.1\nnameserver ::1\nnameserver 10.0.0.1\n")
    assert check_dns(DnsOptions(53, path)).servers == (("10.0.0.1", 53),)
    assert len(check_dns(DnsOptions(15053, path)).servers) == 3


def test_where_there_is_no_other_it_is_told(tmp_path):
    path = conf(tmp_path, "nameserver 127.0.0.1\n")
    with pytest.raises(MeshError, match="is this port itself: say --resolv-conf"):
        check_dns(DnsOptions(53, path))


def test_each_worker_has_its_own(tmp_path):
    made = dns_of(DnsOptions(0, conf(tmp_path, "nameserver 10.0.0.1\n")), 2, share=False)
    try:
        assert made[0].sockets.address == made[1].sockets.address
        assert made[0].sockets is not made[1].sockets
    finally:
        for each in made:
            each.sockets.close()
