"""The API's description: page/openapi.json, completed with the version and the addresses of the running server.

GET /openapi.json returns it, and GET /docs shows it. It is JSON because the server has no YAML parser.
"""

from pathlib import Path
from typing import Any

import orjson

from seaway.version import VERSION

FILE = Path(__file__).parents[1] / "page" / "openapi.json"
ADMIN = "Admin"  # the tag of everything on the admin port


def document(server_url: str, admin_url: str | None = None) -> dict[str, Any]:
    """The whole OpenAPI 3.1 document; without `admin_url` it leaves out the admin port."""
    api: dict[str, Any] = orjson.loads(FILE.read_bytes())
    api["info"]["version"] = VERSION
    api["servers"] = [{"url": server_url}]
    admin = [path for path, item in api["paths"].items() if ADMIN in item.get("get", {}).get("tags", ())]
    if admin_url:
        for path in admin:
            api["paths"][path]["servers"] = [{"url": admin_url}]
    else:
        api["tags"] = [tag for tag in api["tags"] if tag["name"] != ADMIN]
        for path in admin:
            del api["paths"][path]
    return api
