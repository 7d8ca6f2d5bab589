"""Whether a file has changed since it was looked at, by one ``stat``."""

from __future__ import annotations

import os

Stamp = tuple[object, ...]


def stamp(file: str) -> Stamp:
    """What changes when the file does, or the symbolic links that lead to it (as those of Kubernetes' secrets)."""
    try:
        found = os.stat(file)
    except OSError as error:
        return (error.errno,)
    # the time of the last change too: a copy may keep size and modification time, and reuse the inode
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
