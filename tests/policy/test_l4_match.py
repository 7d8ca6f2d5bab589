"""Conditions of tls and tcp rules: server name and addresses."""

from __future__ import annotations

import pytest

from meshlib.policy.l4_match import L4Match, networks, sni_rank


@pytest.mark.parametrize(
    ("patterns", "name", "rank"),
    [
        (("a.test",), "a.test", 1 << 16),
        (("a.test",), "A.TEST", 1 << 16),
        (("a.test",), "b.test", -1),
        (("*",), "a.test", 0),
        (("*",), "", 0),
        (("*.test",), "a.test", 6),
        (("*.test",), "a.b.test", 6),
        (("*.test",), "test", -1),
        (("*.test",), "atest", -1),
        (("*", "*.test", "*.a.test"), "x.a.test", 8),
        (("*.a.test", "x.a.test"), "x.a.test", 1 << 16),
        ((), "a.test", -1),
    ],
)
def test_the_best_pattern_ranks_a_server_name(patterns, name, rank):
    assert sni_rank(patterns, name) == rank


def test_an_empty_block_fits_every_connection():
    assert L4Match()("", "", "")


@pytest.mark.parametrize(
    ("server_name", "destination", "source", "fits"),
    [
        ("a.test", "10.0.0.1", "192.168.1.1", True),
        ("b.test", "10.0.0.1", "192.168.1.1", False),
        ("a.test", "11.0.0.1", "192.168.1.1", False),
        ("a.test", "10.0.0.1", "192.168.2.1", False),
        ("a.test", "", "192.168.1.1", False),
        ("a.test", "10.0.0.1", "", False),
        ("a.test", "no address", "192.168.1.1", False),
    ],
)
def test_all_conditions_of_a_block_must_hold(server_name, destination, source, fits):
    block = L4Match(("a.test",), networks(["10.0.0.0/8"]), networks(["192.168.1.0/24"]))
    assert block(server_name, destination, source) is fits


@pytest.mark.parametrize(
    ("cidrs", "address", "inside"),
    [
        (["10.0.0.0/8", "fd00::/8"], "fd00::1", True),
        (["10.0.0.0/8"], "fd00::1", False),
        (["10.0.0.7"], "10.0.0.7", True),
        (["10.0.0.7"], "10.0.0.8", False),
        (["10.0.0.7/8"], "10.9.9.9", True),  # host bits mean nothing, as in Envoy
        (["fe80::1%eth0"], "fe80::1", True),
    ],
)
def test_one_network_of_several_is_enough_and_families_do_not_mix(cidrs, address, inside):
    assert L4Match(destinations=networks(cidrs))("", address) is inside


def test_what_is_no_network_is_refused():
    with pytest.raises(ValueError, match=r"10\.0\.0"):
        networks(["10.0.0.0/33"])


def test_a_star_fits_every_server_name_and_what_is_not_known_fits_no_condition():
    assert L4Match(("*",))("a.test")
    assert not L4Match(("a.test",))("")
    assert not L4Match(sources=networks(["0.0.0.0/0"]))("", "10.0.0.1")
