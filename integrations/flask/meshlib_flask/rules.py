"""``requires`` and ``limit``: who may call a view, and how often, said at the view.

No order of decorators matters. A rule marks the function that it decorates (and those that this wraps), and the extension
looks for marks before a view is called, so a rule above ``@app.get`` counts too; and it wraps the function, so a rule below a
decorator that hides the function counts as well. What was asked once for a request is not asked again. A rule is the
function's: it counts at every path that the function is a view of.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from flask import g

from meshlib.engine.caller_rule import CallerRule, Patterns
from meshlib.engine.route_limit import RouteLimit
from meshlib.policy.token_bucket import MAX_KEYS
from meshlib_flask.current import current_call
from meshlib_flask.refused import refused

if TYPE_CHECKING:
    from meshlib.engine.inbound import InboundCall
    from meshlib.engine.route_limit import Key
    from meshlib.policy.refusal import Refusal

View = TypeVar("View", bound=Callable[..., Any])

MARK = "__meshlib_rules__"
"""The rules of a function, the innermost first."""
ASKED = "_meshlib_asked"


class Rule:
    """A decorator of views. Called without a view it asks at once: ``blueprint.before_request(requires(...))``."""

    def __init__(self, ask: Callable[[InboundCall], Refusal | None]) -> None:
        self._ask = ask

    @overload
    def __call__(self) -> None: ...
    @overload
    def __call__(self, view: View) -> View: ...
    def __call__(self, view: View | None = None) -> View | None:
        if view is None:
            self.check()
            return None
        if isinstance(view, type):
            raise TypeError("a class of views has its rules in `decorators = [...]`")
        self._mark(view)
        return self._wrapped(view)

    def _mark(self, view: object) -> None:
        """Mark the function, and each that it wraps: any of them may be the one that Flask knows."""
        function: object = getattr(view, "__func__", view)  # a bound method has no marks of its own
        try:
            setattr(function, MARK, (*getattr(function, MARK, ()), self))
        except AttributeError:
            raise TypeError(f"{view!r} is not a function that could be decorated") from None
        inner = getattr(function, "__wrapped__", None)
        if inner is not None:
            self._mark(inner)

    def _wrapped(self, view: View) -> View:
        if inspect.iscoroutinefunction(view):

            @functools.wraps(view)
            async def checked_async(*of: Any, **named: Any) -> Any:
                self.check()
                return await view(*of, **named)

            return cast("View", checked_async)

        @functools.wraps(view)
        def checked(*of: Any, **named: Any) -> Any:
            self.check()
            return view(*of, **named)

        return cast("View", checked)

    def check(self) -> None:
        """Ask once for the request that is being served. Raises ``Refused``."""
        asked = g.setdefault(ASKED, set())
        if self in asked:
            return
        asked.add(self)
        refusal = self._ask(current_call())
        if refusal is not None:
            raise refused(refusal)


def rules_of(view: object, method: str) -> Iterator[Rule]:
    """Those of a view and, of a class of views, of its function for this method; the outermost first."""
    yield from reversed(getattr(view, MARK, ()))
    views = getattr(view, "view_class", None)
    if views is not None:
        name = method.lower()
        function = getattr(views, name, None)
        if function is None and name == "head":
            function = getattr(views, "get", None)
        yield from reversed(getattr(function, MARK, ()))


def requires(
    *,
    principal: Patterns = (),
    namespace: Patterns = (),
    request_principal: Patterns = (),
    claims: Mapping[str, Patterns] | None = None,
) -> Rule:
    """A decorator that lets only matching callers in: ``@requires(principal="cluster.local/ns/shop/sa/web")``; for a blueprint:
    ``blueprint.before_request(requires(...))``. It narrows what the mesh's policies permit, and never widens it.

    Patterns are written as in AuthorizationPolicy: ``exact``, ``prefix*``, ``*suffix``, ``*``. Of several patterns one must
    match, and all arguments that are given must. ``principal`` is the SPIFFE ID of the caller's certificate, without
    ``spiffe://``; ``namespace`` the namespace in that ID; ``request_principal`` the ``issuer/subject`` of its token; ``claims``
    are claims of the token (for a list, any item may match). Without arguments, any caller with an identity is let in.

    A caller that needs a token and has sent none gets 401 with ``WWW-Authenticate: Bearer``, any other 403, through the
    application's own error handlers. Raises ValueError for patterns that are not valid.
    """
    rule = CallerRule(principal, namespace, request_principal, claims)
    return Rule(lambda call: rule.refusal(call.request))


def limit(rate: str, *, key: str | Key = "caller", max_keys: int = MAX_KEYS) -> Rule:
    """A decorator that limits how often each key may call: ``@limit("10/second")``. Views that have the same ``limit`` object
    share it; it counts per process.

    ``rate`` is ``"10/second"``, ``"100/minute"`` or ``"5 per 2 hours"``: a token bucket that starts full. ``key`` is
    ``"caller"`` (the SPIFFE ID, else the token's issuer and subject, else the peer's address), ``"principal"``,
    ``"request_principal"``, ``"source_ip"`` (the peer's address), ``"remote_ip"`` (what the nearest proxy wrote into
    X-Forwarded-For; without such a proxy the caller chooses it), ``"header:NAME"``, ``"all"`` (one bucket for everyone), or a
    function that takes ``mesh.inbound()`` and returns the key. Callers without a key share one bucket. At most ``max_keys``
    keys are remembered.

    A caller over the limit gets 429 with Retry-After, through the application's own error handlers. Raises ValueError for a
    rate or key that is not valid.
    """
    return Rule(RouteLimit(rate, key, max_keys).refusal)
