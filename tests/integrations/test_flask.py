"""meshlib_flask: what a Flask application and its views get of the mesh."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import Any

import pytest
from flask import Blueprint, Flask, jsonify, request, stream_with_context
from flask.views import MethodView
from meshlib_flask import Mesh, current_caller, current_claims, limit, requires
from prometheus_client import CollectorRegistry
from werkzeug.exceptions import Forbidden, HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

import meshlib
from meshlib.problems import MeshError
from meshlib.testing import as_caller
from meshlib.transport.core import shared_limits
from tests.support.fake_clock import FakeClock
from tests.support.inbound_policies import authorization_policy, on_paths
from tests.support.protection import protection

OPS = "cluster.local/ns/default/sa/ops"
WEB = "cluster.local/ns/shop/sa/web"
TOKEN = {"iss": "https://idp", "sub": "ann", "groups": ["staff", "admins"], "scope": "read"}


class Served:
    def __init__(self, *resources: dict[str, Any]) -> None:
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.mesh = meshlib.Mesh.from_resources(resources, registry=self.registry, clock=self.clock)
        self.app = Flask("shop")
        Mesh(self.app, self.mesh)
        self.called: list[str] = []

    def get(self, path: str = "/", method: str = "GET", headers: Any = None, **caller: Any) -> Any:
        return as_caller(self.app, **caller).test_client().open(path, method=method, headers=headers, buffered=True)

    def counted(self) -> dict[tuple[str, str], float]:
        found: dict[tuple[str, str], float] = {}
        for family in self.registry.collect():
            for sample in family.samples:
                if sample.name == "istio_requests_total":
                    key = (sample.labels["response_code"], sample.labels["response_flags"])
                    found[key] = found.get(key, 0) + sample.value
        return found


@pytest.fixture
def served():
    made = Served()
    with made.mesh:
        yield made


class TestWhoCalls:
    @pytest.fixture(autouse=True)
    def whoami(self, served):
        @served.app.get("/whoami")
        def whoami():
            return {
                "caller": str(current_caller),
                "namespace": current_caller.namespace,
                "account": current_caller.service_account,
                "domain": current_caller.trust_domain,
                "claims": dict(current_claims),
            }

    def test_the_caller_with_its_identity(self, served):
        assert served.get("/whoami", principal=OPS).json == {
            "caller": f"spiffe://{OPS}",
            "namespace": "default",
            "account": "ops",
            "domain": "cluster.local",
            "claims": {},
        }

    def test_a_caller_without_one_is_nobody(self, served):
        wanted = {"caller": "", "namespace": "", "account": "", "domain": "", "claims": {}}
        headers = {"x-forwarded-client-cert": f"URI=spiffe://{OPS}", "meshlib.testing.caller": OPS}
        assert served.app.test_client().get("/whoami", headers=headers).json == wanted

    def test_the_claims_of_its_token(self, served):
        assert served.get("/whoami", claims=TOKEN).json["claims"] == TOKEN

    def test_streams_know_it_at_each_piece(self, served):
        @served.app.get("/stream")
        def stream():
            def pieces():
                yield str(current_caller)
                yield "|"
                yield str(current_claims.get("sub"))

            return served.app.response_class(pieces())

        @served.app.get("/context")
        def context():
            def pieces():
                yield f"{current_caller} {request.path}"

            return served.app.response_class(stream_with_context(pieces()))

        assert served.get("/stream", principal=OPS, claims=TOKEN).text == f"spiffe://{OPS}|ann"
        assert served.get("/context", principal=OPS).text == f"spiffe://{OPS} /context"

    def test_outside_of_requests_and_without_the_extension_it_says_what_to_do(self, served):
        with pytest.raises(MeshError, match=r"call Mesh\(app, mesh\)"):
            str(current_caller)
        bare = Flask("bare")
        bare.add_url_rule("/", view_func=lambda: str(current_caller))
        bare.testing = True
        with pytest.raises(MeshError, match=r"call Mesh\(app, mesh\)"):
            bare.test_client().get("/")


class TestTheExtension:
    def test_a_factory_of_applications_puts_each_in_once(self, served):
        extension = Mesh(port=8080)
        with pytest.raises(MeshError, match="which mesh"):
            extension.init_app(Flask("a"))
        for name in ("a", "b"):
            app = Flask(name)
            extension.init_app(app, served.mesh)
            app.add_url_rule("/", view_func=lambda: str(served.mesh.inbound().port))
            assert app.test_client().get("/").text == "8080"
            with app.app_context():
                assert extension.mesh is served.mesh
            with pytest.raises(MeshError, match="already"):
                Mesh(app, served.mesh)
        with pytest.raises(MeshError, match="not in a mesh"):
            extension.mesh

    def test_calls_are_counted_and_errors_of_views_are_flasks(self, served):
        served.app.add_url_rule("/", view_func=lambda: "hello")
        served.app.add_url_rule("/raise", "raise", lambda: 1 / 0)
        assert served.get("/").text == "hello"
        assert served.get("/raise").status_code == 500
        assert served.get("/nowhere").status_code == 404
        assert served.get("/", method="HEAD").data == b""
        assert served.counted() == {("200", "-"): 2, ("500", "-"): 1, ("404", "-"): 1}

    def test_a_closed_mesh_serves_nothing(self, served):
        served.app.add_url_rule("/", view_func=lambda: "hello")
        served.mesh.close()
        assert served.get("/").status_code == 503

    def test_a_proxy_fix_around_it_is_not_believed_about_the_peer(self, served):
        served.app.add_url_rule("/", view_func=lambda: f"{served.mesh.inbound().source_ip} {request.remote_addr}")
        served.app.wsgi_app = ProxyFix(served.app.wsgi_app)
        response = served.app.test_client().get("/", headers={"x-forwarded-for": "6.6.6.6"})
        assert response.text == "127.0.0.1 6.6.6.6"


class TestPolicies:
    @pytest.fixture
    def served(self):
        made = Served(
            authorization_policy("no-secret", "DENY", on_paths("/secret", "/items/7", "/api/secret")),
        )
        with made.mesh:
            yield made

    @pytest.fixture(autouse=True)
    def views(self, served):
        api = Blueprint("api", __name__)

        @served.app.get("/secret")
        @api.get("/secret")
        def secret():
            served.called.append("secret")
            return "secret"

        @served.app.get("/items/<int:item>")
        def item(item):
            served.called.append(f"item {item}")
            return str(item)

        @served.app.get("/any/<path:rest>")
        def anything(rest):
            return rest

        served.app.register_blueprint(api, url_prefix="/api")

    @pytest.mark.parametrize(
        "path", ["/secret", "/%73ecret", "/x/../secret", "/secret?a", "/items/7", "/api/secret", "/api%2Fsecret"]
    )
    def test_what_is_forbidden_is_not_served_in_any_spelling(self, served, path):
        response = served.get(path)
        assert (response.status_code, response.data) == (403, b"RBAC: access denied")
        assert served.called == []

    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    @pytest.mark.parametrize("path", ["/items/07", "/items/007", "/items/0000007"])
    def test_what_the_router_reads_as_a_forbidden_path_is_refused_by_the_apps_own_handlers(self, served, path, method):
        @served.app.errorhandler(403)
        def forbidden(error):
            return jsonify(mine=error.description), 403

        response = served.get(path, method)
        assert response.status_code == 403  # before a 405, too
        if method != "HEAD":
            assert response.json == {"mine": "RBAC: access denied"}
        assert served.called == []
        assert served.get("/items/08").text == "8"

    def test_a_handler_of_http_exceptions_gets_it_too_and_without_one_there_is_werkzeugs_page(self, served):
        seen = []

        @served.app.errorhandler(HTTPException)
        def any_error(error):
            seen.append(error)
            return error

        text = served.get("/items/07").text
        assert "RBAC: access denied" in text
        (error,) = seen
        assert isinstance(error, Forbidden)
        assert "no-secret" not in str(error) + text  # whose rule it was is ours to know

    def test_before_request_functions_do_not_run_for_a_request_that_is_refused_after_routing(self, served):
        served.app.before_request(lambda: served.called.append("before"))
        assert served.get("/items/07").status_code == 403
        assert served.called == []

    @pytest.mark.parametrize("inside", [True, False])
    def test_a_path_that_a_middleware_has_rewritten_is_judged(self, served, inside):
        class Rewriting:
            def __init__(self, app):
                self.app = app

            def __call__(self, environ, start_response):
                environ["PATH_INFO"] = environ["PATH_INFO"].replace("/public", "/secret")
                return self.app(environ, start_response)

        if inside:
            app = Flask("other")
            app.add_url_rule("/secret", view_func=lambda: served.called.append("secret") or "secret")
            app.wsgi_app = Rewriting(app.wsgi_app)
            Mesh(app, served.mesh)
        else:
            app = served.app
            app.wsgi_app = Rewriting(app.wsgi_app)
        assert app.test_client().get("/public").status_code == 403
        assert served.called == []

    def test_a_mounted_application_is_judged_by_the_whole_path(self, served):
        assert served.app.test_client().get("/secret", base_url="http://localhost/api").status_code == 403
        assert served.app.test_client().get("/any/thing", base_url="http://localhost/api").status_code == 200

    def test_a_reload_counts_at_once(self, served):
        served.mesh.apply([])
        assert served.get("/secret").text == "secret"


class TestAllowing:
    def test_identity_opens_what_is_closed(self):
        policy = authorization_policy("ops", "ALLOW", on_paths("/admin*", principals=[OPS]))
        served = Served(policy)
        served.app.add_url_rule("/admin", view_func=lambda: "in")
        with served.mesh:
            assert served.get("/admin", principal=OPS).text == "in"
            for caller in ({}, {"principal": WEB}, {"claims": TOKEN}):
                assert served.get("/admin", **caller).status_code == 403
            assert served.get("/", principal=OPS).status_code == 403


class Ordered:
    """Ways of writing a view with a rule."""

    @staticmethod
    def below(app, rule):
        @app.get("/")
        @rule
        def view():
            return "in"

    @staticmethod
    def above(app, rule):
        @rule
        @app.get("/")
        def view():
            return "in"

    @staticmethod
    def below_what_hides_it(app, rule):
        def hiding(view):
            return lambda: view()

        app.add_url_rule("/", "view", hiding(rule(lambda: "in")))

    @staticmethod
    def above_another(app, rule):
        def other(view):
            @functools.wraps(view)
            def wrapper():
                return view()

            return wrapper

        @rule
        @other
        @app.get("/")
        @other
        def view():
            return "in"

    @staticmethod
    def of_a_method(app, rule):
        class Views:
            def get(self):
                return "in"

        view = Views().get
        app.add_url_rule("/", "view", view)
        rule(view)

    @staticmethod
    def of_a_class(app, rule):
        class Views(MethodView):
            decorators = (rule,)

            def get(self):
                return "in"

        app.add_url_rule("/", view_func=Views.as_view("view"))

    @staticmethod
    def of_a_function_of_a_class(app, rule):
        class Views(MethodView):
            @rule
            def get(self):
                return "in"

        app.add_url_rule("/", view_func=Views.as_view("view"))

    @staticmethod
    def of_a_blueprint(app, rule):
        blueprint = Blueprint("b", __name__)
        blueprint.before_request(rule)
        blueprint.add_url_rule("/", view_func=lambda: "in")
        app.register_blueprint(blueprint)

    @staticmethod
    def of_the_application(app, rule):
        app.before_request(rule)
        app.add_url_rule("/", "view", lambda: "in")


WAYS = [value for name, value in vars(Ordered).items() if isinstance(value, staticmethod)]


class TestRequires:
    @pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__func__.__name__)
    def test_it_counts_however_it_is_written(self, served, way):
        way(served.app, requires(principal=OPS))
        assert served.get(principal=OPS).text == "in"
        assert served.get(principal=WEB).status_code == 403
        assert served.get().status_code == 403
        if way is not vars(Ordered)["of_the_application"]:
            assert served.get(method="HEAD").status_code == 403

    def test_all_that_is_said_must_hold_and_several_rules_too(self, served):
        @requires(namespace="shop")
        @served.app.get("/")
        @requires(principal=["*/sa/web", "*/sa/ops"])
        def view():
            return "in"

        assert served.get(principal=WEB).text == "in"
        assert served.get(principal=OPS).status_code == 403

    def test_who_needs_a_token_and_has_none_is_asked_for_one(self, served):
        @served.app.get("/")
        @requires(request_principal="https://idp/*", claims={"groups": "admins"})
        def view():
            return "in"

        assert served.get(claims=TOKEN).text == "in"
        response = served.get(principal=OPS)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert served.get(claims={**TOKEN, "groups": ["staff"]}).status_code == 403

    def test_its_refusals_go_through_the_apps_own_handlers(self, served):
        @served.app.get("/")
        @requires()
        def view():
            return "in"

        served.app.register_error_handler(403, lambda error: (f"mine: {error.description}", 403))
        assert served.get().text == "mine: RBAC: access denied"
        assert served.get(principal=OPS).text == "in"

    def test_flasks_own_response_to_options_is_nobodys_view(self, served):
        Ordered.below(served.app, requires(principal=OPS))
        response = served.get(method="OPTIONS")
        assert (response.status_code, response.allow) == (200, {"GET", "HEAD", "OPTIONS"})

    def test_a_view_that_is_a_coroutine_function_stays_one(self, served):
        @requires(principal=OPS)
        async def view():
            return "in"

        assert asyncio.iscoroutinefunction(view)

    def test_classes_and_what_cannot_be_marked_are_refused_where_they_are_written(self):
        with pytest.raises(TypeError, match="decorators"):
            requires()(type("Views", (MethodView,), {}))
        with pytest.raises(TypeError, match="is not a function"):
            requires()(len)

    @pytest.mark.parametrize("pattern", ["", "a*b", "**"])
    def test_a_pattern_that_is_none_is_refused_where_it_is_written(self, pattern):
        with pytest.raises(ValueError, match="not a valid pattern"):
            requires(principal=pattern)


class TestLimit:
    @pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__func__.__name__)
    def test_a_call_counts_once_however_it_is_written(self, served, way):
        way(served.app, limit("2/minute"))
        assert [served.get().status_code for _ in range(3)] == [200, 200, 429]
        served.clock.advance(30)
        assert [served.get().status_code for _ in range(2)] == [200, 429]

    def test_each_key_has_its_own_and_who_calls_too_often_hears_when_to_come_again(self, served):
        Ordered.below(served.app, limit("1 per 10 seconds", key="principal"))
        assert served.get(principal=OPS).status_code == 200
        assert served.get(principal=WEB).status_code == 200
        response = served.get(principal=WEB)
        assert (response.status_code, response.headers["retry-after"]) == (429, "10")
        assert served.counted()[("429", "RL")] == 1

    def test_views_share_what_is_one_limit(self, served):
        shared = limit("1/minute", key="all")
        for name in ("a", "b"):
            served.app.add_url_rule(f"/{name}", name, shared(lambda: "in"))
        assert [served.get(path).status_code for path in ("/a", "/b")] == [200, 429]

    @pytest.mark.parametrize(("rate", "more"), [("often", {}), ("1/minute", {"key": "anything"})])
    def test_a_rate_or_key_that_is_none_is_refused_where_it_is_written(self, rate, more):
        with pytest.raises(ValueError):
            limit(rate, **more)


def test_the_route_is_told_to_spans(served):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with meshlib.Mesh.from_resources([], registry=CollectorRegistry(), tracer_provider=provider) as mesh:
        app = Flask("spans")
        Mesh(app, mesh)
        app.add_url_rule("/items/<int:item>", view_func=lambda item: json.dumps(item))
        assert app.test_client().get("/items/7").text == "7"
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.attributes["http.route"]) == ("GET /items/<int:item>", "/items/<int:item>")


class TestLimitsByRoute:
    """Rate limits of a ResiliencePolicy with ``key: route``."""

    @pytest.fixture(params=["here", "in Redis"])
    def served(self, request, monkeypatch):
        in_memory = shared_limits.counting
        monkeypatch.setattr(shared_limits, "counting", lambda _url, clock: in_memory("memory://", clock))
        storage = {"redis": {"url": "redis://127.0.0.1:1"}, "timeout": "30s"}
        limit = {"key": "route", "requests": 1, "per": "1m"}
        if request.param == "in Redis":
            limit["storage"] = storage
        made = Served(protection(rateLimits=[limit]))
        blueprint = Blueprint("v1", "v1", url_prefix="/v1")
        for where in (made.app, blueprint):
            where.get("/items/<item>")(lambda item: made.called.append(item) or item)
        made.app.register_blueprint(blueprint)
        with made.mesh:
            yield made

    def test_each_route_has_a_bucket_of_its_own(self, served):
        found = [served.get(f"{route}/{n}").status_code for route in ("/items", "/v1/items") for n in (1, 2)]
        assert found == [200, 429, 200, 429]
        assert served.called == ["1", "1"]
        assert served.mesh.problems == []

    def test_a_wrong_method_counts_too_and_what_no_route_matches_does_not(self, served):
        assert [served.get("/items/1", "DELETE").status_code for _ in range(2)] == [405, 429]
        assert [served.get("/nowhere").status_code for _ in range(3)] == [404] * 3

    def test_a_refusal_goes_to_the_applications_own_handlers_and_is_counted(self, served):
        served.app.errorhandler(429)(lambda error: (f"slow down: {error.description}", 429))
        served.get("/items/1")
        assert served.get("/items/2").text.startswith("slow down")
        assert served.counted() == {("200", "-"): 1, ("429", "RL"): 1}
