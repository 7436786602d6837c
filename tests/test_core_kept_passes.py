"""Which passes and terms a box keeps when a list comes and when their time is over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core import request
from onboard.core.clock import Anchor, ClockQuality, Instant
from onboard.core.draft import Draft
from onboard.core.events import AccessRequested, Intent, ListReceived, RemoteCredential
from onboard.core.grants import Assurance, CardGrant
from tests.core_kit import ALICE, BOB, POLICY, T0, Kit, booking, listing
from tests.core_people import ask, ids, leave, tap


def kept(kit: Kit) -> set[bytes]:
    return {p.driver for p in kit.state.kept.grants.passes}


def test_a_newer_list_takes_the_passes_that_it_outdates_but_for_the_one_of_who_is_in_the_car() -> None:
    kit = Kit().ready()
    for number, who in enumerate((ALICE, BOB, b"carol---"), start=2):
        start_s = 5000 * (number - 2)
        ask(kit, who, leave(who, start_s, start_s + 3600, g=number), Intent.LOCK)
    ask(kit, ALICE)
    assert kit.state.kept.rental is not None
    assert kept(kit) == {ALICE, BOB, b"carol---"}
    kit.give(ListReceived(listing(booking(), version=3)))
    assert kept(kit) == {ALICE, b"carol---"}


@pytest.mark.parametrize(("at_s", "left"), [(4500, {ALICE, BOB}), (4501, {ALICE})])
def test_a_pass_is_forgotten_once_it_has_surely_expired_but_for_the_one_of_who_is_in_the_car(
    at_s: int, left: set[bytes]
) -> None:
    kit = Kit().ready()
    for who in (ALICE, BOB):
        ask(kit, who, leave(who, g=2), Intent.LOCK)
    ask(kit, ALICE)
    now = Instant(float(at_s), 0.0, ClockQuality.UNSET)
    here_s = float(T0 + at_s)
    d = Draft(replace(kit.state, anchor=Anchor(now.boot_s, here_s, here_s, ClockQuality.AUTHENTICATED)), now)
    request.forget_old_passes(d)
    assert {p.driver for p in d.kept.grants.passes} == left


def test_a_sky_makes_no_pass_forgotten_whatever_it_says() -> None:
    kit = Kit().ready()
    ask(kit, BOB, leave(BOB, g=2), Intent.LOCK)
    kit.boot()
    kit.clock(off_s=86_400.0)
    kit.wait(7200.0)
    kit.contacts(locked=True)
    assert kept(kit) == {BOB}, "it opens nothing now, and is there when the right sky comes back"
    kit.clock(ClockQuality.AUTHENTICATED)
    kit.wait(7200.0)
    kit.contacts(locked=True)
    assert kept(kit) == set(), "over by a signed time"


@pytest.mark.parametrize(("end_s", "told"), [(3600, True), (3500, True), (3601, False)])
def test_only_a_longer_booking_is_overdue_anew(end_s: int, told: bool) -> None:
    kit = Kit().ready()
    kit.begin()
    running = kit.state.kept.rental
    assert running is not None
    kit.state = replace(kit.state, kept=replace(kit.state.kept, rental=replace(running, overdue_told=True)))
    kit.give(ListReceived(listing(booking(end_s=end_s, dropoff="bazouges"), version=2)))
    running = kit.state.kept.rental
    assert running is not None
    assert (running.booking.end_s, running.overdue_told) == (T0 + end_s, told)


@pytest.mark.parametrize(("late_s", "word"), [(0.0, "unknown"), (0.5, "command_too_old")])
def test_a_remote_command_counts_to_its_last_moment(late_s: float, word: str) -> None:
    kit = Kit().ready()
    who = RemoteCredential(b"nobody", next(ids).to_bytes(16, "big"), kit.state.boot_epoch, 1, kit.t + 10.0)
    kit.t += 10.0 + late_s
    kit.give(AccessRequested(who, Intent.UNLOCK, 1))
    assert kit.word == word


@pytest.mark.parametrize(("start_s", "word"), [(0, "opening"), (9 * 86_400, "clock_unproven")])
def test_without_a_clock_who_the_list_names_comes_in_on_the_pass_terms_within_the_lists_horizon(
    start_s: int, word: str
) -> None:
    kit = Kit(replace(POLICY, unproven_start=True)).ready(booking(cards=(CardGrant(ALICE, Assurance.UID),)))
    ask(kit, ALICE, leave(ALICE, start_s, start_s + 3600, g=2), Intent.LOCK)
    kit.boot()
    kit.drive(0.0)
    kit.contacts(locked=True)
    tap(kit)
    assert kit.word == word
