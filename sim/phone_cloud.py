"""The commune as a phone reaches it: over HTTP, where there is network."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final

from cloud_sync.documents import AgreementKey
from cloud_sync.documents.conversation import Answer

TIMEOUT_S: Final = 10.0
ANSWER_MAX_BYTES: Final = 4 * 1024 * 1024


class CloudError(OSError):
    """The commune could not be reached, or refused; ``refused`` tells which. Nothing that was to be posted is lost."""

    def __init__(self, message: str, *, refused: bool) -> None:
        super().__init__(message)
        self.refused = refused


def told(heard: Answer | None) -> dict[str, Any]:
    """Return what a car said last, as the commune's courier route wants to hear it."""
    if heard is None:
        return {}
    known: dict[str, Any] = {
        "list_version": heard.list_version,
        "key_set_version": heard.key_set_version,
        "store_id": heard.store_id.hex(),
        "up_to_seq": heard.up_to_seq,
        "acked_seq": heard.acked_seq,
    }
    return known if heard.time_nonce is None else known | {"time_nonce": heard.time_nonce.hex()}


@dataclass(frozen=True, slots=True)
class Granted:
    """A pass as the commune gives it, with how to find and know the car."""

    vehicle: str
    name: str
    box: bytes
    document: bytes
    booking: bytes
    expires_s: int


class HttpCloud:
    """``sim.phone.Cloud`` at a base address such as ``http://localhost:8080``."""

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")

    async def documents(self, vehicle: str, heard: Answer | None) -> list[bytes]:
        """Return what the car should get, in order."""
        answer = await self.ask(f"vehicles/{vehicle}/courier", told(heard))
        with self._understood():
            return [bytes.fromhex(each) for each in answer["documents"]]

    async def post(self, vehicle: str, batches: list[bytes]) -> None:
        """Hand batches over. What the commune refuses no repetition helps: it has counted it."""
        await self.ask(f"vehicles/{vehicle}/batches", {"documents": [each.hex() for each in batches]})

    async def grant(self, booking: str, phone_key: bytes) -> Granted:
        """Return the pass for a booking, and what the phone must know of its car."""
        got = await self.ask(f"bookings/{booking}/pass", {"phone_key": phone_key.hex()})
        with self._understood():
            box = bytes.fromhex(got["box"])
            AgreementKey.generate().agree(box)  # a point of the curve
            return Granted(
                str(got["vehicle"]),
                str(got["name"]),
                box,
                bytes.fromhex(got["pass"]),
                bytes.fromhex(got["booking"]),
                int(got["expires_s"]),
            )

    async def radio(self, vehicle: str) -> tuple[str, bytes]:
        """Return a car's name on the radio and its box's key."""
        got = await asyncio.to_thread(self._ask, f"vehicles/{vehicle}/radio", None)
        with self._understood():
            box = bytes.fromhex(got["box"])
            AgreementKey.generate().agree(box)  # a point of the curve
            return str(got["name"]), box

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError) as error:
            raise CloudError(
                f"what answers at {self._base} is no commune of this kind ({error!r})", refused=True
            ) from error

    async def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Post JSON, return JSON; ``CloudError``."""
        return await asyncio.to_thread(self._ask, path, body)

    def _ask(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        address = f"{self._base}/api/v1/{path}"
        if not address.startswith(("http://", "https://")):
            raise CloudError(f"{self._base} is no address of the web", refused=True)
        request = urllib.request.Request(  # noqa: S310 -- looked at right above
            address,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method="GET" if body is None else "POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 -- as above
                said = answer.read(ANSWER_MAX_BYTES)
        except urllib.error.HTTPError as error:
            detail = _detail(error.read(ANSWER_MAX_BYTES))
            raise CloudError(f"the commune refuses: {detail} ({error.code})", refused=error.code < 500) from error
        except (OSError, ValueError, HTTPException) as error:
            raise CloudError(f"the commune can't be reached at {self._base} ({error})", refused=False) from error
        with self._understood():
            found: dict[str, Any] = dict(json.loads(said))
            return found


def _detail(said: bytes) -> str:
    """Return what a refusal says, in the commune's words."""
    text = said.decode(errors="replace")[:300]
    try:
        detail = json.loads(said)["detail"]
    except (KeyError, TypeError, ValueError):
        return text
    if isinstance(detail, list):  # a request that it does not understand: what and why, one by one
        return "; ".join(str(each.get("msg", each)) if isinstance(each, dict) else str(each) for each in detail)[:300]
    return str(detail)
