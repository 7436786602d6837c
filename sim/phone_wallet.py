"""What a driver's phone holds: a wallet with its key and a pass, and a bag with what it carries for the commune."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, Self

from cloud_sync.documents import AgreementKey, BoxSigner, Refused
from cloud_sync.documents.conversation import Answer
from cloud_sync.endpoint.models_phone import DOCUMENTS_MAX as DELIVERY_MAX


@dataclass(frozen=True, slots=True)
class Wallet:
    """What a phone holds for one booking: which car, its key V (33 bytes), the phone's own key, the pass."""

    vehicle: str
    name: str
    """The car's name on the radio."""
    box: bytes
    key: BoxSigner = field(repr=False)
    booking: bytes
    grant: bytes
    """The pass; empty where the phone has none, for its booking is on the car's list."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that ``save`` wrote. ValueError or OSError: it can't be used, and why."""
        try:
            _private(path)
            values = json.loads(path.read_text())
            return cls(
                vehicle=str(values["vehicle"]),
                name=str(values["name"]),
                box=_point(values["box"]),
                key=BoxSigner.from_bytes(bytes.fromhex(values["key"])),
                booking=bytes.fromhex(values["booking"]),
                grant=bytes.fromhex(values.get("pass", "")),
            )
        except FileNotFoundError as error:
            raise ValueError(f"there is no {path}: make it with amibox phone key --pass {path}") from error
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no file of amibox phone key ({error})") from error

    def save(self, path: Path) -> None:
        """Write it to a file that only its owner can read, whole or not at all."""
        values: dict[str, object] = {
            "vehicle": self.vehicle,
            "name": self.name,
            "box": self.box.hex(),
            "key": self.key.to_bytes().hex(),
            "booking": self.booking.hex(),
            "pass": self.grant.hex(),
        }
        _write_private(path, values)


def _private(path: Path) -> None:
    _check(not path.stat().st_mode & 0o077, f"others may read its key; run: chmod 600 {path}")


def _check(well: bool, otherwise: str) -> None:  # noqa: FBT001 - a verdict
    if not well:
        raise ValueError(otherwise)


def _point(text: str) -> bytes:
    """Return a car's key, or nothing where none is known yet. ValueError."""
    point = bytes.fromhex(text)
    if point:
        AgreementKey.generate().agree(point)
    return point


def _write_private(path: Path, values: dict[str, object]) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(values, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


class Cloud(Protocol):
    """The commune, where the phone has network. Each raises OSError where it hasn't."""

    async def documents(self, vehicle: str, heard: Answer | None) -> list[bytes]:
        """Return what the car should get, in order, given what it said last; a time proof if it wants one."""
        ...

    async def post(self, vehicle: str, batches: list[bytes]) -> None:
        """Hand a car's batches over, at most ``DELIVERY_MAX`` at once; they are the commune's when this returns."""
        ...


class BagError(ValueError):
    """A bag that can't be read. There may be trips in it."""


@dataclass(slots=True)
class Bag:
    """What a phone carries for one car. Kept over visits; a batch stays until the commune has taken it.

    ``heard``: what the car said last, by which the commune knows what it lacks. ``last``: the log and the last row of
    the batches that wait.
    """

    vehicle: str
    down: list[bytes] = field(default_factory=list)
    up: list[bytes] = field(default_factory=list)
    heard: Answer | None = None
    last: tuple[bytes, int] = (b"", 0)

    @classmethod
    def load(cls, path: Path, vehicle: str) -> Self:
        """Read what ``save`` wrote; an empty bag where there is none. BagError: it is damaged, or another car's."""
        try:
            values = json.loads(path.read_text())
            _check(values["vehicle"] == vehicle, f"it is of {values['vehicle']}")
            down, up = ([bytes.fromhex(each) for each in values[way]] for way in ("down", "up"))
            heard = Answer.decode(bytes.fromhex(values["heard"])) if values["heard"] else None
            return cls(vehicle, down, up, heard, (bytes.fromhex(values["last"][0]), int(values["last"][1])))
        except FileNotFoundError:
            return cls(vehicle)
        # OverflowError: a number without end; RecursionError: nested too deep.
        except (KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError, Refused) as error:
            raise BagError(f"{path} is damaged ({error}): trips may be in it; keep it and ask the commune") from error

    def save(self, path: Path) -> None:
        """Write it to a file that only its owner can read, whole or not at all."""
        _write_private(
            path,
            {
                "vehicle": self.vehicle,
                "down": [each.hex() for each in self.down],
                "up": [each.hex() for each in self.up],
                # A question of the time is over with its conversation.
                "heard": replace(self.heard, time_nonce=None).encode().hex() if self.heard is not None else "",
                "last": [self.last[0].hex(), self.last[1]],
            },
        )

    def up_to(self, store_id: bytes) -> int:
        """Return the last row of this log that waits here."""
        return self.last[1] if self.up and self.last[0] == store_id else 0

    async def exchange(self, cloud: Cloud) -> None:
        """Where there is network: hand over what the car gave, and take what it should get. OSError: there is none."""
        while self.up:
            delivery = self.up[:DELIVERY_MAX]
            await cloud.post(self.vehicle, delivery)
            del self.up[: len(delivery)]
        self.down = await cloud.documents(self.vehicle, self.heard)
