"""The small parts of the core at their edges and to the word: cards, drafts, readings, the battery, answers."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from onboard.core import known, results
from onboard.core.cards import number_fault, typed_number
from onboard.core.clock import ClockQuality, Instant, Span
from onboard.core.commands import Action, SetSupplyLevel, SupplyLevel
from onboard.core.draft import Draft
from onboard.core.events import ActuationOutcome, ActuationSettled, Position, Reading, SupplyReported
from onboard.core.records import AccessDenied, SupplyChanged
from onboard.core.state import Actuation, Answered, Share
from tests.core_kit import POLICY, Kit, booking

EPOCH = bytes([1]) * 8
LIMIT_S = POLICY.remembered_commands_s


def draft(boot_s: float = 10.0, kit: Kit | None = None) -> Draft:
    kit = kit or Kit()
    return Draft(kit.state, Instant(boot_s, 0.0, ClockQuality.UNSET))


# Cards

SET_IT = "Set the reader to hexadecimal, in the order on air, or lay the card on a desk reader"
DECIMAL = "It may be a decimal number, and which card that is nobody can tell."
CUT = (
    "(88 stands before its first three bytes): the reader cuts it. "
    "Set it to whole numbers (7 bytes), or lay the card on a desk reader"
)
LENGTHS = "a card's number has 8, 14 or 20 hexadecimal ones, no fewer for zeros in front."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("XXXXXXXX", "'XXXXXXXX' is no card number: hexadecimal digits are wanted (0 to 9, A to F), as on air"),
        ("04A1", f"04A1 has 4 digits; {LENGTHS} {SET_IT}"),
        ("12345678", f"12345678 has 8 digits; {LENGTHS} {DECIMAL} {SET_IT}"),
        ("88A1B2C3", f"88A1B2C3 is the beginning of a longer number {CUT}"),
    ],
)
def test_what_is_said_of_a_number_that_is_none(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        typed_number(text)


def test_the_mark_of_a_longer_number_stands_in_front_only() -> None:
    assert typed_number("0488B2C3") == bytes.fromhex("0488b2c3")


def test_one_bit_of_what_a_card_answers_says_that_it_makes_numbers_up() -> None:
    assert [sak for sak in range(256) if number_fault(b"\x80123", sak)] == [s for s in range(256) if s & 0x20]
    assert number_fault(b"\x80123") is None


# Drafts


@pytest.mark.parametrize(("after_s", "anew"), [(601.0, False), (3599.9, False), (3600.0, True)])
def test_an_hours_share_lasts_an_hour_from_its_first(after_s: float, *, anew: bool) -> None:
    d = draft(3000.0 + after_s)
    full = Share(3000.0, POLICY.refusals_per_hour_max, 5)
    d.set(refusals=full)
    d.refuse(AccessDenied("unknown", "card"))
    if anew:
        assert d.records == [AccessDenied("flood", "", 5), AccessDenied("unknown", "card")]
        assert d.state.refusals == Share(3000.0 + after_s, 1, 0)
    else:
        assert d.records == []
        assert d.state.refusals == replace(full, counted=6)


@pytest.mark.parametrize(("boot_s", "due_s"), [(101.0, 102.0), (102.0, 102.0), (150.0, 150.0)])
def test_a_status_that_a_change_asks_for_waits_two_seconds_after_the_last(boot_s: float, due_s: float) -> None:
    d = draft(boot_s)
    d.sending(status_sent_s=100.0, status_at_s=500.0)
    d.tell_status()
    assert d.state.sending.status_at_s == due_s
    d.sending(status_at_s=90.0)
    d.tell_status()
    assert d.state.sending.status_at_s == 90.0, "the sooner of two"


# Readings and positions


def test_a_reading_is_fresh_from_when_it_was_taken_to_its_greatest_age() -> None:
    reading = Reading(1.0, 10.0, 5.0)
    assert [reading.fresh(at_s) for at_s in (9.9, 10.0, 15.0, 15.1)] == [False, True, True, False]


@pytest.mark.parametrize(("latitude", "longitude"), [(90.0, 180.0), (-90.0, -180.0), (0.0, 0.0)])
def test_the_poles_and_the_date_line_are_on_earth(latitude: float, longitude: float) -> None:
    assert Position(latitude, longitude, 0.0, 2, None, 0.0).latitude == latitude


@pytest.mark.parametrize(("latitude", "longitude"), [(90.5, 0.0), (-90.5, 0.0), (0.0, 180.5), (0.0, -180.5)])
def test_a_place_beyond_them_is_none(latitude: float, longitude: float) -> None:
    with pytest.raises(ValueError, match=f"^no position: {latitude}, {longitude}, mode 3$"):
        Position(latitude, longitude, 0.0, 3, None, 0.0)


def test_nobodys_card_has_no_key() -> None:
    assert known.card_key(Kit().ready().state, b"nobody--") is None


# The battery


def test_a_battery_of_no_voltage_at_all_is_told_as_such() -> None:
    kit = Kit()
    for _ in range(62):
        kit.give(SupplyReported(0.0), 1.0)
    kit.wait(5.0)
    assert kit.last(SupplyChanged) == SupplyChanged("off", 0.0)
    assert SetSupplyLevel(SupplyLevel.OFF) in kit.commands


# Answers that are remembered


def answered(number: int = 1, who: bytes = b"a", reason: str = "opening", **changes: object) -> Answered:
    base = Answered(
        who, bytes([number]) * 16, "unlock", "accepted", reason, Span(Instant(0.0, 0.0, ClockQuality.UNSET), EPOCH), 7
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # the fields of an answer, as a test wants them


def remembering(*ones: Answered, boot_s: float = 10.0, actuation: Actuation | None = None) -> Draft:
    d = draft(boot_s)
    d.keep(grants=replace(d.kept.grants, answered=ones))
    d.doors(actuation=actuation)
    d.before = d.state
    return d


@pytest.mark.parametrize(
    ("reason", "pulse", "first"), [("opening", True, 7), ("moving", True, 0), ("opening", False, 0)]
)
@pytest.mark.parametrize("status", ["accepted", "denied"])
def test_an_answer_is_remembered_with_the_pulse_that_it_promises(
    reason: str, first: int, status: str, *, pulse: bool
) -> None:
    d = remembering(actuation=Actuation(9, Action.UNLOCK, 3, 0.0, first=7) if pulse else None)
    results.remember(d, b"who", b"c" * 16, "unlock", status, reason)
    expected = Answered(b"who", b"c" * 16, "unlock", status, reason, Span(d.stamp, EPOCH), first)
    assert (d.kept.grants.answered, d.state.denied) == (((), (expected,)) if status == "denied" else ((expected,), ()))


def test_too_many_of_one_persons_answers_cost_their_oldest_and_nobody_elses() -> None:
    kit = Kit(replace(POLICY, remembered_commands_each_max=2, remembered_commands_max=4))
    d = draft(kit=kit)
    for number, who in enumerate((b"a", b"b", b"a", b"a", b"c", b"d"), start=1):
        results.remember(d, who, bytes([number]) * 16, "unlock", "accepted", "moving")
    assert [(one.who, one.command_id[0]) for one in d.kept.grants.answered] == [
        (b"a", 3),
        (b"a", 4),
        (b"c", 5),
        (b"d", 6),
    ]


def test_an_answer_is_forgotten_after_its_day_and_not_at_its_end() -> None:
    old, young = answered(1), answered(2, since=Span(Instant(1.0, 0.0, ClockQuality.UNSET), EPOCH))
    for boot_s, left in ((LIMIT_S, (old, young)), (LIMIT_S + 0.5, (young,)), (LIMIT_S + 1.5, ())):
        d = remembering(old, young, boot_s=boot_s)
        d.set(denied=(old, young))
        before = d.kept.grants, d.state.denied
        results.forget_old(d)
        assert (d.kept.grants.answered, d.state.denied) == (left, left)
        if len(left) == 2:
            assert d.kept.grants is before[0], "nothing is made anew for nothing"
            assert d.state.denied is before[1]


@pytest.mark.parametrize("reason", ["opening", "reopening", "locking", "shut_the_door"])
def test_what_was_promised_before_a_start_is_unknown_after_it(reason: str) -> None:
    d = remembering(answered(1, reason=reason), answered(2, reason="opened"))
    results.on_started(d)
    assert d.kept.grants.answered == (
        answered(1, reason="interrupted", status="unknown"),
        answered(2, reason="opened"),
    )


SENT = (answered(1), answered(2, actuation=8), answered(3, reason="locking"))
"""Two of pulse 7, one of pulse 8."""


def pulse(number: int = 7, attempt: int = 1, action: Action = Action.UNLOCK) -> Actuation:
    return Actuation(number, action, attempt, 0.0, first=7)


@pytest.mark.parametrize(
    ("pending", "outcome", "moved"),
    [
        (pulse(), ActuationOutcome.REFUSED, False),
        (pulse(), ActuationOutcome.DONE, True),
        (pulse(number=9), ActuationOutcome.REFUSED, True),
        (pulse(attempt=2), ActuationOutcome.REFUSED, True),
        (None, ActuationOutcome.REFUSED, True),
    ],
)
def test_a_refused_first_pulse_moved_nothing_and_only_that_one(
    pending: Actuation | None, outcome: ActuationOutcome, *, moved: bool
) -> None:
    d = remembering(*SENT, actuation=pending)
    results.on_settled(d, ActuationSettled(7, outcome, "", 1.0))
    refused = {"status": "denied", "reason": "not_moved"}
    expected = SENT if moved else (replace(SENT[0], **refused), SENT[1], replace(SENT[2], **refused))  # type: ignore[arg-type]
    assert d.kept.grants.answered == expected


@pytest.mark.parametrize(
    ("action", "over", "word"),
    [
        (Action.LOCK, True, "finished"),
        (Action.LOCK, False, "locked"),
        (Action.UNLOCK, True, "locked"),
        (Action.UNLOCK, False, "locked"),
    ],
)
def test_a_promise_that_was_kept_is_called_by_what_it_led_to(action: Action, word: str, *, over: bool) -> None:
    kit = Kit().ready(booking())
    if not over:
        kit.begin()
    d = draft(kit=kit)
    d.keep(grants=replace(d.kept.grants, answered=SENT))
    results.on_confirmed(d, pulse(action=action))
    assert d.kept.grants.answered == (replace(SENT[0], reason="opened"), SENT[1], replace(SENT[2], reason=word))


@pytest.mark.parametrize(
    ("armed", "status", "word"), [(True, "accepted", "shut_the_door"), (False, "unknown", "not_confirmed")]
)
def test_a_promise_that_nothing_confirmed_waits_for_the_door_or_is_unknown(
    status: str, word: str, *, armed: bool
) -> None:
    d = remembering(*SENT)
    results.on_given_up(d, pulse(), armed=armed)
    told = {"status": status, "reason": word}
    assert d.kept.grants.answered == (replace(SENT[0], **told), SENT[1], replace(SENT[2], **told))  # type: ignore[arg-type]


def test_a_lock_that_waited_for_the_door_is_under_way_and_then_waits_no_longer() -> None:
    waiting = answered(1, reason="shut_the_door", actuation=0)
    d = remembering(waiting, SENT[1], actuation=pulse(action=Action.LOCK))
    results.on_armed_lock(d)
    assert d.kept.grants.answered == (replace(waiting, reason="locking", actuation=7), SENT[1])
    late = remembering(replace(waiting, status="unknown"), SENT[1])
    results.on_disarmed(late)
    assert late.kept.grants.answered == (replace(waiting, status="denied", reason="door_open"), SENT[1])
