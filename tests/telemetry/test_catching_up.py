"""Who has noted calls is asked to record them, before a scrape and at the end."""

from __future__ import annotations

import gc

from prometheus_client import CollectorRegistry, generate_latest

from meshlib.telemetry.catching_up import catch_up_before_scrapes, record_all


class Noting:
    asked = 0

    def catch_up(self) -> None:
        self.asked += 1


def test_a_scrape_asks_everybody_who_notes_in_its_registry() -> None:
    registry, other = CollectorRegistry(), CollectorRegistry()
    mine, too, elsewhere = Noting(), Noting(), Noting()
    for noting, where in ((mine, registry), (too, registry), (elsewhere, other)):
        catch_up_before_scrapes(where, noting)
    assert generate_latest(registry) == b"", "it has no metrics of its own"
    assert (mine.asked, too.asked, elsewhere.asked) == (1, 1, 0)


def test_the_end_of_a_process_asks_all() -> None:
    registry, other = CollectorRegistry(), CollectorRegistry()
    mine, elsewhere = Noting(), Noting()
    catch_up_before_scrapes(registry, mine)
    catch_up_before_scrapes(other, elsewhere)
    record_all()
    assert (mine.asked, elsewhere.asked) == (1, 1)


def test_who_is_gone_is_not_kept() -> None:
    registry = CollectorRegistry()
    noting = Noting()
    catch_up_before_scrapes(registry, noting)
    asked = noting.__dict__
    del noting
    gc.collect()
    generate_latest(registry)
    assert asked == {}
