"""The API described for programs: OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0)."""

import json
from functools import lru_cache
from importlib.resources import files

from little_bell import __version__


@lru_cache(1)
def document(base: str) -> bytes:
    """`openapi.json` beside this module, for the server at `base` (BASE_URL) and of this version.

    That file is where the API is described; `tests/test_openapi.py` holds it against the code.
    """
    value = json.loads(files("little_bell.api").joinpath("openapi.json").read_bytes())
    value["servers"] = [{"url": base}]
    value["info"]["version"] = __version__
    return json.dumps(value, ensure_ascii=False).encode("utf-8") + b"\n"
