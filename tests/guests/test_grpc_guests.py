"""What is built on grpcio: google-cloud-tasks, grpcio-status, grpcio-reflection, grpcio-health-checking."""

from __future__ import annotations

import contextlib
from concurrent import futures

import grpc
import pytest

import meshlib
from tests.support.grpc_echo import SERVICE, Echo, stubs
from tests.support.grpc_runtimes import HOST, TARGET, entry, quick
from tests.support.resources import destination_rule, to, virtual_service

BY_THE_RULE = ("x-by-the-rule", "yes")


class Noted(grpc.ServerInterceptor):
    """``seen``: method and metadata of each call; the first ``refuse`` of them are UNAVAILABLE."""

    def __init__(self):
        self.seen, self.refuse = [], 0

    def intercept_service(self, continuation, details):
        self.seen.append((details.method, dict(details.invocation_metadata)))
        self.refuse -= 1
        if self.refuse < 0:
            return continuation(details)

        def busy(_request, context):
            context.abort(grpc.StatusCode.UNAVAILABLE, "busy")

        return grpc.unary_unary_rpc_method_handler(busy)


@contextlib.contextmanager
def around(add):
    """A mesh with two servers, of which the rule takes the second; ``add(server)`` adds its services."""
    noted, servers = (Noted(), Noted()), []
    for each in noted:
        server = grpc.server(futures.ThreadPoolExecutor(4), interceptors=[each])
        add(server)
        servers.append((server, server.add_insecure_port("127.0.0.1:0")))
        server.start()
    (one, port), (two, other) = servers
    rule = {
        "route": [to(HOST, "v2")],
        "headers": {"request": {"set": dict([BY_THE_RULE])}},
        "retries": quick("unavailable", 2),
    }
    resources = [
        entry(("127.0.0.1", port, "v1"), ("127.0.0.1", other, "v2")),
        destination_rule(HOST, "v1", "v2"),
        virtual_service("echo", rule, hosts=[HOST]),
    ]
    try:
        with meshlib.Mesh.from_resources(resources) as mesh:
            yield mesh, noted[1]
        assert noted[0].seen == []
        assert {seen.get(BY_THE_RULE[0]) for _, seen in noted[1].seen} == {"yes"}
    finally:
        for stopped in [one.stop(None), two.stop(None)]:
            stopped.wait()


# -- google-cloud-tasks -----------------------------------------------------------------------------------------------


def add_tasks(server):
    """Its methods as the client's transport names them; the fake makes what it is asked to make."""
    from google.cloud import tasks_v2

    def create(request, _context):
        return tasks_v2.Task.pb(tasks_v2.Task(name=f"{request.parent}/tasks/1"))

    def listed(request, _context):
        names = [f"{request.parent}/tasks/{number}" for number in ((1, 2) if not request.page_token else (3,))]
        more = "more" if not request.page_token else ""
        tasks = [tasks_v2.Task(name=name) for name in names]
        return tasks_v2.ListTasksResponse.pb(tasks_v2.ListTasksResponse(tasks=tasks, next_page_token=more))

    def handler(behave, kind):
        return grpc.unary_unary_rpc_method_handler(
            behave, kind.pb(kind()).FromString, lambda message: message.SerializeToString()
        )

    methods = {
        "CreateTask": handler(create, tasks_v2.CreateTaskRequest),
        "ListTasks": handler(listed, tasks_v2.ListTasksRequest),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("google.cloud.tasks.v2.CloudTasks", methods)])


QUEUE = "projects/p/locations/l/queues/q"


def test_google_cloud_tasks():
    tasks = pytest.importorskip("google.cloud.tasks_v2", reason="make guests")
    from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

    with around(add_tasks) as (mesh, noted):
        noted.refuse = 1
        with tasks.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=mesh.grpc_channel(TARGET))) as client:
            made = client.create_task(parent=QUEUE, task=tasks.Task(), timeout=20)
            assert made.name == f"{QUEUE}/tasks/1"
            assert [seen["x-envoy-attempt-count"] for _, seen in noted.seen] == ["1", "2"]
            assert len(list(client.list_tasks(parent=QUEUE, timeout=20))) == 3
        assert noted.seen[-1][1]["x-goog-request-params"] == "parent=projects/p/locations/l/queues/q"


async def test_google_cloud_tasks_on_asyncio():
    tasks = pytest.importorskip("google.cloud.tasks_v2", reason="make guests")
    from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport

    with around(add_tasks) as (mesh, noted):
        noted.refuse = 1
        channel = mesh.aio_grpc_channel(TARGET)
        client = tasks.CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))
        made = await client.create_task(parent=QUEUE, task=tasks.Task(), timeout=20)
        assert made.name == f"{QUEUE}/tasks/1"
        assert [seen["x-envoy-attempt-count"] for _, seen in noted.seen] == ["1", "2"]
        assert len([task async for task in await client.list_tasks(parent=QUEUE, timeout=20)]) == 3
        await channel.close()


# -- grpcio-status ----------------------------------------------------------------------------------------------------


def add_details(server):
    from google.protobuf.any_pb2 import Any
    from google.rpc import code_pb2, error_details_pb2, status_pb2
    from grpc_status import rpc_status

    class WithDetails(Echo):
        def Unary(self, request, context):
            detail = Any()
            detail.Pack(error_details_pb2.ErrorInfo(reason="TOO_MUCH", domain="test"))
            status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED, message="too much", details=[detail])
            context.abort_with_status(rpc_status.to_status(status))

    stubs.add_EchoServicer_to_server(WithDetails("details"), server)


def reason_of(error):
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return status.message, info.reason


def test_grpcio_status():
    pytest.importorskip("grpc_status", reason="make guests")
    from tests.support.grpc_echo import Message

    with around(add_details) as (mesh, _noted), mesh.grpc_channel(TARGET) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            stubs.EchoStub(channel).Unary(Message(), timeout=20)
        assert reason_of(raised.value) == ("too much", "TOO_MUCH")


async def test_grpcio_status_on_asyncio():
    pytest.importorskip("grpc_status", reason="make guests")
    from grpc_status import rpc_status

    from tests.support.grpc_echo import Message

    with around(add_details) as (mesh, _noted):
        async with mesh.aio_grpc_channel(TARGET) as channel:
            call = stubs.EchoStub(channel).Unary(Message(), timeout=20)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert rpc_status.aio.from_call.__module__.startswith("grpc_status")
            assert (await rpc_status.aio.from_call(call)).message == "too much"
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_error_of_the_mesh_has_no_details_and_breaks_nothing():
    pytest.importorskip("grpc_status", reason="make guests")
    from grpc_status import rpc_status

    from tests.support.grpc_echo import Message

    with meshlib.Mesh.from_resources([entry()]) as mesh, mesh.grpc_channel(TARGET) as channel:
        with pytest.raises(grpc.RpcError) as raised:
            stubs.EchoStub(channel).Unary(Message(), timeout=20)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert rpc_status.from_call(raised.value) is None


# -- grpcio-reflection ------------------------------------------------------------------------------------------------


def test_grpcio_reflection():
    pytest.importorskip("grpc_reflection.v1alpha", reason="make guests")
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_reflection.v1alpha import reflection
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    def add(server):
        stubs.add_EchoServicer_to_server(Echo("one"), server)
        reflection.enable_server_reflection([SERVICE, reflection.SERVICE_NAME], server)

    with around(add) as (mesh, _noted), mesh.grpc_channel(TARGET) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert SERVICE in database.get_services()
        found = DescriptorPool(database).FindServiceByName(SERVICE)
        assert {method.name for method in found.methods} == {"Unary", "Expand", "Collect", "Chat"}


# -- grpcio-health-checking -------------------------------------------------------------------------------------------


def add_health(server):
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    servicer = health.HealthServicer()
    servicer.set("echo", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)


def test_grpcio_health_checking():
    pytest.importorskip("grpc_health.v1", reason="make guests")
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with around(add_health) as (mesh, noted), mesh.grpc_channel(TARGET) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        noted.refuse = 1
        asked = health_pb2.HealthCheckRequest(service="echo")
        assert stub.Check(asked, timeout=20).status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(asked, timeout=20)
        assert next(iter(watch)).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


async def test_grpcio_health_checking_on_asyncio():
    pytest.importorskip("grpc_health.v1", reason="make guests")
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with around(add_health) as (mesh, _noted):
        async with mesh.aio_grpc_channel(TARGET) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            asked = health_pb2.HealthCheckRequest(service="echo")
            assert (await stub.Check(asked, timeout=20)).status == health_pb2.HealthCheckResponse.SERVING
