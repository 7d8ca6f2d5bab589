"""What a client is made with: its TLS is made once, when it is first needed."""

from __future__ import annotations

import ssl

import pytest

from meshlib.transport.upstream import client_settings
from meshlib.transport.upstream.client_settings import ClientSettings


def test_the_context_is_made_on_first_use_and_once(monkeypatch):
    asked = []

    def made(*given):
        asked.append(given)
        return ssl.create_default_context()

    monkeypatch.setattr(client_settings, "caller_context", made)
    settings = ClientSettings(verify="bundle.pem", cert="me.pem", trust_env=False)
    assert asked == []
    assert settings.context() is settings.context()
    assert asked == [("bundle.pem", "me.pem", False)]


def test_http2_without_a_library_says_what_to_install(monkeypatch):
    monkeypatch.setattr(client_settings, "installed", lambda: False)
    assert not ClientSettings().http2
    with pytest.raises(ImportError, match=r"http2=True needs ngh2 or h2: pip install 'sidecarless\[http2\]'"):
        ClientSettings(http2=True)
