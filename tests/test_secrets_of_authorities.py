"""Keys and tokens of ``meshlib ca`` and of the identities that come from a Workload API and from istiod are shown nowhere: not
in what the command prints, logs, status, representations and errors."""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path

import pytest
from click.testing import CliRunner

import meshlib
from meshlib.ca.serving import Serving, Socket
from meshlib.ca.store import Store
from meshlib.cli.main import main
from meshlib.clock import SystemClock
from tests.support.istiod import REVIEWS, TOKEN, Istiod


def lines_of_keys(folder: Path) -> set[str]:
    """The lines of all private keys below a folder."""
    keys = [path.read_text().splitlines() for path in folder.rglob("*.key")]
    keys += [path.read_text().splitlines() for path in folder.rglob("key.pem")]
    return {line for key in keys for line in key if len(line) > 20 and "-----" not in line}


def test_no_key_is_in_what_the_command_prints(tmp_path: Path) -> None:
    ca, printed = str(tmp_path / "ca"), ""
    for arguments in (
        ["init", ca, "--trust-domain", "cluster.local"],
        ["init", ca, "--trust-domain", "cluster.local"],  # again: refused
        ["issue", ca, REVIEWS],
        ["issue", ca, "spiffe://other.test/x"],
        ["inspect", ca],
        ["inspect", ca, "--format", "json"],
        ["rotate", ca, "--show"],
        ["rotate", ca],
        ["rotate", ca, "--step", "drop"],
    ):
        done = CliRunner().invoke(main, ["ca", *arguments])
        printed += done.output + ("" if done.exc_info is None else "".join(traceback.format_exception(*done.exc_info)))
        assert done.output
    keys = lines_of_keys(tmp_path)
    assert len(keys) >= 6
    assert [key for key in keys if key in printed] == []
    assert "PRIVATE KEY" not in printed


def test_no_key_and_no_token_is_in_what_identities_say(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = Store.create(tmp_path / "ca", "cluster.local", SystemClock())
    serving = Serving(store.current, SystemClock(), sockets=[Socket(f"unix:{tmp_path}/a.sock", REVIEWS)])
    serving.start()
    shown, keys = "", set(lines_of_keys(tmp_path))
    try:
        with Istiod(tmp_path) as istiod:
            for identity in (
                meshlib.Identity.from_workload_api(f"unix:{tmp_path}/a.sock"),
                meshlib.Identity.from_istiod(istiod.address, istiod.token_file, istiod.root_file),
                meshlib.Identity.from_istiod(istiod.address, istiod.token_file, tmp_path / "ca" / "no.pem"),
            ):
                with meshlib.Mesh.from_resources([], identity=identity) as mesh:
                    current = identity.current()
                    shown += json.dumps(mesh.status(), default=str) + repr((identity, identity._source, mesh, current))
                    shown += identity.problem + identity.what
                    if current is not None:
                        shown += repr((current.svid, current.bundles))
                        keys |= set(current.svid.key_pem.decode().splitlines()[1:-1])
            shown += repr((serving, serving._issued, istiod.service, store, store.current()))
    finally:
        serving.close()
    shown += caplog.text
    assert REVIEWS in shown
    assert len(keys) > 6
    assert [secret for secret in (*keys, TOKEN, "PRIVATE KEY") if secret in shown] == []
