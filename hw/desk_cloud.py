"""The commune's endpoint as the town hall's desk asks it, over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any, Final

TIMEOUT_S: Final = 10.0
ANSWER_MAX_BYTES: Final = 1 << 20


class DeskError(Exception):
    """What could not be done, and what to do about it. Nothing was changed, unless it says so."""


def ask(base: str, method: str, path: str, body: dict[str, Any] | None) -> Any:
    """Ask the endpoint. DeskError in its words."""
    address = f"{base.rstrip('/')}/api/v1/{path}"
    if not address.startswith(("http://", "https://")):
        raise DeskError(f"{base} is no address of the web")
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(  # noqa: S310 -- looked at right above
        address, data, {"Content-Type": "application/json"}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 -- as above
            return json.loads(answer.read(ANSWER_MAX_BYTES))
    except urllib.error.HTTPError as error:
        raise DeskError(f"the endpoint refuses: {_detail(error.read(ANSWER_MAX_BYTES))}") from error
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(getattr(error, "reason", None), ConnectionRefusedError):
            raise DeskError(
                f"nothing answers at {base}: start the endpoint (amibox-cloud serve --dir DIR), or name it "
                "with --cloud; nothing was changed"
            ) from error
        done = "" if method == "GET" else "; it may have done it: amibox card list"
        raise DeskError(f"the endpoint does not answer at {base} ({error}){done}") from error


def _detail(said: bytes) -> str:
    try:
        detail = json.loads(said)["detail"]
    except (KeyError, TypeError, ValueError):
        return said.decode(errors="replace")[:300]
    if isinstance(detail, list):
        return "; ".join(str(each.get("msg", each)) if isinstance(each, dict) else str(each) for each in detail)
    return str(detail)
