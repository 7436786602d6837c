"""Files that people carry: the configuration, the provisioning file, a phone's wallet and its bag."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents import Refused, decode_key_set
from cloud_sync.documents.conversation import Answer
from cloud_sync.documents.kinds import DocumentType
from cloud_sync.provisioning import KEYS, PROVISIONING, load_provisioning
from onboard.config import ConfigError, check_devices, load_config
from onboard.core.policy import Policy
from sim.fuzz.door import Door, Harness, right
from sim.fuzz.feed import Feed, changed
from sim.fuzz.papers import changed_payload
from sim.fuzz.world import BOOKING, BOX, BOX_V, CAR, PHONE, STORE_ID, forged, honest
from sim.phone_wallet import Bag, BagError, Wallet

RAW, CHANGED = range(2)
"""The first byte of an input: the rest is the file, or how an honest one is changed."""
EXAMPLE: Final = Path(__file__).parents[2] / "systemd" / "amibox.toml"

KIND: Final = DocumentType.BOX_ANSWER
_WALLET: Final[dict[str, Any]] = {
    "vehicle": CAR,
    "name": "AmiBox-1A2B",
    "box": BOX_V.public.hex(),
    "key": PHONE.to_bytes().hex(),
    "booking": BOOKING.id.hex(),
    "pass": "",
}
_BAG: Final[dict[str, Any]] = {
    "vehicle": CAR,
    "down": ["00"],
    "up": ["00ff"],
    "heard": Answer("ok", up_to_seq=3).encode().hex(),
    "last": [STORE_ID.hex(), 3],
}


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)


def open_config(folder: Path, _ending: ExitStack) -> Harness:
    """The box's configuration, read as the box reads it; every mistake can be told."""
    path = folder / "box.toml"

    def run(data: bytes) -> None:
        _write(path, data)
        try:
            config = load_config(path)
        except ConfigError as refused:
            right(refused.problems and all(each.line >= 1 for each in refused.problems), "a refusal without a place")
            str(refused).encode()
            return
        for problem in check_devices(config):
            str(problem).encode()
        for each in fields(Policy):
            value = getattr(config.policy, each.name)
            right(not isinstance(value, float) or math.isfinite(value), f"policy.{each.name} is {value}")

    return run


def open_provisioning(folder: Path, _ending: ExitStack) -> Harness:
    """The commune's answer, which makes a box a car's: raw, or signed and sealed to this box."""
    path, keys = folder / PROVISIONING, folder / KEYS
    keys.mkdir(mode=0o700)
    BOX_V.save(keys / "agreement.pem")
    BOX.save(keys / "signing.pem")
    _write(keys / "request.cbor", honest()[DocumentType.BOX_REQUEST])

    def run(data: bytes) -> None:
        feed = Feed(data)
        raw = feed.below(2) == RAW
        try:
            _write(path, feed.rest() if raw else forged(KIND, changed_payload(KIND, feed)))
            given = load_provisioning(path)
        except (Refused, ValueError):
            return
        right(decode_key_set(given.key_set, given.roots).version == given.key_set_floor, "a floor below its key set")

    return run


def _json(honest_one: dict[str, Any], data: bytes) -> bytes:
    feed = Feed(data)
    if feed.below(2) == RAW:
        return feed.rest()
    return json.dumps(changed(honest_one, feed, keys=Feed.words, binary=False)).encode()


def open_wallet(folder: Path, _ending: ExitStack) -> Harness:
    """What a phone holds for a booking."""
    path = folder / "wallet.json"

    def run(data: bytes) -> None:
        _write(path, _json(_WALLET, data))
        try:
            Wallet.load(path).save(folder / "again.json")
        except ValueError as refused:
            str(refused).encode("utf-8", "backslashreplace")
            return
        Wallet.load(folder / "again.json")

    return run


def open_bag(folder: Path, _ending: ExitStack) -> Harness:
    """What a phone carries for a car. There may be trips in it: what is taken can be kept again."""
    path = folder / "bag.json"

    def run(data: bytes) -> None:
        _write(path, _json(_BAG, data))
        try:
            bag = Bag.load(path, CAR)
        except BagError:
            return
        bag.save(folder / "again.json")
        right(Bag.load(folder / "again.json", CAR).up == bag.up, "trips were lost in a bag")

    return run


def _deep(opens: bytes, before: bytes) -> list[bytes]:
    """Return what is nested deep and too deep, and a number too long for Python."""
    return [before + opens * 20, before + opens * 1200, before + b"9" * 5000]


def _config_seeds() -> Sequence[bytes]:
    text = EXAMPLE.read_bytes()
    bare = b"\n".join(line.removeprefix(b"#") if b" = " in line else line for line in text.split(b"\n"))
    short = b"\n".join(line for line in text.split(b"\n") if line and not line.startswith(b"#"))
    odd = b'[car]\nmodel = "ami"\n[[station]]\nid = "a"\nname = "A"\nlatitude = 48.0\nlongitude = -1.5\n'
    return [
        text,
        bare,
        short,
        odd,
        b'x = {a = [1, {b = 1979-05-27T07:32:00Z}]}\n"k" = """m"""\n',
        *_deep(b"[", b"a = "),
        *_deep(b"{b = ", b"a = "),
    ]


def _json_seeds(honest_one: dict[str, Any]) -> Sequence[bytes]:
    changes = [bytes((CHANGED, 1, place, how, 0, 3)) for place in range(8) for how in range(8)]
    return [
        bytes((RAW,)) + json.dumps(honest_one).encode(),
        bytes((RAW,)) + b"[[[[1e400, -1]]]]",
        *_deep(b"[", bytes((RAW,))),
        *changes,
    ]


DOORS: Final = (
    # A file of some hundred lines, looked at line by line and written to a disk first.
    Door("config", "the box's configuration", open_config, _config_seeds, worst_s=0.1, bytes_max=8192),
    Door(
        "provisioning",
        "the answer that makes a box a car's",
        open_provisioning,
        lambda: [
            bytes((RAW,)) + honest()[KIND],
            *(bytes((CHANGED, 1, place, how, 0, 3)) for place in range(12) for how in range(8)),
        ],
        # Three keys are read and as many signatures looked at.
        worst_s=0.05,
    ),
    Door(
        "wallet",
        "what a phone holds for a booking",
        open_wallet,
        lambda: _json_seeds(_WALLET),
        worst_s=0.05,
        bytes_max=8192,
    ),
    Door("bag", "what a phone carries for a car", open_bag, lambda: _json_seeds(_BAG), worst_s=0.05, bytes_max=8192),
)
