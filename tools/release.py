"""What a release's tag has to agree with, and what the release says of itself.

`release.py check vX.Y.Z` exits with 1 and a line where the tag is not the version of the package or
the changelog has no dated section for it; `release.py notes vX.Y.Z` prints that section.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def section(changelog: str, version: str) -> tuple[str, str] | None:
    """(what stands behind the version in its heading, the text below it); None: no such heading."""
    for part in re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        name, _, rest = heading.partition(" ")
        if name == version:
            return rest.strip(), text.strip()
    return None


def complaint(root: Path, tag: str) -> str | None:
    """Why this tag is no release of what stands in `root`; None: it is."""
    if not re.fullmatch(r"v\d+\.\d+\.\d+", tag):
        return f"{tag} is not of the form vX.Y.Z"
    package = (root / "src" / "little_bell" / "__init__.py").read_text()
    version = re.search(r'^__version__ = "(.+)"$', package, re.MULTILINE)
    if version is None or version[1] != tag[1:]:
        return f"the tag is {tag}, the version {version and version[1]}"
    found = section((root / "CHANGELOG.md").read_text(), tag[1:])
    if found is None:
        return f"CHANGELOG.md has no section for {tag[1:]}"
    when, text = found
    if not re.fullmatch(r"\(\d{4}-\d\d-\d\d\)", when):
        return f"CHANGELOG.md has no date for {tag[1:]}: ({tag[1:]} {when})"
    return None if text else f"CHANGELOG.md says nothing of {tag[1:]}"


def main(arguments: list[str]) -> int:
    """`check TAG` or `notes TAG`; returns the exit code."""
    if len(arguments) != 2 or arguments[0] not in ("check", "notes"):
        print("release.py check TAG | release.py notes TAG", file=sys.stderr)
        return 2
    what, tag = arguments
    wrong = complaint(ROOT, tag)
    if wrong:
        print(f"No release: {wrong}", file=sys.stderr)
        return 1
    if what == "notes":
        found = section((ROOT / "CHANGELOG.md").read_text(), tag[1:])
        print(found[1] if found else "")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
