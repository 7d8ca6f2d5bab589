"""The check of a server that looks for tokens: RequestAuthentication at work.

Like Envoy's ``jwt_authn`` as Istio configures it. Each rule looks for tokens where it says: none, and the rule has nothing
against the request; several, and all must be good. A request comes in when the tokens of one rule are good, whatever the others
say; or when no rule finds any, and then it has no claims. So a token that no rule takes is refused, never ignored.

Before that, a token that a RequestAuthentication may have looked at which cannot be read is refused, whatever other rules say.

A rule has nothing to wait for but keys. The check is a plain function while they are at hand, else a generator.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from meshlib.compiler.token_rules import TokenRule, TokenRules, UnreadTokens
from meshlib.engine.effects import Spawn
from meshlib.engine.let_in import ALWAYS
from meshlib.engine.verified_tokens import Verified, VerifiedTokens
from meshlib.policy.authorization.tokens import VerifiedClaims
from meshlib.policy.path_spellings import Normalization, path_spellings
from meshlib.policy.refusal import Refusal
from meshlib.policy.token_locations import Found, is_preflight, without_parameter
from meshlib.security.jws import NOT_VERIFIED, TokenRefused
from meshlib.security.jwt import AUDIENCE_NOT_ALLOWED, FETCH_FAILED, MISSING, UNKNOWN_ISSUER, Jwt
from meshlib.security.token_claims import claim_as_header, principal, split_claims

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.engine.check import Asking
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.engine.key_sets import HeldKeys, KeySets
    from meshlib.engine.let_in import LetIn
    from meshlib.security.jwk import KeySet

    Verdict: TypeAlias = "Admitted | Lacks | str"
    """A text: why the request is refused, in Envoy's words."""

NOT_MEANT = frozenset((MISSING, UNKNOWN_ISSUER))
"""What a rule says, whatever the time and its keys, of requests without a token or with somebody else's."""
LONGEST_REALM_PATH = 256
"""Characters, as in Envoy."""


class BoundRule:
    """A rule with its keys and the tokens that they verified. ``held`` None: the keys are the rule's own."""

    __slots__ = ("held", "rule", "tokens")

    def __init__(self, rule: TokenRule, held: HeldKeys | None) -> None:
        self.rule = rule
        self.held = held
        self.tokens = VerifiedTokens()

    def keys(self, now: float) -> KeySet | None:
        """The keys that count now, None: there are none yet, or none any more. ``now`` is monotonic."""
        return self.rule.keys if self.held is None else self.held.usable(now)


class Admitted:
    """By the tokens of ``rule``, each with where it was, the last one found first; ``others``: what the rules before it had
    against the request. Without a rule: no token, nobody known."""

    __slots__ = ("others", "rule", "tokens")

    def __init__(
        self, rule: BoundRule | None, tokens: Sequence[tuple[Found, Verified]], others: Collection[str] = ()
    ) -> None:
        self.rule = rule
        self.tokens = tokens
        self.others = frozenset(others)


class Lacks:
    """It cannot be decided without the keys of this source, which are to be fetched."""

    __slots__ = ("held",)

    def __init__(self, held: HeldKeys) -> None:
        self.held = held


ANONYMOUS = Admitted(None, ())


def fresh_keys(held: HeldKeys, clock: Clock) -> KeySet | None:
    """The keys of a source, None when they should be fetched first, or again."""
    now = clock.monotonic()
    return None if held.due(now) else held.usable(now)


class Usual:
    """The rule and the header of a server that looks for tokens in one header only: one that was verified before is let in by a
    look. ``parameters``: also in the query, if there is one."""

    __slots__ = ("_clock", "forward", "held", "kept", "keys", "length", "name", "parameters", "prefix")

    def __init__(self, bound: BoundRule, name: str, prefix: str, clock: Clock) -> None:
        self._clock = clock
        self.name = name
        self.prefix = prefix
        self.length = len(prefix)
        self.held = bound.held
        self.keys = bound.rule.keys
        self.kept = bound.tokens.kept
        self.forward = bound.rule.forward
        self.parameters = bool(bound.rule.locations.parameters)

    def is_good(self, kept: Verified) -> bool:
        """Whether a token that was verified before is so by the keys that count now, which need not be fetched again, and is
        valid at this time."""
        held = self.held
        if kept.keys is not (self.keys if held is None else fresh_keys(held, self._clock)):
            return False
        return kept.begins <= self._clock.time() < kept.ends

    def admit(self, request: InboundRequest, kept: Verified) -> None:
        """Let it in by this token."""
        if not self.forward:
            request.take_away(self.name)
        request.claims = kept.claims
        request.request_principal = kept.principal


class ByTokens:
    """Let in by tokens, for as long as all of them are good (``let_in.LetIn``)."""

    __slots__ = ("_begins", "_check", "_clock", "_ends", "_held", "_is_fresh", "_keys", "_verdict")

    def __init__(self, check: TokenCheck, clock: Clock, rule: BoundRule, verdict: Admitted) -> None:
        self._check = check
        self._clock = clock
        self._verdict = verdict
        tokens = [verified for _, verified in verdict.tokens]
        self._begins = max(token.begins for token in tokens)
        self._ends = min(token.ends for token in tokens)
        self._keys = tokens[0].keys
        self._held = rule.held
        self._is_fresh = all(token.keys is self._keys for token in tokens)

    def holds(self) -> bool:
        held = self._held
        if held is not None and fresh_keys(held, self._clock) is not self._keys:
            return False
        return self._is_fresh and self._begins <= self._clock.time() < self._ends

    def repeat(self, request: InboundRequest) -> None:
        self._check.settle(request, self._verdict)


class TokenCheck:
    """The check of one configuration. ``clock`` is the mesh's; ``normalization`` of paths is MeshConfig's."""

    at_once = True
    __slots__ = ("_clock", "_key_sets", "_normalization", "_outputs", "_rules", "_unread", "_usual", "rules")

    def __init__(self, rules: TokenRules, key_sets: KeySets, clock: Clock, normalization: Normalization) -> None:
        self.rules = rules
        self._key_sets = key_sets
        self._clock = clock
        self._normalization: Normalization = normalization
        self._outputs = tuple(sorted(rules.outputs))
        self._rules = tuple(
            BoundRule(rule, None if rule.source is None else key_sets.held(rule.source)) for rule in rules.rules
        )
        self._unread = rules.unread
        self._usual = None if rules.unread else _usual(self._rules, clock)

    def __call__(self, request: InboundRequest) -> Refusal | Asking | None:
        """Let the request in, with its claims, or refuse it; or wait for keys first."""
        if request.method == "OPTIONS" and is_preflight(request.header, request.method):
            self._strip(request)
            return None
        usual = self._usual  # None where there are rules that cannot be read
        if usual is not None:
            kept = self._kept(usual, request)
            if kept is not None:
                usual.admit(request, kept)
                return None
        for unread in self._unread:
            if unread.may_refuse(request):
                return _refusal_by_unread(request, unread, self._normalization)
        verdict = self._decide(request, ())
        if isinstance(verdict, Lacks) or self._is_stale(verdict):
            return self._asking(request, verdict)
        return self.settle(request, verdict)

    def rests_on(self, request: InboundRequest) -> LetIn | None:
        """On its tokens; on nothing more where it has none and needs none."""
        if request.method == "OPTIONS" or self._unread or self._outputs:
            return None
        verdict = self._decide(request, ())
        if not isinstance(verdict, Admitted):
            return None
        self.settle(request, verdict)  # who judges claims comes after
        if verdict.rule is None:
            return ALWAYS
        # a rule before it that had other reasons may have none later
        return ByTokens(self, self._clock, verdict.rule, verdict) if verdict.others <= NOT_MEANT else None

    def after_fork(self) -> None:
        """In a forked child."""
        for bound in self._rules:
            bound.tokens.after_fork()

    @staticmethod
    def _kept(usual: Usual, request: InboundRequest) -> Verified | None:
        """The token of a request where it is usual, and was verified before."""
        value = request.header(usual.name)
        if value is None or not value.startswith(usual.prefix) or (usual.parameters and request.query):
            return None
        kept = usual.kept(value[usual.length :])
        return kept if kept is not None and usual.is_good(kept) else None

    def _is_stale(self, verdict: Verdict) -> bool:
        """Whether the keys that let a request in should be fetched again."""
        if not isinstance(verdict, Admitted) or verdict.rule is None:
            return False
        held = verdict.rule.held
        return held is not None and held.due(self._clock.monotonic())

    def _asking(self, request: InboundRequest, verdict: Verdict) -> Asking:
        tried: set[str] = set()
        while isinstance(verdict, Lacks):
            tried.add(verdict.held.source.key)
            yield from self._key_sets.obtain(verdict.held)
            verdict = self._decide(request, tried)
        if isinstance(verdict, Admitted) and verdict.rule is not None and verdict.rule.held is not None:
            refresh = self._key_sets.begin_refresh(verdict.rule.held)
            if refresh is not None:
                yield Spawn(refresh)
        return self.settle(request, verdict)

    # -- deciding: changes nothing ------------------------------------------------------------------------------------

    def _decide(self, request: InboundRequest, tried: Collection[str]) -> Verdict:
        reasons: list[str] = []
        for bound in self._rules:
            found = bound.rule.locations.find(request, self.rules.outputs)
            if not found:
                reasons.append(MISSING)
                continue
            try:
                verified = self._all_good(bound, found, tried)
            except TokenRefused as refused:
                reasons.append(refused.reason)
                continue
            if isinstance(verified, Lacks):
                return verified
            return Admitted(bound, verified, reasons)
        against = [
            reason
            for reason, bound in zip(reasons, self._rules, strict=True)
            if reason != MISSING or bound.rule.required
        ]
        return _why([*reasons, against[0]]) if against else ANONYMOUS

    def _all_good(
        self, bound: BoundRule, found: Sequence[Found], tried: Collection[str]
    ) -> list[tuple[Found, Verified]] | Lacks:
        """All tokens that the rule finds, in Envoy's order: backwards. Raises ``TokenRefused``."""
        good = []
        for one in reversed(found):
            verified = self._good(bound, one.token, tried)
            if isinstance(verified, Lacks):
                return verified
            good.append((one, verified))
        return good

    def _good(self, bound: BoundRule, text: str, tried: Collection[str]) -> Verified | Lacks:
        """One token, seen before or not. Raises ``TokenRefused``."""
        keys = bound.keys(self._clock.monotonic())
        kept = bound.tokens.get(text, keys)
        if kept is not None:
            try:
                kept.token.check_times(self._clock.time())
            except TokenRefused:
                bound.tokens.forget(text)
                raise
            return kept
        rule, held = bound.rule, bound.held
        token = Jwt(text)
        token.check(rule.issuer, rule.audiences, self._clock.time())
        now = self._clock.monotonic()
        if keys is None:
            assert held is not None
            if held.source.key in tried or not held.may_fetch(now):
                raise TokenRefused(FETCH_FAILED)
            return Lacks(held)
        if held is not None and not keys.knows(token.kid) and held.source.key not in tried and held.may_look_again(now):
            return Lacks(held)
        token.verify(keys)
        verified = _verified(rule, token, keys)
        bound.tokens.keep(text, verified)
        return verified

    # -- acting -------------------------------------------------------------------------------------------------------

    def settle(self, request: InboundRequest, verdict: Verdict) -> Refusal | None:
        """What was decided, onto ``request``."""
        if isinstance(verdict, str):
            return _refusal(request, verdict, self._normalization)
        assert isinstance(verdict, Admitted)
        self._strip(request)
        bound = verdict.rule
        if bound is None:
            return None
        for one, verified in verdict.tokens:
            for name, value in verified.headers:
                request.add(name, value)
            if not bound.rule.forward:
                if one.header:
                    request.take_away(one.header)
                elif one.parameter:
                    request.retarget(without_parameter(request.query, one.parameter))
            request.claims = verified.claims
            request.request_principal = verified.principal
        return None

    def _strip(self, request: InboundRequest) -> None:
        """Headers that rules set are nobody else's: whoever sends one wants to be believed what no token says."""
        for name in self._outputs:
            request.take_away(name)


def _usual(rules: Sequence[BoundRule], clock: Clock) -> Usual | None:
    """That of a server that looks for tokens in one header only, and sets none."""
    if len(rules) != 1 or rules[0].rule.outputs or rules[0].rule.locations.cookies:
        return None
    headers = rules[0].rule.locations.headers
    return Usual(rules[0], *headers[0], clock) if len(headers) == 1 else None


def _verified(rule: TokenRule, token: Jwt, keys: KeySet) -> Verified:
    claims: Mapping[str, object] = token.claims
    headers = [(rule.payload_header, token.payload_text.encode("ascii"))] if rule.payload_header else []
    for path, name in rule.claim_headers:
        value = claim_as_header(claims, path)
        if value is not None:
            headers.append((name, value))
    return Verified(token, keys, VerifiedClaims(split_claims(claims, rule.split)), principal(claims), tuple(headers))


def _why(reasons: Sequence[str]) -> str:
    """The one reason of several that Envoy gives: the last that is more than a missing token or somebody else's."""
    found = MISSING
    for reason in reasons:
        if found == MISSING or reason not in (MISSING, UNKNOWN_ISSUER):
            found = reason
    return found


def _refusal_by_unread(request: InboundRequest, unread: UnreadTokens, normalization: Normalization) -> Refusal:
    refusal = _refusal(request, NOT_VERIFIED, normalization)
    return replace(
        refusal, detail=f"{refusal.detail} RequestAuthentication/{unread.resource} cannot be read: {unread.why}"
    )


def _refusal(request: InboundRequest, reason: str, normalization: Normalization) -> Refusal:
    path = path_spellings(request.path, normalization).normalized
    if request.query:
        path = f"{path}?{request.query}"
    realm = f'Bearer realm="{request.scheme}://{request.authority}{path[:LONGEST_REALM_PATH]}"'
    if reason != MISSING:
        realm += ', error="invalid_token"'
    return Refusal(
        403 if reason == AUDIENCE_NOT_ALLOWED else 401,
        reason,
        detail=f"jwt_authn_access_denied{{{'_'.join(reason.split())}}}",
        headers=((b"www-authenticate", realm.encode("latin-1", "replace")),),
    )
