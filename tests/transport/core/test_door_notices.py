"""What doors find out about the configuration in force: kept while it is, logged once."""

from __future__ import annotations

from meshlib.compiler.inbound_protection import Protection
from meshlib.transport.core.door_notices import DoorNotices

SHOP = Protection("ResiliencePolicy default/shop", where=("shop.yaml", 3, 5))


def test_it_says_where_the_policy_is_and_what_to_do(caplog):
    notices = DoorNotices()
    for _ in range(3):
        notices.say(SHOP, "some-code", "spec.inbound.x", "has no effect", "do that")
    (problem,) = notices.problems()
    assert str(problem) == "shop.yaml:3:5: notice: spec.inbound.x: has no effect [some-code]\n    hint: do that"
    assert [record.getMessage() for record in caplog.records] == [f"ResiliencePolicy default/shop: {problem}"]


def test_another_configuration_forgets_it_and_the_log_does_not(caplog):
    notices = DoorNotices()
    notices.say(SHOP, "some-code", "spec.inbound.x", "has no effect", "")
    notices.forget()
    assert notices.problems() == []
    notices.say(SHOP, "some-code", "spec.inbound.x", "has no effect", "")
    assert len(notices.problems()) == 1
    assert len(caplog.records) == 1
