"""A small world for root: other mounts and processes, in which paths are those of a deployment."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import little_bell
from bell import Bell
from programs import only_where


def namespaces() -> bool:
    """Whether this is root, and may make such a world: not so in most containers."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return False
    made = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True)
    return made.returncode == 0


in_a_world = only_where(namespaces(), "needs root that may unshare, and setpriv")

# Little Bell in /opt/little-bell, readable by all users, wherever it is here.
WORLD = """
set -eu
mount -t tmpfs tmpfs /opt
mkdir -p /opt/python /opt/site /opt/source /opt/app /opt/little-bell/bin
mount --bind "$PYTHON" /opt/python
mount --bind "$SITE" /opt/site
mount --bind "$SOURCE" /opt/source
mount --bind "$APP" /opt/app
cat > /opt/little-bell/bin/little-bell <<'END'
#!/bin/sh
export PYTHONPATH=/opt/source:/opt/site PYTHONDONTWRITEBYTECODE=1
exec /opt/python/bin/python3 -m little_bell "$@"
END
chmod 755 /opt/little-bell/bin/little-bell
cd /opt/app
"""


def contained(folder: Path, script: str) -> Iterator[Bell]:
    """A bell that a script starts, as process 1 of its namespace; `folder` is /opt/app there."""
    folder.chmod(0o755)
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    bell = Bell(
        folder,
        [*unshare, "sh", "-c", WORLD + script, "sh", "serve"],
        PYTHON=sys.base_prefix,
        SITE=next(path for path in sys.path if path.endswith("site-packages")),
        SOURCE=str(Path(little_bell.__file__).parent.parent),
        APP=str(folder),
    )
    try:
        yield bell
    finally:
        # A child that becomes another user is spared by --kill-child (prctl(2), PR_SET_PDEATHSIG).
        if bell.process is not None and bell.process.poll() is None:
            inside = Path(f"/proc/{bell.pid}/task/{bell.pid}/children").read_text().split()
            for pid in inside:
                os.kill(int(pid), signal.SIGKILL)
        bell.end()


def first_process(bell: Bell) -> int:
    """The bell's number outside."""
    [child] = Path(f"/proc/{bell.pid}/task/{bell.pid}/children").read_text().split()
    return int(child)
