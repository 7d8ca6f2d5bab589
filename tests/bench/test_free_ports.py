import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys

import pytest

from meshlib.bench import free_ports


def test_a_port_is_not_given_twice_in_a_row_and_not_one_that_the_kernel_gives():
    ports = [free_ports.free_port() for _ in range(20)]
    assert len(set(ports)) == 20
    assert all(free_ports.FIRST <= port < free_ports.LAST for port in ports)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.3", "0.0.0.0"])
def test_a_port_in_use_on_any_address_is_passed_over(address, monkeypatch):
    port = free_ports.free_port()
    monkeypatch.setattr(free_ports._of_this_process, "_ports", [port, port + 1])
    monkeypatch.setattr(free_ports._of_this_process, "_asked", itertools.count())
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as Envoy and gRPC listen
        sock.bind((address, port))
        sock.listen()
        assert free_ports.free_port() == port + 1
    assert free_ports.free_port() == port


def test_where_all_ports_of_a_process_are_in_use_it_takes_more(monkeypatch, tmp_path):
    monkeypatch.setattr(free_ports, "BLOCK", 2)
    monkeypatch.setattr(free_ports, "FIRST", 10_000)  # blocks of this test alone
    monkeypatch.setattr(free_ports, "LAST", 10_100)
    monkeypatch.setattr(free_ports, "LOCKS", tmp_path)
    ports = free_ports.Ports()
    with contextlib.ExitStack() as stack:
        given = []
        for _ in range(6):
            given.append(ports.free())
            server = stack.enter_context(socket.socket())
            server.bind(("127.0.0.1", given[-1]))
        assert len(set(given)) == 6
    for descriptor in ports.locked:
        os.close(descriptor)


def test_processes_have_no_port_in_common_while_they_live_whatever_their_tmpdir(tmp_path):
    code = (
        "from meshlib.bench.free_ports import BLOCK, free_port\n"
        "print([free_port() for _ in range(BLOCK)], flush=True)\n"
        "input()"
    )
    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", code],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, **tmpdir},
                )
            )
            for tmpdir in ({}, {}, {"TMPDIR": str(tmp_path)})
        ]
        given = [set(json.loads(child.stdout.readline())) for child in children] + [{free_ports.free_port()}]
        for child in children:
            child.communicate("\n", 30)
    assert len(set().union(*given)) == sum(len(ports) for ports in given)
    assert all(given)
