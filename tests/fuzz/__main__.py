"""``python -m tests.fuzz [TARGET ...] --minutes 1``: coverage-guided, with atheris (``make fuzz`` installs it).

Each target runs in a process of its own and grows ``.fuzz/TARGET``, beginning with what tests/fuzz/corpus keeps. An input
that fails is left there as ``crash-...``: ``python -m tests.fuzz TARGET --replay FILE`` shows it again. ``--keep`` takes what
reaches new lines over into tests/fuzz/corpus.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.corpus import CORPUS, TARGETS, run_of
from tests.fuzz.keeping import keep

GROWING = Path(".fuzz")
LONGEST_INPUT = 4096
SECONDS_AN_INPUT = 20
MEGABYTES = 2048


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default: all ({', '.join(TARGETS)})")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target (default 1)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one target on one input, without atheris")
    parser.add_argument(
        "--keep", action="store_true", help="take the small inputs that reach new lines into the corpus"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    targets = options.targets or list(TARGETS)
    for target in targets:
        if target not in TARGETS:
            parser.error(f"there is no target {target!r}: {', '.join(TARGETS)}")
    if options.replay:
        run_of(targets[0])(options.replay.read_bytes())
        return 0
    if options.keep:
        for target in targets:
            print(target, keep(run_of(target), CORPUS / target, GROWING / target))
        return 0
    if options.inside:
        fuzz(targets[0], options.minutes)
    return max(one(target, options.minutes) for target in targets)


def one(target: str, minutes: float) -> int:
    """Run a target in a process of its own and say what came of it."""
    folder = GROWING / target
    folder.mkdir(parents=True, exist_ok=True)
    log = GROWING / f"{target}.log"
    command = [sys.executable, "-m", "tests.fuzz", target, "--minutes", str(minutes), "--inside"]
    began = time.monotonic()
    with log.open("w") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    said = log.read_text(errors="replace")
    seen = re.findall(r"#(\d+)\s+\w+ +cov: (\d+) ft: (\d+) corp: (\d+)", said)
    count, lines, features, inputs = seen[-1] if seen else ("0", "0", "0", "0")
    words = f"{count} inputs, coverage {lines} ({features} features), {inputs} kept, {time.monotonic() - began:.0f} s"
    print(f"{target}: {words}{'' if code == 0 else f': FAILED, see {log}'}", flush=True)
    return 0 if code == 0 else 1


def fuzz(target: str, minutes: float) -> None:
    """In the process of a target. Does not return."""
    import atheris

    with atheris.instrument_imports(include=["meshlib"]):
        run = run_of(target)
    folder = GROWING / target
    arguments = [
        sys.argv[0],
        str(folder),
        str(CORPUS / target),
        f"-max_total_time={round(minutes * 60)}",
        f"-max_len={LONGEST_INPUT}",
        f"-timeout={SECONDS_AN_INPUT}",
        f"-rss_limit_mb={MEGABYTES}",
        f"-artifact_prefix={folder}/",
    ]
    atheris.Setup(arguments, run)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
