"""What Istio refuses, or warns of, in a ProxyConfig whose types are right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshlib.resources.notices import Notice, refused
from meshlib.resources.validation.selection import label_refusals, selector_warnings

if TYPE_CHECKING:
    from meshlib.resources.proxy_config import ProxyConfig


def refusals(resource: ProxyConfig) -> Iterator[Notice]:
    """Labels without wildcards, and a number of threads."""
    spec = resource.spec
    if spec.selector is not None:
        yield from label_refusals(spec.selector.match_labels, ("spec", "selector", "matchLabels"))
    if spec.concurrency is not None and spec.concurrency < 0:
        yield refused(
            "negative", ("spec", "concurrency"), f"{spec.concurrency} is negative", "0 is one thread for each core"
        )


def warnings(resource: ProxyConfig) -> Iterator[Notice]:
    """A selector of nothing."""
    selector = resource.spec.selector
    if selector is not None:
        yield from selector_warnings(selector.match_labels, ("spec", "selector"))
