"""What a caller tells of itself in headers is read and gone before anybody else looks, and is answered in kind."""

from __future__ import annotations

from meshlib.compiler.inbound import Inbound, InboundPorts
from meshlib.compiler.mesh_settings import MeshSettings
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.inbound_state import InboundState
from meshlib.engine.peer_metadata_check import PeerMetadataCheck
from meshlib.policy.authorization.decision import Authorization
from meshlib.policy.mtls_mode import MtlsMode
from meshlib.policy.peer_metadata import METADATA, METADATA_ID, PeerMetadata, own_metadata
from tests.support.fake_clock import FakeClock

OURS = own_metadata("reviews-v3", "shop", {"app": "reviews"})
THEIRS = own_metadata("web-v1", "front", {"app": "web"})
CHECK = PeerMetadataCheck(OURS)


def asked(*headers: tuple[str, bytes]) -> InboundRequest:
    request = InboundRequest("GET", "/", [("accept", b"*/*"), *headers])
    assert CHECK(request) is None
    return request


def test_who_says_nothing_is_told_nothing_and_changed_nothing():
    request = asked()
    assert (request.peer_metadata, request.for_application, request.for_caller) == (None, None, [])


def test_it_is_read_taken_away_and_answered():
    request = asked((METADATA, THEIRS.value), (METADATA_ID, THEIRS.id))
    assert request.peer_metadata == PeerMetadata("web-v1", "front", "Kubernetes", "web", "", "web")
    assert (request.header(METADATA), request.header(METADATA_ID)) == (None, None)
    assert [name for name, _ in request.headers] == [b"host", b"accept"]
    assert request.for_caller == [(METADATA.encode(), OURS.value), (METADATA_ID.encode(), OURS.id)]


def test_each_header_is_answered_by_the_same():
    request = asked((METADATA_ID, b"whoever"))
    assert request.for_caller == [(METADATA_ID.encode(), OURS.id)]
    assert (request.peer_metadata, request.header(METADATA_ID)) == (None, None)


def test_a_grpc_caller_whose_metadata_core_has_kept_is_told_both():
    request = InboundRequest("POST", "/a.B/C", [(METADATA_ID, THEIRS.id)], protocol="grpc")
    CHECK(request)
    assert request.for_caller == [(METADATA.encode(), OURS.value), (METADATA_ID.encode(), OURS.id)]


def test_what_is_no_metadata_is_gone_as_well():
    for value in (b"", b"hello", THEIRS.value + b"," + THEIRS.value):
        request = asked((METADATA, value))
        assert (request.peer_metadata, request.header(METADATA)) == (None, None)
    twice = asked((METADATA, THEIRS.value), ("X-Envoy-Peer-Metadata", THEIRS.value))
    assert (twice.peer_metadata, twice.header(METADATA)) == (None, None)
    assert len(twice.for_caller) == 1


def test_it_stands_before_whatever_reads_headers_and_is_there_only_where_it_is_wanted():
    def another(_request: object) -> None:
        return None

    def never_asked(_request: object, _timeout: object) -> None:
        raise AssertionError("no check of these asks")

    wanted = Inbound((another,), authorization=Authorization(()), mtls=MtlsMode.STRICT)
    settings = MeshSettings(peer_metadata=OURS)
    ports = InboundPorts(Inbound(), {1: wanted, 2: Inbound((another,), mesh=settings, mtls=MtlsMode.STRICT)})
    bound = InboundState(FakeClock(), never_asked).take(ports)  # type: ignore[arg-type]
    kinds = [type(check).__name__ for check in bound.of(2).checks]
    assert kinds == ["PeerCheck", "PeerMetadataCheck", "function"]
    assert not any(isinstance(check, PeerMetadataCheck) for check in bound.of(1).checks)
