"""The card that proves itself: NXP's published vectors, and a simulated card that is right, wrong, or breaks off."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.documents import card_keys
from cloud_sync.documents.card_keys import card_key, diversify
from hw import desfire
from hw.desfire import APPLICATION, FACTORY_KEY, NotProven, Session, authenticate, personalise, prove, session_keys
from sim.desfire import CardLeft, DesfireCard

UID = bytes.fromhex("04782e21801d80")
MASTER = bytes(range(16))
KEYS = {number: card_key(MASTER, UID, number) for number in range(desfire.SLOTS + 1)}


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


class Scripted:
    """A card that says what the application note says, to exactly what it says it is asked."""

    def __init__(self, *steps: tuple[str, str]) -> None:
        self.steps = [(octets(command), octets(answer)) for command, answer in steps]

    def __call__(self, command: bytes) -> bytes:
        expected, answer = self.steps.pop(0)
        assert command == expected
        return answer


# AN12196 (NTAG 424 DNA features and hints), AuthenticateEV2First with key 0 = 16 zero bytes.
RND_A = octets("13C5DB8A5930439FC3DEF9A4C675360F")
FIRST = (
    ("9071000002000000", "A04C124213C186F22399D33AC2A3021591AF"),
    (
        "90AF00002035C3E05A752E0144BAC0DE51C1F22C56B34408A23D8AEA266CAB947EA8E0118D00",
        "3FA64DB5446D1F34CD6EA311167F5E4985B89690C04A05F17FA7AB2F081206639100",
    ),
)
ENCRYPTION_KEY = octets("4CF3CB41A22583A61E89B158D252FC53")
MAC_KEY = octets("5529860B2FC5FB6154B7F28361D30BF9")
TRANSACTION = octets("7614281A")


def test_authentication_as_an12196_has_it() -> None:
    session = authenticate(Scripted(*FIRST), 0, FACTORY_KEY, lambda _size: RND_A)
    assert session.transaction == octets("9D00C4DF")
    assert session.encryption_key == octets("1309C877509E5A215007FF0ED19CA564")
    assert session.mac_key == octets("4C6626F5E72EA694202139295C7A7FC7")


def test_session_keys_of_another_published_example() -> None:
    """Believed to be AN12343's; it agrees with itself."""
    ours, theirs = octets("B04D0787C93EE0CC8CACC8E86F16C6FE"), octets("FA659AD0DCA738DD65DC7DC38612AD81")
    assert session_keys(FACTORY_KEY, ours, theirs) == (
        octets("63DC07286289A7A6C0334CA31C314A04"),
        octets("774F26743ECE6AF5033B6AE8522946F6"),
    )


def test_another_key_is_changed_as_an12196_table_26_has_it() -> None:
    session = Session(0, TRANSACTION, ENCRYPTION_KEY, MAC_KEY, counter=2)
    card = Scripted(
        (
            "90C4000029022CF362B7BF4311FF3BE1DAA295E8C68DE09050560D19B9E16C2393AE9CD1FAC75D0CE20BCD1D06E600",
            "203BB55D1089D5879100",
        )
    )
    session.change_key(card, 2, octets("F3847D627727ED3BC9C4CC050489B966"))
    assert session.counter == 3


def test_the_sessions_own_key_is_changed_as_an12196_table_27_has_it() -> None:
    session = Session(0, TRANSACTION, ENCRYPTION_KEY, MAC_KEY, counter=3)
    card = Scripted(
        ("90C400002900C0EB4DEEFEDDF0B513A03A95A75491818580503190D4D05053FF75668A01D6FDA6610234BDED643200", "9100")
    )
    session.change_key(card, 0, octets("5004BF991F408672B1EF00F08F9E8647"))


def test_an_answer_with_a_wrong_mac_changes_nothing_that_we_believe() -> None:
    session = Session(0, TRANSACTION, ENCRYPTION_KEY, MAC_KEY, counter=2)
    with pytest.raises(NotProven) as refused:
        session.change_key(lambda _command: octets("203BB55D1089D5889100"), 2, bytes(16))
    assert refused.value.forged


def test_a_key_of_an10922() -> None:
    master, data = octets("00112233445566778899AABBCCDDEEFF"), octets("04782E21801D803042F54E585020416275")
    assert diversify(master, data) == octets("A8DD63A3B89D54B37CA802473FDA9175")


@given(st.binary(min_size=16, max_size=31), st.binary(min_size=16, max_size=16))
def test_from_16_bytes_on_an10922_is_rfc_4493_after_a_1(data: bytes, master: bytes) -> None:
    assert diversify(master, data) == desfire._cmac(master, b"\x01" + data)


@given(st.binary(min_size=1, max_size=14))
def test_shorter_input_is_padded_to_two_blocks(data: bytes) -> None:
    assert diversify(MASTER, data) != desfire._cmac(MASTER, b"\x01" + data)


@pytest.mark.parametrize("data", [b"", bytes(32)])
def test_input_out_of_bounds_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="1 to 31"):
        diversify(MASTER, data)


def test_every_card_slot_and_master_has_a_key_of_its_own() -> None:
    uids = (UID, UID[:-1] + b"\x81", UID[:4], UID + b"\x01\x02\x03")
    keys = [card_key(m, uid, slot) for m in (MASTER, bytes(16)) for uid in uids for slot in range(14)]
    assert len(set(keys)) == len(keys)
    assert card_keys.APPLICATION == APPLICATION
    assert card_keys.SLOT_MAX == desfire.SLOTS


@pytest.mark.parametrize(("uid", "slot"), [(bytes(5), 1), (b"", 1), (UID, 14), (UID, -1)])
def test_what_has_no_key_is_refused(uid: bytes, slot: int) -> None:
    with pytest.raises(ValueError, match="card"):
        card_key(MASTER, uid, slot)


# A simulated card


def ours() -> DesfireCard:
    card = DesfireCard(UID)
    personalise(card.apdu, KEYS)
    return card


def test_a_new_card_is_given_its_keys_and_proves_each() -> None:
    card = ours()
    assert card.applications == {APPLICATION: [KEYS[number] for number in range(14)]}
    for number, key in KEYS.items():
        prove(card.apdu, number, key)


@pytest.mark.parametrize("after", range(64))
def test_a_card_taken_away_while_it_is_written_is_written_to_its_end_the_next_time(after: int) -> None:
    card = DesfireCard(UID, leaves_after=after)
    try:
        personalise(card.apdu, KEYS)
    except CardLeft:
        card.leaves_after = None
        card.field_off()
        personalise(card.apdu, KEYS)
    assert card.applications == {APPLICATION: [KEYS[number] for number in range(14)]}


def test_a_copy_of_its_number_does_not_prove_itself() -> None:
    blank, other = DesfireCard(UID), DesfireCard(UID)
    personalise(other.apdu, {number: bytes([number + 1]) * 16 for number in range(14)})
    for copy, forged in ((blank, False), (other, True)):
        with pytest.raises(NotProven) as refused:
            prove(copy.apdu, 1, KEYS[1])
        assert refused.value.forged is forged


def test_the_key_of_one_car_proves_nothing_to_another() -> None:
    card = ours()
    with pytest.raises(NotProven):
        prove(card.apdu, 2, KEYS[1])


sizes = st.one_of(st.sampled_from([0, 15, 16, 17, 31, 32, 33, 48]), st.integers(0, 60)).flatmap(
    lambda size: st.binary(min_size=size, max_size=size)
)


@given(st.binary(max_size=40), sizes, sizes)
def test_no_answer_that_is_made_up_proves_anything(anything: bytes, challenge: bytes, answer: bytes) -> None:
    """However far it comes: the status of each answer is the one that is waited for, its length any."""
    begun, asked = b"\x91\x00", b"\x91\xaf"
    for said in ([anything] * 3, [begun, anything, anything], [begun, challenge + asked, answer + begun]):
        answers = iter(said)
        with pytest.raises(NotProven):
            prove(lambda _command, answers=answers: next(answers), 1, KEYS[1])  # type: ignore[misc]


@given(st.integers(0, 2), st.integers(0, 33 * 8 - 1))
def test_a_flipped_bit_in_any_answer_proves_nothing(which: int, bit: int) -> None:
    card, count = ours(), iter(range(9))

    def flipped(command: bytes) -> bytes:
        answer = card.apdu(command)
        if next(count) != which:
            return answer
        whole = int.from_bytes(answer, "big") ^ 1 << (bit % (len(answer) * 8))
        return whole.to_bytes(len(answer), "big")

    with pytest.raises(NotProven):
        prove(flipped, 1, KEYS[1])


def test_recorded_answers_prove_nothing_a_second_time() -> None:
    card, heard = ours(), list[bytes]()

    def recording(command: bytes) -> bytes:
        heard.append(card.apdu(command))
        return heard[-1]

    prove(recording, 1, KEYS[1])
    replayed = iter(heard)
    with pytest.raises(NotProven):
        prove(lambda _command: next(replayed), 1, KEYS[1])


def test_no_key_is_shown() -> None:
    session = Session(0, b"TTTT", MASTER, KEYS[1])
    assert MASTER.hex() not in repr(session)
    assert KEYS[1].hex() not in repr(session)
    assert repr(MASTER) not in repr(session)


def test_the_key_of_a_slot_is_made_of_number_application_slot_and_system_in_this_order() -> None:
    """A master that is asked otherwise makes other keys, and every card that is out opens nothing any more."""
    said = bytes.fromhex("04782e21801d80") + bytes.fromhex("494d41") + b"\x03" + b"AmiBox"
    assert card_key(bytes(range(16)), bytes.fromhex("04782e21801d80"), 3) == diversify(bytes(range(16)), said)
    mac = CMAC(AES(bytes(range(16))))
    mac.update(b"\x01" + said)  # 17 bytes and more: AN10922 is RFC 4493 then
    assert card_key(bytes(range(16)), bytes.fromhex("04782e21801d80"), 3) == mac.finalize()


def test_the_application_is_made_with_settings_that_let_nobody_else_change_it() -> None:
    card, said = DesfireCard(UID), []

    def overheard(command: bytes) -> bytes:
        said.append(command)
        return card.apdu(command)

    personalise(overheard, {number: bytes([number + 1]) * 16 for number in range(desfire.SLOTS + 1)})
    [create] = [command for command in said if command[1] == 0xCA]
    # Key settings 0x0B: changing keys takes key 0; the list is free; making more takes key 0; these can be changed.
    assert create.hex() == "90ca000005" + "494d41" + "0b" + "8e" + "00"


def test_a_card_that_says_yes_and_writes_nothing_is_not_taken_for_written() -> None:
    card = DesfireCard(UID)

    def pretends(command: bytes) -> bytes:
        kept = [*card.applications.get(APPLICATION, ())]
        answer = card.apdu(command)
        if command[1] == 0xC4 and command[5] == 5:
            card.applications[APPLICATION] = kept
        return answer

    with pytest.raises(NotProven):
        personalise(pretends, {number: bytes([number + 1]) * 16 for number in range(desfire.SLOTS + 1)})


def test_a_card_that_refuses_the_application_is_told_so() -> None:
    card = DesfireCard(UID)
    with pytest.raises(NotProven, match="could not be made"):
        personalise(lambda command: b"\x91\x9d" if command[1] == 0xCA else card.apdu(command), {0: bytes(16)})
