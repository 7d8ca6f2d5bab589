"""The blocks of an http rule -> the settings of the policies that act on its calls: cors, rewrite, redirect, direct response,
retries, fault."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING

from meshlib.compiler.matches import matcher
from meshlib.policy.cors import CorsPolicy
from meshlib.policy.fault import FaultPolicy
from meshlib.policy.regex import BadRegex, rewriter, wire
from meshlib.policy.retry import NO_RETRY, RetryPolicy, parse_retry_on
from meshlib.policy.rewrite import Redirect, Rewrite
from meshlib.policy.string_match import StringMatcher

if TYPE_CHECKING:
    from meshlib.resources import virtual_service as written
    from meshlib.resources.types import Percent


DEFAULT_RETRY = RetryPolicy()
HASHED_RETRY = RetryPolicy(ignore_previous_hosts=False)
"""Of routes of a VirtualService that hash: a retry goes where the key leads. Default routes keep the default, as in Istio."""


def cors_of(policy: written.CorsPolicy | None) -> CorsPolicy | None:
    """Of ``corsPolicy``; header values as they go over the wire."""
    if policy is None:
        return None
    origins = [StringMatcher("exact", origin) for origin in policy.allow_origin or ()]
    origins += [found for origin in policy.allow_origins or () if (found := matcher(origin)) is not None]
    return CorsPolicy(
        origins=tuple(origins),
        allow_methods=wire(",".join(policy.allow_methods or ())),
        allow_headers=wire(",".join(policy.allow_headers or ())),
        expose_headers=wire(",".join(policy.expose_headers or ())),
        max_age="" if policy.max_age is None else str(int(policy.max_age)),
        allow_credentials=bool(policy.allow_credentials),
        forward_unmatched=policy.unmatched_preflights != "IGNORE",
    )


def rewrite_of(rewrite: written.HttpRewrite | None) -> Rewrite | None:
    """Of ``rewrite``."""
    if rewrite is None:
        return None
    by_regex = rewrite.uri_regex_rewrite
    regex = None if by_regex is None else _rewriter(by_regex)
    return Rewrite(
        prefix=wire(rewrite.uri) if rewrite.uri else None,
        regex=regex,
        authority=rewrite.authority or "",
        by_regex=None if by_regex is None or regex is None else (by_regex.match or "", by_regex.rewrite or ""),
    )


def _rewriter(by_regex: written.RegexRewrite) -> Callable[[str], str] | None:
    """None, as RE2 leaves a path alone, for a substitution with groups that the expression lacks; a warning says so."""
    try:
        return rewriter(by_regex.match or "", by_regex.rewrite or "")
    except BadRegex:
        return None


def redirect_of(redirect: written.HttpRedirect | None, port: int) -> Redirect | None:
    """Of ``redirect``, on the port that is called."""
    if redirect is None:
        return None
    return Redirect(
        code=redirect.redirect_code or 301,
        uri=wire(redirect.uri or ""),
        prefix=wire(redirect.prefix_rewrite) if redirect.prefix_rewrite else None,
        authority=wire(redirect.authority or ""),
        scheme=redirect.scheme or "",
        port=port if redirect.derive_port == "FROM_REQUEST_PORT" else redirect.port or 0,
    )


def direct_of(response: written.DirectResponse | None) -> tuple[int, bytes] | None:
    """Of ``directResponse``: status and body."""
    if response is None:
        return None
    body = response.body
    if body is None:
        return response.status, b""
    if body.bytes_ is not None:
        return response.status, base64.b64decode(body.bytes_)
    return response.status, (body.string or "").encode()


def retry_of(retries: written.HttpRetry | None, default: RetryPolicy) -> RetryPolicy:
    """Of ``retries``; what it leaves unset is as in ``default``. Times in seconds; 0 attempts turn it off."""
    if retries is None:
        return default
    if not retries.attempts:
        return NO_RETRY
    backoff, ignore, remote = retries.backoff, retries.retry_ignore_previous_hosts, retries.retry_remote_localities
    return RetryPolicy(
        attempts=retries.attempts,
        retry_on=parse_retry_on(retries.retry_on) if retries.retry_on else default.retry_on,
        per_try_timeout=default.per_try_timeout if retries.per_try_timeout is None else retries.per_try_timeout,
        backoff_base=backoff or default.backoff_base,
        backoff_max=10 * backoff if backoff else default.backoff_max,
        ignore_previous_hosts=default.ignore_previous_hosts if ignore is None else ignore,
        remote_localities=default.remote_localities if remote is None else remote,
    )


def fault_of(fault: written.HttpFaultInjection | None) -> FaultPolicy | None:
    """Of ``fault``; None when neither delay nor abort can happen."""
    if fault is None:
        return None
    delay = abort = 0.0
    seconds, status, grpc_status = 0.0, 0, None
    if fault.delay is not None and fault.delay.fixed_delay:
        seconds = fault.delay.fixed_delay
        delay = percent_of(fault.delay.percentage)
    if fault.abort is not None:
        abort = percent_of(fault.abort.percentage)
        status = fault.abort.http_status or 0
        grpc_status = fault.abort.grpc_status
    if not delay and not abort:
        return None
    return FaultPolicy.from_percents(
        delay=seconds, delay_percent=delay, abort_status=status, abort_grpc_status=grpc_status, abort_percent=abort
    )


def percent_of(percentage: Percent | None) -> float:
    """0..100; 0 without a value, as protobuf reads it."""
    return 0.0 if percentage is None else percentage.value or 0.0
