"""Little Bell as its users have it: a wheel in an environment of its own."""

import subprocess
import sys
from pathlib import Path

from bench.errors import NotMeasuredError
from bench.programs import BENCH

ROOT = BENCH.parent


def call(command: list[str]) -> None:
    """Run to the end. Raises NotMeasuredError with the last words of what failed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise NotMeasuredError(f"the wheel could not be installed: {said}")


def install(folder: Path) -> Path:
    """Build the wheel, install it; returns the `bin` folder. Raises NotMeasuredError."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheels = folder / "wheels"
    environment = folder / "venv"
    call([*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(ROOT)])
    call([sys.executable, "-m", "venv", "--without-pip", str(environment)])
    python = environment / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    [wheel] = wheels.glob("little_bell-*.whl")
    install_it = ["install", "--constraint", str(constraints), str(wheel)]
    call([*pip, "--python", str(python), *install_it])
    return environment / "bin"
