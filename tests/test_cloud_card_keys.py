"""Keys of cards: AN10922 by its own example, by RFC 4493 of another's making, and at its bounds."""

from __future__ import annotations

import re

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from cloud_sync.documents.card_keys import APPLICATION, SLOT_MAX, SYSTEM, card_key, diversify

MASTER = bytes(range(16))


def cmac(key: bytes, text: bytes) -> bytes:
    made = CMAC(AES(key))
    made.update(text)
    return made.finalize()


def test_the_example_of_an10922() -> None:
    master, data = "00112233445566778899AABBCCDDEEFF", "04782E21801D803042F54E585020416275"
    assert diversify(bytes.fromhex(master), bytes.fromhex(data)).hex().upper() == "A8DD63A3B89D54B37CA802473FDA9175"


@pytest.mark.parametrize("size", [16, 17, 30, 31])
@pytest.mark.parametrize("master", [bytes([number]) * 16 for number in range(8)])
def test_longer_input_is_authenticated_as_rfc_4493_says(master: bytes, size: int) -> None:
    data = bytes(range(100, 100 + size))
    assert diversify(master, data) == cmac(master, b"\x01" + data)


@pytest.mark.parametrize(
    ("size", "key"),
    [
        (1, "1acf11b1326803b4bdf0710986dc54a4"),
        (14, "8af004e83ab2da6e1f5238bc9d858882"),
        (15, "e9d7c58bc4bedf2c14b17453b3c712c1"),
    ],
)
def test_shorter_input_fills_two_blocks_all_the_same(size: int, key: str) -> None:
    assert diversify(MASTER, bytes(size)).hex() == key


@pytest.mark.parametrize("uid", [bytes(4), bytes(7), bytes(10)])
@pytest.mark.parametrize("slot", [0, 1, SLOT_MAX])
def test_a_cards_key_is_made_of_its_number_our_application_its_slot_and_our_name(uid: bytes, slot: int) -> None:
    assert card_key(MASTER, uid, slot) == diversify(MASTER, uid + APPLICATION + bytes([slot]) + SYSTEM)


@pytest.mark.parametrize(
    ("uid", "slot", "said"),
    [
        *((bytes(size), 1, "a card's number has 4, 7 or 10 bytes") for size in (0, 3, 5, 6, 8, 9, 11)),
        *((bytes(4), slot, "a card has slots 0 to 13") for slot in (-1, SLOT_MAX + 1)),
    ],
)
def test_a_number_or_a_slot_that_no_card_has(uid: bytes, slot: int, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        card_key(MASTER, uid, slot)


@pytest.mark.parametrize(
    ("master", "size", "said"),
    [
        (bytes(15), 1, "a master key has 16 bytes"),
        (bytes(17), 1, "a master key has 16 bytes"),
        (MASTER, 0, "1 to 31 bytes make a key, not 0"),
        (MASTER, 32, "1 to 31 bytes make a key, not 32"),
    ],
)
def test_what_makes_no_key(master: bytes, size: int, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        diversify(master, bytes(size))
