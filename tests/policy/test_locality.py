"""Which priority and share an endpoint's place gives it."""

from __future__ import annotations

import pytest

from meshlib.policy.locality import LocalitySettings, Place, covers, place

HERE = Place("us/west/a", {"version": "v1", "tier": "gold"})


def at(*localities: str, **settings):
    client = settings.pop("client", HERE)
    failover = settings.pop("failover_on", True)
    return place([Place(x, {}) for x in localities], client, LocalitySettings(**settings), failover)


@pytest.mark.parametrize(
    ("pattern", "locality", "covered"),
    [
        ("*", "us/west/a", True),
        ("us", "us/west/a", True),
        ("us/*", "us/west/a", True),
        ("us/west", "us/west/a", True),
        ("us/west/*", "us/west/a", True),
        ("us/west/a", "us/west/a", True),
        ("us/west/b", "us/west/a", False),
        ("us/east/*", "us/west/a", False),
        ("eu", "us/west/a", False),
        ("us/west/a", "us/west", False),
    ],
)
def test_a_pattern_covers_what_its_parts_leave_open(pattern, locality, covered):
    assert covers(pattern, locality) is covered


def test_near_endpoints_go_before_far_ones():
    found = at("eu/x", "us/west/a", "us/east/a", "us/west/b")
    assert found.priorities == (3, 0, 2, 1)


def test_priorities_have_no_gaps():
    assert at("eu/x", "us/west/a").priorities == (1, 0)


def test_without_outlier_detection_nobody_is_set_back():
    found = at("eu/x", "us/west/a", failover_on=False)
    assert found.priorities == (0, 0)
    assert found.weights == (1.0, 1.0)  # a group a locality all the same


def test_locality_may_be_turned_off():
    found = place([Place("eu", {}), Place("us", {})], HERE, None, True)
    assert (found.priorities, found.groups) == ((0, 0), (0, 0))


def test_failover_names_the_region_that_is_next():
    found = at("eu/x", "asia/x", "us/west/a", failover=(("us", "asia"),))
    assert found.priorities == (2, 1, 0)
    assert at("eu/x", "asia/x", failover=(("other", "asia"),)).priorities == (0, 0)


def test_failover_priority_counts_labels_in_order():
    members = [
        Place("", {"version": "v1", "tier": "gold"}),
        Place("", {"version": "v1", "tier": "lead"}),
        Place("", {"version": "v2", "tier": "gold"}),
    ]
    found = place(members, HERE, LocalitySettings(failover_priority=("version", "tier")), True)
    assert found.priorities == (0, 1, 2)


def test_failover_priority_may_name_the_value_and_looks_at_topology():
    members = [Place("us/west", {"version": "v2"}), Place("eu/x", {"version": "v2"}), Place("us/west", {})]
    settings = LocalitySettings(failover_priority=("version=v2", "topology.kubernetes.io/region"))
    assert place(members, HERE, settings, True).priorities == (0, 1, 2)


def test_failover_priority_and_failover_count_together():
    members = [Place("eu/x", {"version": "v1"}), Place("asia/x", {"version": "v1"}), Place("us/west/a", {})]
    settings = LocalitySettings(failover_priority=("version",), failover=(("us", "asia"),))
    assert place(members, HERE, settings, True).priorities == (1, 0, 2)


def test_distribute_gives_weights_and_leaves_out_the_rest():
    found = at("us/west/a", "us/east/a", "eu/x", distribute=(("us/west/*", (("us/west/*", 80), ("us/east/*", 20))),))
    assert found.priorities == (0, 0, None)
    assert found.weights[:2] == (80.0, 20.0)


def test_a_weight_for_several_localities_is_shared_by_their_size():
    members = [Place("us/west/a", {}), Place("us/west/b", {}), Place("us/west/b", {}), Place("us/east/a", {})]
    settings = LocalitySettings(distribute=(("us/*", (("us/west/*", 90), ("us/east/*", 10))),))
    found = place(members, HERE, settings, True)
    assert [found.weights[group] for group in found.groups] == [30.0, 60.0, 60.0, 10.0]


def test_the_first_from_that_covers_the_client_counts():
    settings = LocalitySettings(distribute=(("eu/*", (("eu/*", 100),)), ("us/*", (("us/east/*", 100),))))
    found = place([Place("us/west/a", {}), Place("us/east/a", {})], HERE, settings, True)
    assert found.priorities == (None, 0)


def test_a_client_that_no_from_covers_gets_everything():
    found = at("us/west/a", "eu/x", distribute=(("asia/*", (("asia/*", 100),)),))
    assert found.priorities == (0, 0)


def test_weights_of_endpoints_add_up_to_that_of_their_locality():
    members = [Place("us/west/a", {}, 3), Place("us/west/a", {}, 2), Place("us/west/b", {}, 1)]
    assert place(members, HERE, LocalitySettings(), False).weights == (5.0, 1.0)


@pytest.mark.parametrize(
    ("label", "there", "here", "same"),
    [
        ("topology.kubernetes.io/region", "us/x/y", "us/west/a", True),
        ("topology.kubernetes.io/region", "eu/west/a", "us/west/a", False),
        ("topology.kubernetes.io/zone", "eu/west/b", "us/west/a", True),
        ("topology.kubernetes.io/zone", "us/east/a", "us/west/a", False),
        ("topology.istio.io/subzone", "eu/east/a", "us/west/a", True),
        ("topology.istio.io/subzone", "us/west/b", "us/west/a", False),
        ("topology.istio.io/subzone", "us/west", "us/west", False),  # what nobody has is not shared
    ],
)
def test_labels_of_topology_are_read_from_where_an_endpoint_is(label, there, here, same):
    settings = LocalitySettings(failover_priority=(label,))
    members = [Place(there, {}), Place("", {label: "elsewhere"})]
    assert place(members, Place(here, {}), settings, True).priorities == ((0, 1) if same else (0, 0))


def test_the_network_is_an_endpoints_own_and_a_label_says_more():
    settings = LocalitySettings(failover_priority=("topology.istio.io/network",))
    members = [
        Place("", {}, network="n1"),
        Place("", {}, network="n2"),
        Place("", {}),
        Place("", {"topology.istio.io/network": "n1"}, network="n2"),
    ]
    assert place(members, Place("", {}, network="n1"), settings, True).priorities == (0, 1, 1, 0)
    assert place(members, Place("", {}), settings, True).priorities == (0, 0, 0, 0)


def test_labels_count_before_places():
    """Sharing fewer labels is farther than any place."""
    settings = LocalitySettings(failover_priority=("version",), failover=(("us", "asia"),))
    members = [
        Place("eu/x", {"version": "v1"}),
        Place("us/west/a", {"version": "v2"}),
        Place("us/west/a", {"version": "v1"}),
    ]
    assert place(members, HERE, settings, True).priorities == (1, 2, 0)


def test_a_group_is_a_locality_in_a_priority_and_without_locality_there_is_one():
    found = at("us/west/a", "eu/x", "us/west/a", "eu/x")
    assert (found.priorities, found.groups, found.weights) == ((0, 1, 0, 1), (0, 1, 0, 1), (2.0, 2.0))
    off = place([Place("eu", {}), Place("us", {})], HERE, None, False)
    assert (off.groups, off.weights) == ((0, 0), (2.0,))


def test_what_distribute_leaves_out_has_no_weight_and_weights_of_endpoints_share_it():
    members = [Place("us/west/a", {}, 3), Place("us/west/b", {}, 1), Place("us/west/b", {}, 2), Place("eu", {}, 9)]
    settings = LocalitySettings(distribute=(("*", (("us/*", 60),)),))
    found = place(members, HERE, settings, True)
    assert found.priorities == (0, 0, 0, None)
    assert [found.weights[group] for group in found.groups] == [30.0, 30.0, 30.0, 0.0]


def test_regions_that_no_failover_names_are_as_far_as_each_other():
    assert at("eu/x", "asia/x", "us/east", "us/west/a").priorities == (2, 2, 1, 0)
