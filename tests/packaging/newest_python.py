"""``make newest-python``: the tests of this commit on the newest Python that Debian has, in a root of its own (debootstrap of
``sid``, kept in ``.venv-newest-python``). As root, on Linux; where that cannot be had, it says so and is no failure.

What a newer Python changes shows in no other test: those of ``make test`` run on one version, that of ``.venv``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".venv-newest-python"
PACKAGES = "python3,python3-venv,git,make,ca-certificates,procps,openssl"
DEBIAN = "http://deb.debian.org/debian"
PATH = "/meshlib/.venv/bin:/usr/bin:/bin:/usr/sbin:/sbin"
HANDED_ON = ("PIP_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "MESHLIB_")
"""Names of the environment, or how they begin, that hold inside as well."""
SECONDS = 30.0
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

UNSHARED = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
"""In front of a command: whatever it starts ends with it, and what it mounts is mounted for it alone."""

# in a namespace of mounts of its own: nothing of this machine's stays mounted where somebody may remove the folder
INSIDE = """
set -e
mount --make-rprivate /
for each in dev sys; do mount --rbind /$each "$1/$each"; done
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/tmp"
root=$1
shift
exec chroot "$root" /bin/sh -c 'cd /meshlib; exec "$@"' sh "$@"
"""


def why_not() -> str | None:
    """What is missing here, for people; None: nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it takes root, on Linux"
    for tool in ("debootstrap", "unshare", "chroot"):
        if shutil.which(tool) is None:
            return f"there is no {tool} (Debian's package of that name has it, or util-linux or coreutils)"
    tried = subprocess.run([*UNSHARED, "mount", "--make-rprivate", "/"], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"it takes CAP_SYS_ADMIN ({tried.stderr.strip()})"
    if not (KEPT / "ready").exists():
        try:
            urllib.request.urlopen(f"{DEBIAN}/dists/sid/InRelease", timeout=SECONDS).close()
        except OSError as error:
            return f"it takes a network at the first use ({DEBIAN}: {error})"
    return None


def made_root() -> Path:
    """A Debian with its Python, made at the first use.

    Raises:
        subprocess.CalledProcessError: debootstrap failed; what it said is on stdout
    """
    root, ready = KEPT / "root", KEPT / "ready"
    if not ready.exists():
        click.echo(f"making a root of Debian sid in {KEPT.name} (some minutes) ...")
        shutil.rmtree(root, ignore_errors=True)
        KEPT.mkdir(exist_ok=True)
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "sid", root, DEBIAN], check=True)
        ready.touch()
    for each in (Path("/etc/resolv.conf"), Path("/etc/hosts"), CERTIFICATES):
        if each.exists():
            copy = root / each.relative_to("/")
            copy.unlink(missing_ok=True)  # as a link it may lead to this machine's own
            shutil.copy(each, copy)
    return root


def inside(root: Path, *command: str) -> int:
    """Its exit code, in ``/meshlib`` of that root."""
    environment = {name: value for name, value in os.environ.items() if name.startswith(HANDED_ON)}
    environment |= {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "PIP_CERT": str(CERTIFICATES)}
    return subprocess.run(
        [*UNSHARED, "sh", "-c", INSIDE, "sh", root, *command], env=environment, check=False
    ).returncode


def main() -> int:
    missing = why_not()
    if missing is not None:
        click.echo(f"NO NEWEST PYTHON here: {missing}. The tests are NOT run on it.")
        return 0
    root = made_root()
    tree = root / "meshlib"
    if not tree.exists():
        subprocess.run(["git", "clone", "--quiet", ROOT, tree], check=True)
    subprocess.run(["git", "-C", tree, "fetch", "--quiet", ROOT, "HEAD"], check=True)
    subprocess.run(["git", "-C", tree, "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD"], check=True)
    # both print what they are and do
    return inside(root, "python3", "-VV") or inside(root, "make", "setup") or inside(
        root, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *sys.argv[1:]
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
