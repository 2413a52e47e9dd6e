"""Named SQL: files under `sql/`, each statement behind `-- name:` and a line of purpose."""


def read_text(name: str) -> str:
    """A file beside this module, from a folder or an archive."""
    loader = __spec__.loader
    folder = __file__.rpartition("/")[0]
    data: bytes = loader.get_data(f"{folder}/sql/{name}")  # type: ignore[union-attr]
    return data.decode("utf-8")


def load(name: str) -> dict[str, str]:
    """The statements of one file, by name."""
    statements = {}
    for block in read_text(name).split("-- name: ")[1:]:
        title, _, text = block.partition("\n")
        statements[title.strip()] = text.partition("\n")[2].strip()
    return statements
