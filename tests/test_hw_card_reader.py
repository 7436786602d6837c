"""The card reader's worker: what it tells, and how it mends its reader. In virtual time."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.card_reader import Book, CardReader, CardReaderSettings, serial_port
from hw.pn532 import Pn532, encode
from hw.taps import card_ref
from hw.worker import AdapterError, Life
from onboard.core.events import AccessRequested, CardCredential, CardsRefused, Event, FaultReported, Intent
from onboard.core.grants import Assurance
from sim.pn532 import Pn532OnPty, SimulatedCard, SimulatedPn532, Trouble
from tests.card_rig import KEY, LONG_CARD, SHORT_CARD, Line, Play, Rig, VirtualClock

POLL_S = 0.25


def seen(uid: str) -> AccessRequested:
    ref = hmac.new(KEY, bytes.fromhex(uid), hashlib.sha256).digest()[:8]
    return AccessRequested(CardCredential(ref, Assurance.UID), Intent.TAP)


def test_a_tap_is_told_within_one_poll_interval_with_its_reference_only() -> None:
    rig = Rig()
    rig.play(3, (1.0, lambda: rig.chip.present(LONG_CARD, 0x20, b"\x06\x75\x77\x81\x02\x80")))
    [(at_s, event)] = rig.told
    assert event == seen(LONG_CARD)
    assert at_s <= 1.0 + 2 * POLL_S
    assert bytes.fromhex(LONG_CARD).hex() not in repr(rig.told)
    assert isinstance(event, AccessRequested)
    assert isinstance(event.credential, CardCredential)
    assert event.credential.uid == b""
    assert event.asked_s is not None, "what could not be decided in time is not wanted any more"


def test_a_number_leaves_only_while_one_is_waited_for_and_never_a_known_cards() -> None:
    def told(card: str, *, known: bool, capturing: bool) -> bytes:
        clock, chip = VirtualClock(), SimulatedPn532()
        line, events = Line(chip, clock), list[Event]()
        book = Book(lambda _ref: (1, bytes(16)) if known else None, lambda: capturing)
        link = Pn532(line.connect, clock.boot_s)
        worker = CardReader(CardReaderSettings("/dev/card-reader"), clock, KEY, (), link, book)
        worker.run(Life(events.append, lambda: None, Play(clock, [(1.0, lambda: chip.present(card))], 3)))
        [event] = events
        assert isinstance(event, AccessRequested)
        assert isinstance(event.credential, CardCredential)
        return event.credential.uid

    assert told(LONG_CARD, known=False, capturing=True) == bytes.fromhex(LONG_CARD)
    assert told(LONG_CARD, known=False, capturing=False) == b""
    assert told(LONG_CARD, known=True, capturing=True) == b""


def test_the_reader_looks_four_times_a_second_and_rests_between() -> None:
    rig = Rig()
    rig.play(10)
    looks = rig.chip.commands.count(0x4A)
    assert 38 <= looks <= 41
    assert rig.chip.commands.count(0x32) == looks + 2, "the field goes off after each look; twice more at the start"


def test_two_cards_and_a_phone_are_told_as_refusals() -> None:
    rig = Rig()
    events = rig.play(
        20,
        (1.0, lambda: rig.chip.present(LONG_CARD)),
        (1.0, lambda: rig.chip.present(SHORT_CARD)),
        (4.0, rig.chip.remove),
        (8.0, lambda: rig.chip.present("08123456")),
        (12.0, rig.chip.remove),
        (14.0, lambda: rig.chip.present("0812345678")),
    )
    assert events == [CardsRefused("two_cards"), CardsRefused("random_uid"), CardsRefused("unreadable")]
    assert rig.worker.counts["refused_two_cards"] == 1


def test_who_holds_a_card_is_noticed_before_anything_else_whatever_card_it_is() -> None:
    clock, chip = VirtualClock(), SimulatedPn532()
    told: list[object] = []
    book = Book(noticed=lambda: told.append("noticed"))
    link = Pn532(Line(chip, clock).connect, clock.boot_s)
    worker = CardReader(CardReaderSettings("/dev/card-reader"), clock, KEY, (), link, book)
    actions = [
        (1.0, lambda: chip.present(LONG_CARD)),
        (2.0, chip.remove),
        (5.0, lambda: chip.present("08123456")),
        (6.0, chip.remove),
        (9.0, lambda: chip.present(LONG_CARD)),
        (9.0, lambda: chip.present(SHORT_CARD)),
    ]
    worker.run(Life(told.append, lambda: None, Play(clock, actions, 12.0)))
    refused = [CardsRefused("random_uid"), CardsRefused("two_cards")]
    assert told == ["noticed", seen(LONG_CARD), "noticed", refused[0], "noticed", refused[1]]


def test_a_card_listed_in_a_way_nobody_can_read_is_refused_not_a_fault() -> None:
    rig = Rig()
    events = rig.play(
        3, (1.0, lambda: setattr(rig.chip, "cards", [SimulatedCard(bytes.fromhex(LONG_CARD), 0x20, b"\x3c\x75")]))
    )
    assert events == [CardsRefused("unreadable")]


def test_an_idle_reader_is_asked_for_a_sign_of_life_every_ten_seconds() -> None:
    rig = Rig()
    rig.play(61)
    assert rig.worker.counts["pings"] in (5, 6)
    assert rig.chip.commands.count(0x02) == 1 + rig.worker.counts["pings"]


@pytest.mark.parametrize(
    ("trouble", "cure"),
    [
        (Trouble.WEDGED_UNTIL_ABORT, "abort"),
        (Trouble.WEDGED_UNTIL_WOKEN, "wake"),
        (Trouble.WEDGED_UNTIL_RESET, "reset"),
    ],
)
def test_a_wedged_chip_is_mended_by_the_gentlest_cure_and_no_fault_is_told(trouble: Trouble, cure: str) -> None:
    rig = Rig(with_reset=True)
    events = rig.play(
        10,
        (1.0, lambda: setattr(rig.chip, "trouble", trouble)),
        (5.0, lambda: rig.chip.present(SHORT_CARD)),
    )
    assert events == [seen(SHORT_CARD)]
    assert rig.worker.counts[f"mended_{cure}"] == 1
    assert rig.resets == (cure == "reset")


def test_a_card_left_at_a_reader_that_wedges_and_recovers_does_not_tap_again() -> None:
    rig = Rig()
    events = rig.play(
        30,
        (1.0, lambda: rig.chip.present(LONG_CARD)),
        (3.0, lambda: setattr(rig.chip, "trouble", Trouble.WEDGED_UNTIL_RESET)),
        (12.0, rig.chip.power_cycle),
    )
    assert [event for event in events if not isinstance(event, FaultReported)] == [seen(LONG_CARD)]


@pytest.mark.parametrize("trouble", [Trouble.NO_ACK, Trouble.NO_REPLY, Trouble.TORN_REPLY, Trouble.DAMAGED_REPLY])
def test_a_reader_that_no_cure_helps_is_a_fault_told_once_until_it_works_again(trouble: Trouble) -> None:
    rig = Rig()
    events = rig.play(
        200,
        (1.0, lambda: setattr(rig.chip, "trouble", trouble)),
        (150.0, lambda: setattr(rig.chip, "trouble", Trouble.NONE)),
        (180.0, lambda: rig.chip.present(SHORT_CARD)),
    )
    assert [type(event) for event in events] == [FaultReported, FaultReported, AccessRequested]
    began, over = events[:2]
    assert isinstance(began, FaultReported)
    assert began.active
    assert "/dev/card-reader" in began.detail
    assert over == FaultReported("card_reader", active=False)
    assert rig.told[0][0] < 5
    assert 152 <= rig.told[1][0] <= 165, "after at most one wait of 10 s and 2 s of steady work"


def test_an_unplugged_reader_is_a_fault_and_works_when_it_is_back() -> None:
    rig = Rig()
    events = rig.play(
        40,
        (1.0, lambda: setattr(rig.line, "plugged", False)),
        (20.0, lambda: setattr(rig.line, "plugged", True)),
        (20.0, rig.chip.power_cycle),
        (35.0, lambda: rig.chip.present(SHORT_CARD)),
    )
    assert [isinstance(event, FaultReported) and event.active for event in events] == [True, False, False]
    assert events[-1] == seen(SHORT_CARD)
    assert rig.worker.counts["mended_reopen"] == 1


def test_a_reader_missing_at_the_start_is_a_fault_and_not_an_end() -> None:
    rig = Rig()
    rig.line.plugged = False
    events = rig.play(30, (10.0, lambda: setattr(rig.line, "plugged", True)))
    assert [isinstance(event, FaultReported) and event.active for event in events] == [True, False]


class LooseLine(Line):
    """A plug that works for a second at every other attempt."""

    def __init__(self, chip: SimulatedPn532, clock: VirtualClock) -> None:
        super().__init__(chip, clock)
        self.attempts = 0
        self.fails_s = 0.0

    def connect(self) -> Line:
        self.attempts += 1
        if self.attempts % 2:
            raise OSError(5, "Input/output error")
        self.fails_s = self.clock.now_s + 1.0
        return super().connect()

    def write(self, data: bytes, /) -> int:
        if self.clock.now_s >= self.fails_s:
            raise OSError(5, "Input/output error")
        return super().write(data)


def test_a_flapping_reader_is_told_as_one_fault() -> None:
    clock = VirtualClock()
    line = LooseLine(SimulatedPn532(), clock)
    events: list[Event] = []
    worker = CardReader(CardReaderSettings("/dev/x"), clock, KEY, (), Pn532(line.connect, clock.boot_s))
    worker.run(Life(events.append, lambda: None, Play(clock, [], 120)))
    assert line.attempts > 20
    assert [isinstance(event, FaultReported) and event.active for event in events] == [True]


def test_a_stopped_worker_has_given_its_port_back() -> None:
    rig = Rig()
    rig.play(2)
    assert rig.chip.commands
    assert not rig.line.opened


def test_attempts_on_a_dead_reader_back_off_to_ten_seconds() -> None:
    rig = Rig()
    rig.line.plugged = False
    rig.play(600)
    assert 60 <= rig.worker.counts["failures"] <= 66


def test_after_a_steady_spell_the_next_outage_is_tried_soon_again() -> None:
    rig = Rig()

    def plug(*, into: bool) -> None:
        rig.line.plugged = into

    rig.play(
        75,
        (1.0, lambda: plug(into=False)),
        (50.0, lambda: plug(into=True)),
        (70.0, lambda: plug(into=False)),
        (70.9, lambda: plug(into=True)),
    )
    faults = [at_s for at_s, event in rig.told if isinstance(event, FaultReported) and not event.active]
    assert 70 < faults[-1] < 74


def test_the_worker_beats_at_least_every_five_seconds_whatever_happens() -> None:
    rig = Rig(with_reset=True)
    rig.play(
        120,
        (20.0, lambda: setattr(rig.chip, "trouble", Trouble.NO_REPLY)),
        (60.0, lambda: setattr(rig.line, "plugged", False)),
    )
    gaps_s = [later - sooner for sooner, later in zip(rig.beats_s, rig.beats_s[1:], strict=False)]
    assert max(gaps_s) < 5


def test_a_reset_that_fails_is_one_more_failed_cure() -> None:
    def broken() -> None:
        raise AdapterError("no such pin", may_have_happened=False, worth_retrying=False)

    clock, chip = VirtualClock(), SimulatedPn532()
    line = Line(chip, clock)
    line.plugged = False
    events: list[Event] = []
    link = Pn532(line.connect, clock.boot_s)
    worker = CardReader(CardReaderSettings("/dev/card-reader"), clock, KEY, (("reset", broken),), link)
    worker.run(Life(events.append, lambda: None, Play(clock, [], 5)))
    [fault] = events
    assert isinstance(fault, FaultReported)
    assert "no such pin" in fault.detail


class Babbler(Line):
    """A line on which the other end says whatever the test wants."""

    def __init__(self, clock: VirtualClock, answers: list[bytes]) -> None:
        super().__init__(SimulatedPn532(), clock)
        self._answers = answers
        self.said = b""

    def write(self, data: bytes, /) -> int:
        answer = self._answers.pop() if self._answers else b""
        self.said += answer
        self.waiting += answer
        return len(data)


def flipped(at: int) -> bytes:
    """Return a listing of one card with a bit wrong somewhere."""
    answer = bytearray(bytes.fromhex("0000ff00ff00") + encode(bytes.fromhex("d54b010100040804deadbeef")))
    answer[at % len(answer)] ^= 1 << at % 8
    return bytes(answer)


def listed_once(said: bytes) -> set[bytes]:
    """Return the numbers in all whole, undamaged listings of one card, wherever they begin."""
    found = set()
    for at in range(len(said) - 5):
        size = said[at + 2]
        data = said[at + 4 : at + 4 + size]
        whole = said[at : at + 2] == b"\x00\xff" and (size + said[at + 3]) % 256 == 0 and len(said) > at + 4 + size
        if whole and sum(said[at + 4 : at + 5 + size]) % 256 == 0 and data[:3] == b"\xd5\x4b\x01" and size > 7:
            found.add(data[8 : 8 + data[7]])
    return found


pieces = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            bytes.fromhex("0000ff00ff00"),
            bytes.fromhex("0000ff00ff00") + encode(bytes.fromhex("d515")),
            bytes.fromhex("0000ff00ff00") + encode(bytes.fromhex("d50332010607")),
            bytes.fromhex("0000ff00ff00") + encode(bytes.fromhex("d533")),
            bytes.fromhex("0000ff00ff00") + encode(bytes.fromhex("d54b00")),
            bytes.fromhex("0000ff00ff00") + encode(bytes.fromhex("d54b0101000408041122334499")),
        ]
    ),
    st.integers(0, 400).map(flipped),
    st.tuples(st.integers(0, 3), st.binary(max_size=30)).map(
        lambda listing: bytes.fromhex("0000ff00ff00") + encode(bytes((0xD5, 0x4B, listing[0])) + listing[1])
    ),
)


OPENING = [
    bytes.fromhex(answer)
    for answer in (
        "",
        "0000ff00ff000000ff02fed5151600",
        "0000ff00ff000000ff06fad50332010607e800",
        *["0000ff00ff000000ff02fed533f800"] * 2,
    )
]


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces, max_size=30), st.booleans())
def test_no_bytes_from_the_chip_crash_the_worker_or_make_up_a_card(answers: list[bytes], awake: bool) -> None:
    clock = VirtualClock()
    line = Babbler(clock, [*reversed(answers), *(reversed(OPENING) if awake else ())])
    worker = CardReader(CardReaderSettings("/dev/x"), clock, KEY, (), Pn532(line.connect, clock.boot_s))
    events: list[Event] = []
    worker.run(Life(events.append, lambda: None, Play(clock, [], 12)))
    possible = {card_ref(KEY, uid) for uid in listed_once(line.said)}
    for event in events:
        if isinstance(event, AccessRequested):
            assert isinstance(event.credential, CardCredential)
            assert event.credential.ref in possible


def test_a_well_formed_reply_among_babble_is_a_card() -> None:
    """The other half of the test above: such a line does let a true card through."""
    clock = VirtualClock()
    ack = bytes.fromhex("0000ff00ff00")
    true_reply = ack + encode(bytes.fromhex("d54b0101000408 04 deadbeef"))
    line = Babbler(clock, [true_reply, *reversed(OPENING)])
    worker = CardReader(CardReaderSettings("/dev/x"), clock, KEY, (), Pn532(line.connect, clock.boot_s))
    events: list[Event] = []
    worker.run(Life(events.append, lambda: None, Play(clock, [], 1)))
    assert events[0] == seen(SHORT_CARD)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"port": ""}, "needs a port"),
        ({"port": "/dev/x", "baud_rate": 1200}, "9600 to 1288000"),
        ({"port": "/dev/x", "poll_interval_s": 5.0}, "0.05 to 1.0"),
        ({"port": "/dev/x", "proof_max_s": 5.0}, "0.05 to 2.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CardReaderSettings(**wrong)  # type: ignore[arg-type]  # that is the point


def test_a_short_box_key_is_refused() -> None:
    with pytest.raises(ValueError, match="15 bytes"):
        CardReader(CardReaderSettings("/dev/x"), VirtualClock(), bytes(15))


def test_no_two_programs_share_the_port() -> None:
    reader = Pn532OnPty()
    chosen = CardReaderSettings(reader.open())
    first = serial_port(chosen)
    with pytest.raises(OSError, match="exclusively lock"):
        serial_port(chosen)
    first.close()
    serial_port(chosen).close()
    reader.close()


def test_a_port_that_does_not_exist_is_an_os_error() -> None:
    with pytest.raises(OSError, match="no-such-port"):
        serial_port(CardReaderSettings("/dev/no-such-port"))
