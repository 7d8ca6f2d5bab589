"""The first step of every call: virtual host and rule, as an ``Explanation`` that the exchange goes on to fill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.explanation import Explanation

if TYPE_CHECKING:
    from meshlib.compiler.snapshot import Snapshot
    from meshlib.policy.http_match import RequestView


def route(snapshot: Snapshot, view: RequestView) -> Explanation:
    """Which rule the request takes (``rule_object`` None: none matches)."""
    dialled, host, scheme = view.dialled, view.authority, view.scheme
    vhost = snapshot.seen.get((dialled, host, scheme)) or snapshot.virtual_host(dialled, scheme, host)
    rule = vhost.single
    if rule is None:
        found = vhost.index.find(view)
        if found >= 0:
            rule = vhost.rules[found]
    return Explanation(vhost, rule, snapshot.version)
