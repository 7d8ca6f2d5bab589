"""What commands say to wrong input: what happened, where, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from meshlib.cli.main import main

GOOD = "apiVersion: v1\nkind: Service\nmetadata: {name: kitchen}\nspec: {ports: [{port: 80, name: http}]}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("validate {broken}", 1, "broken.yaml:1:4: error: not valid YAML: the list is not closed"),
        ("validate {good} --labels x", 2, "--labels: 'x' is not key=value; write it as app=reviews,version=v1"),
        ("validate {nowhere}", 1, "does not exist [no-files]"),
        ("analyze {good} -S XX=*", 0, "warning: XX is not a code that is reported here; suppressing it has no effect"),
        ("analyze {good} -S IST0101", 1, "'IST0101' is not CODE=RESOURCE, for example"),
        ("coverage {broken}", 1, "coverage is reported only for resources that load; see `meshlib validate`"),
        ("explain {good} http://", 2, "such as http://reviews:9080/reviews/0, not 'http://': it has no host"),
        ("explain {good} ftp://kitchen/", 2, "not 'ftp://kitchen/': Request URL has an unsupported protocol 'ftp://'"),
        ("explain {good} http://kitchen:x/", 2, "Invalid port: 'x'"),
        ("explain {good} http://kitchen/ -X G:T", 2, "-X 'G:T' is not a method; write it as -X POST"),
        ("explain {good} http://kitchen/ -H x", 2, "-H 'x' is not a header; write it as -H 'name: value'"),
        ("explain {good} http://kitchen/ --port 80", 2, "--port is of requests that come in: give --inbound, too"),
        ("explain {good} http://kitchen/ --cert c", 2, "--key and --bundle are required with --cert"),
        (
            "explain {good} http://kitchen/ --cert {nowhere} --key {nowhere} --bundle {nowhere}",
            1,
            "does not exist; create it, or give the right path.",
        ),
        (
            "explain --inbound {good} /a --source-ip 1.2.3",
            2,
            "source_ip must be an IP address such as 10.0.0.1 or 2001:db8::1, not '1.2.3'",
        ),
        ("explain --inbound {good} /a --claims [1]", 2, "--claims is not an object of JSON"),
        ("ca inspect {nowhere}", 1, "problem: it does not exist"),
        ("ca inspect {good}", 1, "problem: it is not PEM"),
        ("ca issue {nowhere} spiffe://a/b", 1, "has no CA (no ca.json); make one: meshlib ca init"),
        ("ca init {new} --trust-domain a --ttl 5x", 2, "'5x' is not a valid duration; write 90s, 30m, 24h or 365d"),
        ("local x", 2, "x: is not HOST=ADDRESS; for example reviews=:9080"),
        ("valdate x", 2, "No such command 'valdate'. Did you mean validate?"),
    ],
)
def test_wrong_input_is_told_in_a_sentence(tmp_path: Path, arguments: str, code: int, said: str):
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    places = {name: str(tmp_path / f"{name}.yaml") for name in ("good", "broken", "nowhere")}
    words = [word.format(**places, new=tmp_path / "new") for word in arguments.split()]
    result = CliRunner().invoke(main, words)
    assert said in " ".join(result.output.split())
    assert result.exit_code == code
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)
