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
