"""What `little-bell.pyz` does first: it unpacks itself, once, and runs from there.

Compiled modules cannot be loaded from within an archive. Written for any Python 3.6, so that a
wrong one is told so and not of a syntax error; and where the archive was unpacked before, nothing
is imported that is not loaded anyway, since all of it would stay in the server's memory.
"""

import os
import sys

import little_bell_build as build  # type: ignore[import-not-found]  # written by build_pyz.py

CANNOT_START = 3  # exit code, as of the server


def refuse(reason: str) -> None:
    sys.stderr.write(f"little-bell: cannot start: {reason}\n")
    sys.exit(CANNOT_START)


def check_platform() -> None:
    """Refuse a Python or a machine that the compiled modules are not for."""
    tag = f"{sys.implementation.cache_tag}{sys.abiflags}"
    if tag != build.PYTHON:
        refuse(f"this archive is for {build.PYTHON} and this is {tag}: run it by {build.COMMAND}")
    here = f"{sys.platform}-{os.uname()[4]}"
    if here != build.PLATFORM:
        refuse(f"this archive is for {build.PLATFORM} and this is {here}")


def check_libc() -> None:
    """Refuse another C library than glibc, or one that is too old: before unpacking."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):
        name, version = "", ""
    found = tuple(int(part) for part in version.split(".")[:2]) if name == "glibc" else ()
    if build.GLIBC and found < build.GLIBC:
        needed = ".".join(str(part) for part in build.GLIBC)
        refuse(f"this archive needs glibc {needed}, and here is {version or 'another C library'}")


def cache_folder() -> str:
    """Where to unpack: the first of these that is set. systemd sets CACHE_DIRECTORY."""
    for name, below in (
        ("LITTLE_BELL_CACHE", ""),
        ("CACHE_DIRECTORY", ""),
        ("XDG_CACHE_HOME", "little-bell"),
        ("HOME", ".cache/little-bell"),
    ):
        value = os.environ.get(name, "")
        if value:
            return os.path.realpath(os.path.join(value, below))
    return os.path.realpath(os.path.expanduser("~/.cache/little-bell"))


def check_owner(folder: str) -> None:
    """Refuse a folder in which, or in place of which, another user could put code of theirs."""
    path = folder
    while True:
        found = os.stat(path)
        sticky = found.st_mode & 0o1000 and path != folder  # as /tmp: what is in it stays
        if found.st_uid not in (0, os.geteuid()) or (found.st_mode & 0o022 and not sticky):
            refuse(f"others may write to {path}: set LITTLE_BELL_CACHE to a folder of your own")
        above = os.path.dirname(path)
        if above == path:
            return
        path = above


def unpack(archive: str, cache: str, target: str) -> None:
    """Unpack beside the target and rename: whoever comes meanwhile sees all of it or nothing.

    One start at a time, where the file system has locks; what one left that was killed goes then.
    """
    import fcntl
    import shutil
    import tempfile
    import zipfile

    check_libc()
    if not os.path.isdir(cache):
        os.makedirs(cache, 0o700, exist_ok=True)
        check_owner(cache)
    lock = os.open(cache, os.O_RDONLY)  # let go of when this process ends, or starts anew
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        pass
    else:
        for name in os.listdir(cache):
            if name.startswith("unpacking-"):
                shutil.rmtree(os.path.join(cache, name), ignore_errors=True)
        if os.path.isdir(target):
            return
    mask = os.umask(0o022)
    part = tempfile.mkdtemp(prefix="unpacking-", dir=cache)
    try:
        site = os.path.join(part, "site")
        with zipfile.ZipFile(archive) as outer, outer.open("site.zip") as file:
            zipfile.ZipFile(file).extractall(site)
        os.sync()  # a power cut must not leave empty files under the final name
        try:
            os.rename(site, target)
        except OSError:
            if not os.path.isdir(target):
                raise
            # Another start was faster, and what it unpacked is the same.
    finally:
        shutil.rmtree(part, ignore_errors=True)
        os.umask(mask)


def main() -> None:
    check_platform()
    cache = cache_folder()
    target = os.path.join(cache, build.NAME)
    try:
        if os.path.isdir(cache):
            check_owner(cache)
        if not os.path.isdir(target):
            unpack(sys.path[0], cache, target)
            # Anew, since what unpacked would stay in the server's memory.
            os.execv(sys.executable, sys.orig_argv)
        check_owner(target)
    except OSError as error:
        refuse(f"cannot unpack to {cache} ({error.strerror}): set LITTLE_BELL_CACHE to a folder")
    sys.path[0] = target
    # For the processes that the server starts.
    given = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = target + (os.pathsep + given if given else "")
    from little_bell.cli import main as run

    sys.exit(run())


main()
