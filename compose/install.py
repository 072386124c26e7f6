"""Getting a server's files once, into a cache that all checkouts share.

An installation is complete or absent: it is made under another name and renamed last, and its stamp
is the folder's name (version and hash of whatever defines it). Two commands at once wait for each
other.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from compose.errors import ServerMissingError
from compose.progress import Progress

DOWNLOAD_WITHIN_S = 1800.0
STILL_AT_IT_S = 10.0  # How often a long step says that it is still alive.
LOG_TAIL_LINES = 15


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on this file; the system lets go of it when the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def installed(cache: Path, name: str, stamp: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of this installation, made by `make(folder)` when it is not there yet."""
    target = cache / f"{name}-{stamp}"
    if target.is_dir():
        return target
    with locked(cache / f"{name}.lock"):
        if target.is_dir():
            return target
        unfinished = cache / f".{name}-{stamp}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        make(unfinished)
        unfinished.rename(target)
    return target


def stamp_of(version: str, *defining: bytes) -> str:
    """Return a version and what defines the installation, as part of a folder's name."""
    return f"{version}-{hashlib.sha256(b''.join(defining)).hexdigest()[:8]}"


def run(server: str, argv: Sequence[str], progress: Progress, *, remedy: str) -> str:
    """Run a step of an installation to its end and return its output.

    Says every ten seconds that it is still running. Raises ServerMissingError, with the end of the
    output and the remedy, when it fails or takes longer than half an hour.
    """
    started_s = time.monotonic()
    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    while True:
        try:
            output, _ = child.communicate(timeout=STILL_AT_IT_S)
        except subprocess.TimeoutExpired:
            elapsed_s = time.monotonic() - started_s
            if elapsed_s > DOWNLOAD_WITHIN_S:
                child.kill()
                child.communicate()
                raise _step_failed(server, argv, "took too long", "", remedy) from None
            progress(server, f"still at it ({elapsed_s:.0f} s)")
        except BaseException:
            child.kill()
            child.communicate()
            raise
        else:
            break
    if child.returncode != 0:
        raise _step_failed(server, argv, f"exit code {child.returncode}", output, remedy)
    return output


def _step_failed(
    server: str, argv: Sequence[str], what: str, output: str, remedy: str
) -> ServerMissingError:
    tail = "\n".join(output.splitlines()[-LOG_TAIL_LINES:])
    return ServerMissingError(
        f"{server}: `{Path(argv[0]).name}` failed ({what}). What to do: {remedy}\n{tail}".rstrip()
    )


def apt_install(server: str, package: str, progress: Progress) -> bool:
    """Install a Debian package when we are root on a machine with apt; False when we cannot."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    progress(server, f"installing the Debian package {package} (once)")
    command = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y"]
    install = [*command, "install", "--no-install-recommends", package]
    remedy = f"run `apt-get update && apt-get install {package}` and look at what it says"
    try:
        run(server, install, progress, remedy=remedy)
    except ServerMissingError:
        try:
            run(server, [*command, "update"], progress, remedy=remedy)
            run(server, install, progress, remedy=remedy)
        except ServerMissingError as failure:
            progress(server, str(failure).splitlines()[0])
            return False
    return True
