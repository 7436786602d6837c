"""What the commune and people ask: lists by version, what is kept within bounds, what an intent means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core.commands import Pattern, Reply
from onboard.core.events import (
    AccessRequested,
    CardsRefused,
    Intent,
    ListReceived,
    LockButtonPressed,
    PhoneRefused,
    RemoteCredential,
)
from onboard.core.records import (
    AccessDenied,
    Alert,
    DocumentRefused,
    DoorReopened,
    ListAccepted,
    RentalEnded,
    RentalEndReason,
)
from tests.core_kit import ALICE, BOB, POLICY, T0, Kit, booking, card, listing, phone
from tests.core_people import ANYWHERE, ask, ids, leave, tap

# Lists


def test_a_newer_list_holds_and_raises_the_floors() -> None:
    kit = Kit().ready()
    kit.give(ListReceived(listing(booking(BOB), version=7, issued_at_s=T0 + 50)))
    grants = kit.state.kept.grants
    assert (grants.version_floor, kit.state.kept.floor_s) == (7, T0 + 50)
    assert kit.last(ListAccepted).version == 7
    assert (tap(kit), tap(kit, BOB)) == ("unknown", "opening")


def test_a_list_issued_before_the_floor_does_not_lower_it() -> None:
    kit = Kit(floor_s=T0 + 500.0)
    kit.give(ListReceived(listing(version=3, issued_at_s=T0)))
    assert kit.state.kept.floor_s == T0 + 500


@pytest.mark.parametrize(("version", "told"), [(6, 1), (7, 0)])
def test_a_lower_list_is_refused_and_the_same_one_changes_nothing(version: int, told: int) -> None:
    kit = Kit().ready(version=7)
    before = kit.state.kept.grants
    kit.give(ListReceived(listing(booking(BOB), version=version)))
    assert kit.state.kept.grants == before
    assert [(r.kind, r.reason) for r in kit.all(DocumentRefused)] == [("list", "version_too_low")] * told


def test_a_list_for_another_car_is_refused_whatever_its_version() -> None:
    kit = Kit().ready()
    before = kit.state.kept.grants
    kit.give(ListReceived(listing(booking(BOB), version=99, vehicle="ami-2")))
    assert kit.state.kept.grants == before
    assert kit.last(DocumentRefused).reason == "wrong_vehicle"


@pytest.mark.parametrize(("version", "holds"), [(4, False), (5, True), (6, True)])
def test_after_a_lost_store_only_a_list_at_or_above_the_floor_holds(version: int, holds: bool) -> None:
    kit = Kit()
    grants = replace(kit.state.kept.grants, version_floor=5)
    kit.state = replace(kit.state, kept=replace(kit.state.kept, grants=grants))
    kit.give(ListReceived(listing(booking(), version=version)))
    assert (kit.state.kept.grants.listed is not None) is holds


def test_an_old_list_sent_again_and_again_fills_nothing() -> None:
    kit = Kit().ready(version=7)
    for _ in range(200):
        kit.give(ListReceived(listing(version=1)), 1)
    assert len(kit.all(DocumentRefused)) == 60
    kit.give(ListReceived(listing(version=1)), 3600)
    assert [r.more for r in kit.all(AccessDenied) if r.reason == "flood"] == [140]


@pytest.mark.parametrize(("end_s", "alerts"), [(9000, 2), (3000, 1)])
def test_a_longer_booking_is_overdue_anew_and_a_shorter_one_not_twice(end_s: int, alerts: int) -> None:
    kit = Kit().ready()
    kit.begin()
    kit.wait(4000)
    kit.give(ListReceived(listing(booking(end_s=end_s), version=2)))
    kit.wait(9000)
    assert [a.kind for a in kit.all(Alert)].count("overdue") == alerts


def test_a_booking_made_shorter_ends_the_locked_rental_by_its_new_time() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=ANYWHERE)
    kit.end()
    kit.give(ListReceived(listing(booking(end_s=1000), version=2)))
    kit.wait(1950 - kit.t)
    assert kit.last(RentalEnded).reason is RentalEndReason.TIME_OVER


# Bounds


def test_passes_are_kept_up_to_a_bound_the_newest_ones() -> None:
    kit = Kit().ready()
    for number in range(100):
        who = number.to_bytes(8, "big")
        ask(kit, who, leave(who, start_s=9000, end_s=9999, g=2 + number), Intent.LOCK)
    kept = kit.state.kept.grants.passes
    assert len(kept) == POLICY.passes_max == 64
    assert kept[-1].made_with_version == 101
    ask(kit, bytes(7) + b"\x63", kept[-1], Intent.LOCK)
    assert kit.state.kept.grants.passes == kept, "the same pass again is not kept twice"


def test_answers_are_remembered_up_to_a_bound() -> None:
    kit = Kit().ready()
    for number in range(300):
        ask(kit, number.to_bytes(8, "big"))
    answered = kit.state.denied
    assert len(answered) == POLICY.remembered_commands_max == 256
    assert answered[-1].command_id > answered[0].command_id


def test_a_phone_that_asks_and_asks_pushes_no_other_phones_answer_aside() -> None:
    kit = Kit().ready()
    kit.give(phone(BOB))
    for _ in range(300):
        ask(kit, b"stranger")
    answered = kit.state.denied
    assert len(answered) == 1 + POLICY.remembered_commands_each_max == 33
    assert kit.give(phone(BOB)) == (Reply(1, "denied", "unknown"),), "and nothing is written"
    own = [one.command_id for one in answered[1:]]
    assert own == sorted(own), "its own oldest went"


@pytest.mark.parametrize(("age_s", "told"), [(24 * 3600, True), (24 * 3600 + 1, False)])
def test_an_answer_is_remembered_for_a_day_and_no_longer_also_over_a_boot(age_s: int, told: bool) -> None:
    kit = Kit().ready()
    kit.give(phone(ALICE))
    kit.boot()
    kit.t = 10.0
    kit.clock(off_s=age_s - 10.0)
    kit.give(ListReceived(listing(booking(), version=2)))
    assert bool(kit.state.kept.grants.answered) is told


def test_without_a_clock_after_a_boot_an_answer_is_kept_rather_longer() -> None:
    kit = Kit().ready()
    kit.give(phone(ALICE))
    kit.boot()
    kit.t = 23 * 3600.0
    kit.give(ListReceived(listing(booking(), version=2)))
    assert kit.state.kept.grants.answered
    kit.t = 25 * 3600.0
    kit.give(ListReceived(listing(booking(), version=3)))
    assert not kit.state.kept.grants.answered, "so long this boot alone has lasted"


def test_a_command_asked_again_is_answered_the_same_and_writes_nothing() -> None:
    kit = Kit().ready()
    kit.give(phone(BOB))
    written = len(kit.records)
    for _ in range(5):
        commands = kit.give(phone(BOB))
        assert commands == (Reply(1, "denied", "unknown"),)
    assert len(kit.records) == written


def test_the_same_command_of_another_phone_is_another_command() -> None:
    kit = Kit().ready()
    kit.give(phone(BOB))
    kit.give(phone(ALICE))
    assert kit.word == "opening"


def test_who_knocks_without_waiting_gets_no_reply() -> None:
    kit = Kit().ready()
    assert not [c for c in kit.give(card(request=0)) if isinstance(c, Reply)]


# What an intent means


@pytest.mark.parametrize("intent", [Intent.LOCK, Intent.FINISH])
def test_who_has_no_rental_has_nothing_to_lock_or_finish(intent: Intent) -> None:
    kit = Kit().ready()
    assert ask(kit, intent=intent) == "not_open"
    assert kit.pulses == []


@pytest.mark.parametrize(
    ("locked", "word", "pulses"), [(True, "locked", 2), (None, "locked", 2), (False, "locking", 3)]
)
def test_lock_in_a_stopped_rental_locks_what_the_mechanical_key_opened(
    locked: bool | None, word: str, pulses: int
) -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=ANYWHERE)
    kit.end()
    kit.t += 30
    kit.drive(0.0)
    kit.contacts(locked=locked)
    assert ask(kit, intent=Intent.LOCK) == word
    assert len(kit.pulses) == pulses
    if locked is False:
        kit.settle(locked=True)
        assert kit.state.doors.actuation is None


def test_finish_on_the_road_locks_and_ends_the_rental_anywhere() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=ANYWHERE)
    assert ask(kit, intent=Intent.FINISH) == "locking"
    kit.settle(locked=True)
    assert kit.last(RentalEnded).reason is RentalEndReason.FINISHED


def test_a_tap_soon_after_the_cable_visit_says_finished_and_later_says_over() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.end()
    kit.t += 60
    tap(kit)
    kit.settle(locked=False)
    kit.end()
    kit.t += 5
    assert (tap(kit), kit.shown) == ("finished", Pattern.GRANTED)
    kit.t += 30
    assert tap(kit) == "rental_over"


def test_somebody_elses_tap_soon_after_the_end_is_their_own_affair() -> None:
    kit = Kit().ready(booking(), booking(BOB))
    kit.begin()
    kit.travel()
    kit.end()
    kit.t += 5
    assert tap(kit, BOB) == "opening"


def test_to_open_again_after_a_cut_forgets_the_end_that_was_asked() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.contacts(locked=False)
    kit.give(card())
    kit.boot()
    assert ask(kit) == "opening", "before any report, without a clock"
    assert len(kit.all(DoorReopened)) == 1
    kit.settle(locked=False)
    kit.wait(10)
    kit.contacts(locked=True)
    assert not kit.all(RentalEnded), "the wish to end is from before"
    rental = kit.state.kept.rental
    assert rental is not None
    assert rental.trip is not None


def test_the_button_in_a_car_whose_contacts_are_silent_says_try_again() -> None:
    kit = Kit().ready()
    kit.t += 60
    kit.give(LockButtonPressed())
    assert (kit.shown, kit.last(AccessDenied).reason) == (Pattern.TRY_AGAIN, "door_unknown")


@pytest.mark.parametrize(
    ("reason", "pattern"),
    [("two_cards", Pattern.ONE_CARD), ("unreadable", Pattern.TRY_AGAIN), ("random_uid", Pattern.DENIED)],
)
def test_a_reader_that_sees_no_single_card_says_what_to_do(reason: str, pattern: Pattern) -> None:
    kit = Kit().ready()
    kit.give(CardsRefused(reason))
    assert kit.shown is pattern


def test_a_commands_counter_is_kept_before_anything_is_done_and_over_a_restart() -> None:
    kit = Kit().ready()

    def remote(counter: int) -> str:
        who = RemoteCredential(b"nobody", next(ids).to_bytes(16, "big"), kit.state.boot_epoch, counter, 1e9)
        kit.give(AccessRequested(who, Intent.UNLOCK, 1))
        return kit.word

    assert [remote(4), remote(4), remote(3), remote(5)] == [
        "unknown",
        "command_replayed",
        "command_replayed",
        "unknown",
    ]
    assert kit.state.kept.grants.command_counter == 5
    kit.boot()
    kit.clock()
    assert remote(1) == "unknown", "a new boot counts anew"


@pytest.mark.parametrize(("reason", "shown"), [("not_understood", None), ("bad_proof", Pattern.DENIED)])
def test_a_phone_turned_away_is_written_down_and_noise_lights_no_lamp(reason: str, shown: Pattern | None) -> None:
    kit = Kit().ready()
    kit.commands.clear()
    kit.give(PhoneRefused(reason))
    assert kit.last(AccessDenied) == AccessDenied(reason, "phone")
    assert kit.shown is shown


def said(kit: Kit) -> tuple[str, str]:
    last = [command for command in kit.commands if isinstance(command, Reply)][-1]
    return last.status, last.reason


def test_a_drivers_refused_tap_is_a_touch_all_the_same() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.t += 400.0
    kit.contacts(locked=False)
    kit.wait(10)
    assert kit.state.doors.left_open_told
    tap(kit)
    assert said(kit) == ("denied", "door_unknown")
    assert (kit.state.doors.touched_s, kit.state.doors.left_open_told) == (kit.t, False)


def test_a_lock_is_answered_by_what_is_still_to_be_done() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=ANYWHERE)
    kit.contacts(locked=False, driver_open=True)
    tap(kit)
    assert (said(kit), kit.shown) == (("accepted", "shut_the_door"), Pattern.TRY_AGAIN)
    kit.contacts(locked=False)
    kit.settle(locked=True)
    ask(kit, intent=Intent.LOCK)
    assert said(kit) == ("granted", "locked"), "it is"
    kit.t += 100.0
    kit.contacts(locked=True)
    tap(kit)
    tap(kit)
    assert said(kit) == ("denied", "busy")
    kit.settle(locked=False)
    kit.drive(0.0)
    kit.contacts(locked=False)
    kit.commands.clear()
    tap(kit)
    assert (said(kit), kit.shown) == (("accepted", "locking"), Pattern.GRANTED)


def test_the_habitual_second_tap_after_a_return_is_granted() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.end()
    assert len(kit.all(RentalEnded)) == 1
    kit.commands.clear()
    tap(kit)
    assert (said(kit), kit.shown, kit.pulses) == (("granted", "finished"), Pattern.GRANTED, [])


def test_a_stranger_at_a_busy_latch_is_told_so() -> None:
    kit = Kit().ready(booking(), booking(BOB))
    tap(kit)
    tap(kit, BOB)
    assert said(kit) == ("denied", "busy")
    assert kit.last(AccessDenied).reason == "busy"


def test_a_list_for_another_car_is_written_down_as_that() -> None:
    kit = Kit().ready()
    kit.give(ListReceived(listing(version=9, vehicle="ami-2")))
    assert kit.last(DocumentRefused) == DocumentRefused("list", "wrong_vehicle")
