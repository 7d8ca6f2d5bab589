"""Envoy's local rate limit (``envoy.filters.http.local_ratelimit``): a bucket for all, and buckets of descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshlib.policy.rate_limit_actions import Descriptor
from meshlib.policy.token_bucket import MAX_KEYS, Limiter, Rate, Taken


@dataclass(frozen=True, slots=True)
class DescriptorBucket:
    """The rate of a descriptor; a value that is "" stands for any, each with a bucket of its own. ``shadow``: it never
    refuses."""

    entries: Descriptor
    rate: Rate
    shadow: bool = False

    def matches(self, descriptor: Descriptor) -> bool:
        """Whether a request's descriptor has the same keys, and the values that are given."""
        return len(descriptor) == len(self.entries) and all(
            key == wanted and (not value or value == found)
            for (wanted, value), (key, found) in zip(self.entries, descriptor, strict=True)
        )

    @property
    def dynamic(self) -> bool:
        """Whether there is a value that stands for any."""
        return any(not value for _, value in self.entries)


@dataclass(frozen=True, slots=True)
class LocalRateLimit:
    """``default`` is taken from by all requests, or, not ``always_default``, by those that no descriptor is about.
    Of a descriptor with open values at least ``max_dynamic`` buckets are kept. (Envoy keeps just so many, 20 unless it is told
    otherwise: who is limited comes back to a full bucket as soon as 20 others have come.)"""

    default: Rate | None
    descriptors: tuple[DescriptorBucket, ...] = ()
    always_default: bool = True
    max_dynamic: int = 20


class _Buckets:
    __slots__ = ("limiter", "settings", "slowness")

    def __init__(self, settings: DescriptorBucket, max_keys: int = MAX_KEYS) -> None:
        self.settings = settings
        self.slowness = -settings.rate.interval  # the longer from token to token, the earlier it is asked
        self.limiter = Limiter(settings.rate, max_keys)


class LocalLimiter:
    """One at work."""

    __slots__ = ("_default", "_exact", "_open", "settings")

    def __init__(self, settings: LocalRateLimit) -> None:
        self.settings = settings
        self._default = None if settings.default is None else Limiter(settings.default)
        self._exact: dict[Descriptor, _Buckets] = {}
        self._open: list[_Buckets] = []
        for bucket in settings.descriptors:
            if bucket.dynamic:
                self._open.append(_Buckets(bucket, max(MAX_KEYS, settings.max_dynamic)))
            else:
                self._exact.setdefault(bucket.entries, _Buckets(bucket))

    def take(
        self, descriptors: Sequence[tuple[Descriptor, int]], now: float, connection: str = ""
    ) -> tuple[bool, Taken | None]:
        """Whether a request with these descriptors may go on, and the bucket that it is told of, if any. Of the buckets that it
        takes from the slowest is the first, so that what is refused there takes nothing from others. ``connection``: where each
        has its own buckets."""
        found: list[tuple[_Buckets, str, int]] = []
        for descriptor, hits in descriptors:
            buckets = self._exact.get(descriptor)
            if buckets is not None:
                found.append((buckets, connection, hits))
                continue
            for buckets in self._open:
                if buckets.settings.matches(descriptor):
                    found.append((buckets, "\0".join((connection, *(value for _, value in descriptor))), hits))
                    break
        if len(found) > 1:
            found.sort(key=_slowest)
        told: Taken | None = None
        for buckets, key, hits in found:
            taken = buckets.limiter.take(key, now, hits)
            if not taken.allowed and not buckets.settings.shadow:
                return False, taken
            if told is None or (buckets is found[0][0] and key == found[0][1]):  # what is left there by now
                told = taken
        if self._default is not None and (not found or self.settings.always_default):
            taken = self._default.take(connection, now)
            if not taken.allowed:
                return False, taken
            told = taken if told is None else told
        return True, told

    def after_fork(self) -> None:
        """In a forked child."""
        for limiter in [buckets.limiter for buckets in (*self._exact.values(), *self._open)]:
            limiter.after_fork()
        if self._default is not None:
            self._default.after_fork()


def _slowest(found: tuple[_Buckets, str, int]) -> float:
    return found[0].slowness
