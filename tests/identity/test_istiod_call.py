"""One call of CreateCertificate: what it carries, and what its failure means."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshlib.identity.istiod_call import Call, Failed, Way
from meshlib.identity.istiod_chain import key_and_request
from meshlib.security.certificate_messages import CertificateRequest, read_response, write_request
from tests.support.istiod import REVIEWS, TOKEN, Istiod

REQUEST = write_request(CertificateRequest(key_and_request(REVIEWS)[1]))
NAME = "istiod.istio-system.svc"


def test_a_way_shows_neither_token_nor_key(tmp_path: Path) -> None:
    svid = Istiod(tmp_path).standing.signer.issue(REVIEWS, Istiod(tmp_path).clock.time())
    assert TOKEN not in repr(Way(token=TOKEN))
    assert "PRIVATE" not in repr(Way(svid=svid))


def test_by_token_by_certificate_or_not_at_all(tmp_path: Path) -> None:
    with Istiod(tmp_path) as istiod:
        svid = istiod.standing.signer.issue(REVIEWS, istiod.clock.time())
        for way in (Way(token=TOKEN), Way(svid=svid)):
            call = Call(istiod.address, NAME, istiod.root_file.read_bytes(), way, "Kubernetes")
            assert len(read_response(call.create(REQUEST, "istiod"))) == 3
            call.stop()
        call = Call(istiod.address, NAME, istiod.root_file.read_bytes(), Way(), "Kubernetes")
        with pytest.raises(
            Failed, match="istiod gives no certificate .UNAUTHENTICATED: request authenticate failure.: it"
        ) as raised:
            call.create(REQUEST, "istiod")
        assert raised.value.kind == "UNAUTHENTICATED"
        call.stop()


def test_stopped_it_fails_and_may_be_stopped_again(tmp_path: Path) -> None:
    with Istiod(tmp_path) as istiod:
        call = Call(istiod.address, NAME, istiod.root_file.read_bytes(), Way(token=TOKEN), "Kubernetes")
        call.stop()
        call.stop()
        with pytest.raises(Failed, match="CANCELLED"):
            call.create(REQUEST, "istiod")
