"""HTTPMatchRequest -> CompiledMatch, or the reason why the block does not exist for this client.

gateways, port, sourceLabels and sourceNamespace are facts about the client and the listener, not about a request:
they are decided here, as istiod decides them when it writes a sidecar's routes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from meshlib.compiler.scope import IN_MESH
from meshlib.policy.http_match import CompiledMatch, HttpMatch
from meshlib.policy.regex import wire
from meshlib.policy.string_match import StringMatcher
from meshlib.workload import Workload

if TYPE_CHECKING:
    from meshlib.resources.types import StringMatch
    from meshlib.resources.virtual_service import HttpMatchRequest, L4MatchAttributes, TlsMatchAttributes


_OF_CLIENT = frozenset(("gateways", "port", "source_labels", "source_namespace"))


def not_for_client(
    match: HttpMatchRequest | TlsMatchAttributes | L4MatchAttributes,
    workload: Workload,
    port: int,
    gateway: Collection[str] = IN_MESH,
) -> str | None:
    """Why this match block can never apply to ``workload`` calling ``port`` (or to requests at ``gateway``, which is all the
    ways to write its name); None when it can."""
    if match.model_fields_set.isdisjoint(_OF_CLIENT):
        return None
    if match.gateways and not any(name in gateway for name in match.gateways):
        return f"only for gateways {', '.join(match.gateways)}"
    if match.port and match.port != port:
        return f"only for port {match.port}, this is port {port}"
    if match.gateways:  # Istio: with gateways given, sourceLabels and sourceNamespace are ignored
        return None
    for key, value in (match.source_labels or {}).items():
        have = workload.labels.get(key)
        if have != value:
            return f"sourceLabels want {key}={value}, this workload has {have if have is not None else 'no ' + key}"
    if match.source_namespace and match.source_namespace != workload.namespace:
        return f"sourceNamespace wants {match.source_namespace}, this workload is in {workload.namespace}"
    return None


def compile_match(match: HttpMatchRequest) -> CompiledMatch:
    """The run-time part of a match block."""
    if match.is_path_only():
        return HttpMatch(uri=matcher(match.uri)).compile()
    return HttpMatch(
        name=match.name or "",
        stat_prefix=match.stat_prefix or "",
        uri=matcher(match.uri, ignore_case=bool(match.ignore_uri_case)),
        scheme=matcher(match.scheme),
        method=matcher(match.method),
        authority=matcher(match.authority),
        headers=_map(match.headers, lower=True),
        without_headers=_map(match.without_headers, lower=True),
        query_params=_map(match.query_params),
    ).compile()


def _map(matches: Mapping[str, StringMatch] | None, lower: bool = False) -> tuple[tuple[str, StringMatcher], ...]:
    if not matches:
        return ()
    return tuple(
        (wire(name.lower() if lower and name[:1] != "@" else name), matcher(match) or StringMatcher("present", ""))
        for name, match in matches.items()
    )


def matcher(match: StringMatch | None, ignore_case: bool = False) -> StringMatcher | None:
    """The condition of a StringMatch; None when there is none."""
    if match is None:
        return None
    if match.exact is not None:
        return StringMatcher("exact", match.exact, ignore_case)
    if match.prefix is not None:
        return StringMatcher("prefix", match.prefix, ignore_case)
    if match.regex is not None:
        # "*" is not a regular expression; where validation lets it through, Istio reads it as "is present"
        return StringMatcher("present", "") if match.regex == "*" else StringMatcher("regex", match.regex)
    return StringMatcher("present", "")
