"""Makes dist/little-bell.pyz of a wheel: all that Little Bell needs beside Python, in one file.

For the Python and the platform that run this, since some of what it holds is compiled. Everything
is byte-compiled here, so that the first start only unpacks. The same wheels make the same bytes.
"""

import compileall
import io
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEFT_OUT = re.compile(  # what no command imports
    r"(^|/)(tests|qa|bin|docs)(/|$)|^apsw/sqlite_extra_binaries/|\.(c|h|pyx|pxd)$"
)
WHEN = (1980, 1, 1, 0, 0, 0)  # the earliest that an archive can say


def install(wheel: Path, site: Path) -> None:
    """The wheel and what it depends on, in the versions of constraints.txt."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-compile", "--only-binary", ":all:", "--target", str(site)]
    subprocess.run([*command, "-c", str(ROOT / "constraints.txt"), str(wheel)], check=True)


def prune(site: Path) -> None:
    """Remove what is not needed, and what says where it was installed from."""
    for path in sorted(site.rglob("*"), reverse=True):
        name = path.relative_to(site).as_posix()
        record = path.name in ("RECORD", "direct_url.json", "REQUESTED", "INSTALLER")
        if LEFT_OUT.search(name) or record:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def glibc(site: Path) -> tuple[int, int] | tuple[()]:
    """The version of glibc that the compiled modules need, by the tags of their wheels."""
    needed: list[tuple[int, int]] = []
    for wheel in site.glob("*.dist-info/WHEEL"):
        tags = re.findall(r"^Tag: .*manylinux_(\d+)_(\d+)_", wheel.read_text(), re.MULTILINE)
        if tags:  # any of them will do
            needed.append(min((int(major), int(minor)) for major, minor in tags))
    return max(needed, default=())


def packed(files: list[tuple[str, bytes]], compression: int) -> bytes:
    """An archive that says nothing of when and by whom it was made."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as archive:
        for name, data in files:
            entry = zipfile.ZipInfo(name, WHEN)
            entry.external_attr = 0o644 << 16
            entry.compress_type = compression
            archive.writestr(entry, data)
    return memory.getvalue()


def write(target: Path, site: Path) -> None:
    """The archive itself, with a first line that names its Python.

    What is unpacked is an archive in the archive: Python reads the whole directory of the outer one
    at each start, and keeps it.
    """
    found = sorted(path for path in site.rglob("*") if path.is_file())
    files = [(path.relative_to(site).as_posix(), path.read_bytes()) for path in found]
    inner = packed(files, zipfile.ZIP_DEFLATED)
    minor = sys.version_info[1]
    facts = {
        "NAME": f"{sys.implementation.cache_tag}-{sha256(inner).hexdigest()[:24]}",
        "PYTHON": f"{sys.implementation.cache_tag}{sys.abiflags}",
        "COMMAND": f"python3.{minor} little-bell.pyz",
        "PLATFORM": f"{sys.platform}-{os.uname().machine}",
        "GLIBC": glibc(site),
    }
    build = "".join(f"{name} = {value!r}\n" for name, value in facts.items())
    main = (Path(__file__).parent / "pyz_main.py").read_bytes()
    outer = [("__main__.py", main), ("little_bell_build.py", build.encode()), ("site.zip", inner)]
    part = target.with_suffix(".part")
    part.write_bytes(b"#!/usr/bin/env python3.%d\n" % minor + packed(outer, zipfile.ZIP_STORED))
    part.chmod(0o755)
    part.rename(target)


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python tools/build_pyz.py WHEEL TARGET")
    wheel, target = Path(sys.argv[1]), Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        install(wheel, site)
        prune(site)
        unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH  # nobody edits what is unpacked
        if not compileall.compile_dir(
            site, quiet=1, stripdir=str(site), invalidation_mode=unchecked
        ):
            sys.exit("something did not compile")
        write(target, site)
    sys.stderr.write(f"{target}: {target.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
