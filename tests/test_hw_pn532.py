"""The PN532's frames, its listings, and the conversation with the chip in software."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.pn532 import (
    ACK,
    DATA_BYTES_MAX,
    ERROR_FRAME,
    NACK,
    WAKE_UP,
    Control,
    Frame,
    FrameDecoder,
    Information,
    Pn532,
    encode,
    parse_targets,
)
from hw.taps import CardGone, Tap, Target
from hw.worker import AdapterError
from sim.pn532 import SimulatedPn532, Trouble
from tests.card_rig import LONG_CARD, SHORT_CARD, Line, VirtualClock


def decode(data: bytes) -> tuple[list[Frame], Counter[str]]:
    counts: Counter[str] = Counter()
    decoder = FrameDecoder(counts)
    decoder.feed(data)
    frames = []
    while (frame := decoder.next_frame()) is not None:
        frames.append(frame)
    return frames, counts


class Chip:
    """The simulated chip, awake, with a conversation on it."""

    def __init__(self) -> None:
        self.sim = SimulatedPn532()
        self.clock = VirtualClock()
        self.line = Line(self.sim, self.clock)
        self.pn532 = Pn532(self.line.connect, self.clock.boot_s)
        self.pn532.open()
        self.sim.commands.clear()
        self.line.sent = b""
        self.line.asked.clear()
        self.line.timeouts = 0


@pytest.mark.parametrize(
    ("data", "frame"),
    [
        ("d402", "0000ff02fed4022a00"),
        ("d414011400", "0000ff05fbd4140114000300"),
        ("d4320100", "0000ff04fcd4320100f900"),
        ("d44a0200", "0000ff04fcd44a0200e000"),
        ("d50332010607", "0000ff06fad50332010607e800"),
    ],
)
def test_frames_are_those_of_the_user_manual(data: str, frame: str) -> None:
    assert encode(bytes.fromhex(data)).hex() == frame
    assert decode(bytes.fromhex(frame))[0] == [Information(bytes.fromhex(data))]


def test_a_frame_above_255_bytes_is_extended() -> None:
    frame = encode(b"\xd5" * 256)
    assert frame[:8].hex() == "0000ffffff0100ff"
    assert decode(frame)[0] == [Information(b"\xd5" * 256)]
    assert encode(b"\xd5" * 255)[:5].hex() == "0000ffff01"


@pytest.mark.parametrize("size", [0, DATA_BYTES_MAX + 1])
def test_a_frame_that_no_chip_would_take_is_not_built(size: int) -> None:
    with pytest.raises(ValueError, match="1 to 265 bytes"):
        encode(bytes(size))


@given(st.binary(min_size=1, max_size=DATA_BYTES_MAX), st.lists(st.integers(1, 40)))
def test_a_frame_survives_any_cutting(data: bytes, cuts: list[int]) -> None:
    whole = ACK + encode(data)
    decoder = FrameDecoder(Counter())
    frames = []
    while whole:
        size = cuts.pop() if cuts else len(whole)
        decoder.feed(whole[:size])
        whole = whole[size:]
        while (frame := decoder.next_frame()) is not None:
            frames.append(frame)
    assert frames == [Control.ACK, Control.REFUSED if data == b"\x7f" else Information(data)]


@given(st.lists(st.binary(min_size=1, max_size=DATA_BYTES_MAX), min_size=1, max_size=3))
def test_the_decoder_never_asks_for_more_than_the_frame_has(payloads: list[bytes]) -> None:
    stream = b"".join(ACK + encode(b"\xd5" + data[1:]) for data in payloads)
    decoder = FrameDecoder(Counter())
    seen = 0
    while seen < 2 * len(payloads):
        if decoder.next_frame() is not None:
            seen += 1
            continue
        assert decoder.wanted <= len(stream), "it would wait for a byte that does not come"
        decoder.feed(stream[: decoder.wanted])
        stream = stream[decoder.wanted :]
    assert stream in (b"", b"\x00")


def test_a_frame_stripped_to_its_least_is_not_waited_for() -> None:
    decoder = FrameDecoder(Counter())
    stream = bytes.fromhex("00ff01ff7f81 00ff00ff")
    for expected in (Control.REFUSED, Control.ACK):
        while (frame := decoder.next_frame()) is None:
            assert decoder.wanted <= len(stream)
            decoder.feed(stream[: decoder.wanted])
            stream = stream[decoder.wanted :]
        assert frame is expected
    assert stream == b""


def test_acknowledgements_and_the_error_frame_are_told_apart() -> None:
    assert decode(ACK + NACK + ERROR_FRAME)[0] == [Control.ACK, Control.NACK, Control.REFUSED]


def test_leading_garbage_is_dropped_and_counted() -> None:
    frames, counts = decode(bytes.fromhex("80133700") + encode(b"\xd5\x03"))
    assert frames == [Information(b"\xd5\x03")]
    assert counts == {"garbage_bytes": 3}


@pytest.mark.parametrize("at", range(3, 11))
def test_one_wrong_byte_is_never_a_frame(at: int) -> None:
    frame = bytearray(encode(bytes.fromhex("d50332010607")))
    frame[at] ^= 0x10
    frames, counts = decode(bytes(frame))
    assert frames == [Control.DAMAGED]
    assert counts == {"damaged_frames": 1}


def test_a_length_beyond_any_pn532_frame_is_refused_at_once() -> None:
    assert decode(bytes.fromhex("0000ffffff0f00f1"))[0] == [Control.DAMAGED]
    assert decode(bytes.fromhex("0000ff0000"))[0] == [Control.DAMAGED]


def test_a_frame_hidden_in_a_damaged_one_is_not_believed() -> None:
    forged = encode(bytes.fromhex("d54b01010004080411223344"))
    outer = bytearray(encode(bytes.fromhex("d54b010100042004deadbeef") + bytes((len(forged) + 1,)) + forged))
    outer[-2] ^= 0x01
    assert decode(bytes(outer))[0] == [Control.DAMAGED]


@given(st.binary(max_size=600))
def test_any_bytes_give_frames_or_a_count_and_a_bounded_wish(data: bytes) -> None:
    decoder = FrameDecoder(Counter())
    decoder.feed(data)
    while decoder.next_frame() is not None:
        pass
    assert 1 <= decoder.wanted <= DATA_BYTES_MAX + 1


def test_a_listing_without_a_card_is_empty() -> None:
    assert parse_targets(b"\x00") == []


def test_a_card_of_four_bytes_is_read() -> None:
    assert parse_targets(bytes.fromhex("01 01 0004 08 04 deadbeef")) == [Target(bytes.fromhex("deadbeef"), 0x08, b"")]


def test_a_card_with_an_ats_of_sixty_bytes_is_read() -> None:
    ats = bytes((60,)) + bytes(range(59))
    listing = bytes.fromhex("01 01 0344 20 07 04a1b2c3d4e5f6") + ats
    assert parse_targets(listing) == [Target(bytes.fromhex("04a1b2c3d4e5f6"), 0x20, ats)]


def test_two_cards_are_two_targets_though_the_first_has_an_ats() -> None:
    listing = bytes.fromhex("02 01 0344 20 07 04a1b2c3d4e5f6 0675778102 80 02 0004 08 04 deadbeef")
    assert [target.uid.hex() for target in parse_targets(listing)] == ["04a1b2c3d4e5f6", "deadbeef"]


@pytest.mark.parametrize(
    "listing",
    [
        "01",
        "01 01 0004 08",
        "01 01 0004 08 04 deadbe",
        "01 01 0004 08 ff deadbeef",
        "01 01 0004 08 04 deadbeef 00",
        "01 01 0344 20 07 04a1b2c3d4e5f6 09 75",
        "01 01 0344 20 07 04a1b2c3d4e5f6 00",
    ],
)
def test_a_record_that_does_not_add_up_is_a_card_without_a_number(listing: str) -> None:
    assert parse_targets(bytes.fromhex(listing)) == [Target(b"", 0, b"")]


@pytest.mark.parametrize("listing", ["", "03", "ff 01 0004 08 04 deadbeef"])
def test_what_is_no_listing_is_refused(listing: str) -> None:
    with pytest.raises(ValueError, match="no listing"):
        parse_targets(bytes.fromhex(listing))


def test_a_card_s_number_never_shows_in_a_representation() -> None:
    target = parse_targets(bytes.fromhex("01 01 0344 20 07 04a1b2c3d4e5f6 0675778102 80"))[0]
    for shown in (repr(target), repr(Tap(target.uid)), repr(Information(b"\x04\xa1\xb2"))):
        assert "a1" not in shown
        assert "\\xb2" not in shown


def test_opening_wakes_the_chip_and_bounds_its_looking_for_cards() -> None:
    sim, clock = SimulatedPn532(), VirtualClock()
    line = Line(sim, clock)
    Pn532(line.connect, clock.boot_s).open()
    assert sim.commands == [0x14, 0x02, 0x32]
    assert WAKE_UP + encode(bytes.fromhex("d414011400")) in line.sent
    assert encode(bytes.fromhex("d43205ff0102")) in line.sent


def test_no_card_is_an_empty_list_and_costs_no_time_out() -> None:
    chip = Chip()
    chip.pn532.rest()
    chip.line.sent = b""
    assert chip.pn532.poll() == []
    assert chip.line.timeouts == 0
    assert chip.line.sent == encode(bytes.fromhex("d44a0200"))


def test_a_held_card_is_there_at_every_poll_because_the_field_rests_between() -> None:
    chip = Chip()
    chip.sim.present(LONG_CARD)
    for _ in range(5):
        assert [target.uid for target in chip.pn532.poll()] == [bytes.fromhex(LONG_CARD)]
        chip.pn532.rest()


def test_two_cards_in_the_field_are_both_seen() -> None:
    chip = Chip()
    chip.sim.present(LONG_CARD, 0x20, b"\x06\x75\x77\x81\x02\x80")
    chip.sim.present(SHORT_CARD)
    assert len(chip.pn532.poll()) == 2


@pytest.mark.parametrize("trouble", [Trouble.GARBAGE_BEFORE, Trouble.EXTENDED_FRAMES])
def test_an_odd_but_whole_answer_is_read(trouble: Trouble) -> None:
    chip = Chip()
    chip.sim.trouble = trouble
    assert chip.pn532.poll() == []
    assert chip.line.timeouts == 0
    chip.sim.present(SHORT_CARD)
    assert [target.uid for target in chip.pn532.poll()] == [bytes.fromhex(SHORT_CARD)]


@pytest.mark.parametrize(
    ("trouble", "says", "counted"),
    [
        (Trouble.WEDGED_UNTIL_ABORT, "wedged", "missing_acks"),
        (Trouble.NO_ACK, "wedged", "missing_acks"),
        (Trouble.NO_REPLY, "never answered", "missing_replies"),
        (Trouble.TORN_REPLY, "never answered", "missing_replies"),
        (Trouble.DAMAGED_REPLY, "damaged frame", "damaged_frames"),
        (Trouble.ERROR_FRAMES, "refused the command", "refused_commands"),
    ],
)
def test_a_failing_chip_is_an_error_and_never_no_card(trouble: Trouble, says: str, counted: str) -> None:
    chip = Chip()
    chip.sim.present(SHORT_CARD)
    chip.sim.trouble = trouble
    with pytest.raises(AdapterError, match=says) as caught:
        chip.pn532.poll()
    assert caught.value.worth_retrying
    assert not caught.value.may_have_happened
    assert chip.pn532.counts[counted] == 1


def test_a_missing_ack_is_known_within_its_time() -> None:
    chip = Chip()
    chip.sim.trouble = Trouble.WEDGED_UNTIL_RESET
    began_s = chip.clock.now_s
    with pytest.raises(AdapterError):
        chip.pn532.poll()
    assert chip.clock.now_s - began_s <= 0.15


def test_an_abort_frees_a_chip_that_looks_for_ever() -> None:
    chip = Chip()
    chip.sim._looks_for_ever = True
    with pytest.raises(AdapterError, match="never answered"):
        chip.pn532.poll()
    chip.pn532.abort()
    chip.sim.present(SHORT_CARD)
    assert chip.sim.feed(b"") == b"", "it is still looking"
    assert len(chip.pn532.poll()) == 1


def test_a_line_that_never_falls_silent_is_told_and_not_listened_to_for_ever() -> None:
    chip = Chip()

    def babble(size: int = 1, /) -> bytes:
        chip.clock.now_s += 0.005  # what 64 bytes take on a serial line
        return bytes(size)

    chip.line.read = babble  # type: ignore[method-assign]  # another device's line
    with pytest.raises(AdapterError, match="not fall silent"):
        chip.pn532.abort()


def test_a_reply_that_comes_late_is_not_taken_for_the_next_one() -> None:
    chip = Chip()
    late = encode(bytes.fromhex("d54b01010004080411223344"))
    chip.line.waiting += late
    chip.line.reset_input_buffer = lambda: None  # type: ignore[method-assign]  # it comes after the buffer was emptied
    chip.sim.present(SHORT_CARD)
    assert [target.uid.hex() for target in chip.pn532.poll()] == ["deadbeef"]
    assert chip.pn532.counts["stale_frames"] == 1


def test_an_answer_left_in_the_port_is_not_taken_for_a_card() -> None:
    chip = Chip()
    chip.line.waiting += bytes.fromhex("0000ff00ff00") + encode(bytes.fromhex("d54b01010004080411223344"))
    assert chip.pn532.poll() == []


def test_a_reply_to_another_command_is_passed_over() -> None:
    chip = Chip()
    chip.pn532.rest()
    chip.sim.present(SHORT_CARD)
    answer = bytes.fromhex("0000ff00ff00") + encode(bytes.fromhex("d50332010607"))
    write = chip.line.write

    def write_after_a_stranger(data: bytes, /) -> int:
        chip.line.waiting += answer
        return write(data)

    chip.line.write = write_after_a_stranger  # type: ignore[method-assign]  # the stranger comes with the ACK
    assert [target.uid.hex() for target in chip.pn532.poll()] == ["deadbeef"]
    assert chip.pn532.counts["stale_frames"] == 2


@pytest.mark.parametrize(("status", "gone"), [(0x00, False), (0xC0, False), (0x01, True), (0x13, True)])
def test_an_exchange_is_judged_by_the_six_bits_that_name_an_error(status: int, gone: bool) -> None:
    """UM0701-02 section 7.1: the two above say other things of a good answer."""
    chip = Chip()
    chip.line.chip = Saying(bytes((0xD5, 0x41, status)) + b"\x91\x00")
    if gone:
        with pytest.raises(CardGone):
            chip.pn532.exchange(b"\x90")
    else:
        assert chip.pn532.exchange(b"\x90") == b"\x91\x00"


class Saying(SimulatedPn532):
    """A chip that has one answer for everything."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self._said = bytes.fromhex("0000ff00ff00") + encode(answer)

    def feed(self, data: bytes) -> bytes:
        return self._said if data else b""


def test_another_chip_on_the_port_is_told() -> None:
    chip = Chip()
    chip.sim.firmware = bytes.fromhex("33010607")
    with pytest.raises(AdapterError, match="no PN532"):
        chip.pn532.ping()


def test_a_vanished_port_is_an_error_until_it_is_opened_again() -> None:
    chip = Chip()
    chip.line.plugged = False
    with pytest.raises(AdapterError, match="serial port failed"):
        chip.pn532.poll()
    with pytest.raises(AdapterError, match="closed"):
        chip.pn532.poll()
    chip.line.plugged = True
    chip.pn532.open()
    assert chip.pn532.poll() == []
