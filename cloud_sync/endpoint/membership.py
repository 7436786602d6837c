"""Who may drive on a day, and what is lacking: pure rules about a member's checked papers. Dates are the commune's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Right(StrEnum):
    """What lets a person drive a light quadricycle in France: code de la route, R. 211-2 and R. 221-4."""

    AM = "am"
    BSR = "bsr"
    A = "a"
    B = "b"
    ACCOMPANIED = "accompanied"
    """Learning with a companion (AAC, conduite accompagnée): it includes AM."""
    BORN_BEFORE = "born_before"
    """No licence is wanted of whoever was born before a date, and knows the highway code."""


class State(StrEnum):
    """Where a membership is."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    ENDED = "ended"


class Lack(StrEnum):
    """Why somebody can't book. Each has its words."""

    ENDED = "ended"
    SUSPENDED = "suspended"
    TOO_YOUNG = "too_young"
    NO_RIGHT = "no_right"
    RIGHT_NOT_CHECKED = "right_not_checked"
    RIGHT_OVER = "right_over"
    BORN_TOO_LATE = "born_too_late"
    NO_HIGHWAY_CODE = "no_highway_code"
    NO_MEETING = "no_meeting"
    RULES_NOT_ACCEPTED = "rules_not_accepted"
    NO_GUARDIAN = "no_guardian"
    NO_LESSON = "no_lesson"
    NO_DEPOSIT = "no_deposit"
    NO_PAYMENT_CARD = "no_payment_card"
    PAYMENT_CARD_OVER = "payment_card_over"
    NO_PLAN = "no_plan"
    PLAN_OVER = "plan_over"


WORDS: Final = MappingProxyType(
    {
        Lack.ENDED: ("L’adhésion est terminée.", "The membership has ended."),
        Lack.SUSPENDED: (
            "L’adhésion est suspendue : appelez la mairie.",
            "The membership is suspended: call the town hall.",
        ),
        Lack.TOO_YOUNG: ("Il faut avoir 14 ans.", "Drivers are 14 years old or older."),
        Lack.NO_RIGHT: ("Le droit de conduire n’est pas enregistré.", "No right to drive is on record."),
        Lack.RIGHT_NOT_CHECKED: (
            "Le titre de conduite n’a pas été vérifié en mairie.",
            "The town hall has not seen the licence.",
        ),
        Lack.RIGHT_OVER: ("Le titre de conduite a expiré.", "The licence has expired."),
        Lack.BORN_TOO_LATE: ("Né(e) trop tard pour conduire sans permis.", "Born too late to drive without a licence."),
        Lack.NO_HIGHWAY_CODE: ("Le code de la route n’est pas attesté.", "No proof of the highway code is on record."),
        Lack.NO_MEETING: (
            "Le rendez-vous en mairie n’a pas eu lieu.",
            "The meeting at the town hall has not taken place.",
        ),
        Lack.RULES_NOT_ACCEPTED: ("Le règlement n’est pas signé.", "The rules are not signed."),
        Lack.NO_GUARDIAN: ("Un parent ou tuteur doit signer et payer.", "A parent or guardian has to sign and pay."),
        Lack.NO_LESSON: ("La prise en main n’a pas été faite.", "The driving lesson has not been given."),
        Lack.NO_DEPOSIT: ("La caution (empreinte de carte) manque.", "The deposit (card imprint) is missing."),
        Lack.NO_PAYMENT_CARD: ("Aucune carte de paiement n’est enregistrée.", "No card for payment is registered."),
        Lack.PAYMENT_CARD_OVER: ("La carte de paiement a expiré.", "The card for payment has expired."),
        Lack.NO_PLAN: ("Aucune formule n’est choisie.", "No plan is chosen."),
        Lack.PLAN_OVER: ("La formule n’est pas valable ce jour-là.", "The plan does not cover that day."),
    }
)
"""French, English: what lacks, as the agent and the member read it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The commune's. ``born_before``: in France 1988-01-01, "1987 or earlier"."""

    age_min: int = 14
    of_age: int = 18
    born_before: date = date(1988, 1, 1)


@dataclass(frozen=True, slots=True)
class Member:
    """What was checked of a person. A date that is None: not yet, or without end where it ends in ``until``.

    ``deposit_until`` and ``payment_until``: the last day of the bank card that was registered.
    """

    born: date
    state: State = State.ACTIVE
    right: Right | None = None
    right_until: date | None = None
    right_checked_on: date | None = None
    highway_code: bool = False
    meeting_on: date | None = None
    rules_on: date | None = None
    guardian_signed_on: date | None = None
    lesson_on: date | None = None
    deposit_until: date | None = None
    payment_until: date | None = None
    plan_from: date | None = None
    plan_until: date | None = None


def age(born: date, on: date) -> int:
    """Return the full years of age. Who was born on 29 February has the birthday on 1 March of other years."""
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))


def lacks(member: Member, on: date, rules: Rules | None = None) -> tuple[Lack, ...]:
    """Return everything for which the member can't drive on that day, in the order in which it is mended."""
    rules = rules or Rules()
    years = age(member.born, on)
    found: list[Lack] = []

    def want(holds: bool, lack: Lack) -> None:  # noqa: FBT001 - a condition
        if not holds:
            found.append(lack)

    want(member.state is not State.ENDED, Lack.ENDED)
    want(member.state is not State.SUSPENDED, Lack.SUSPENDED)
    want(years >= rules.age_min, Lack.TOO_YOUNG)
    if member.right is None:
        found.append(Lack.NO_RIGHT)
    else:
        want(_since(member.right_checked_on, on), Lack.RIGHT_NOT_CHECKED)
        want(member.right_until is None or on <= member.right_until, Lack.RIGHT_OVER)
    if member.right is Right.BORN_BEFORE:
        want(member.born < rules.born_before, Lack.BORN_TOO_LATE)
        want(member.highway_code, Lack.NO_HIGHWAY_CODE)
    want(_since(member.meeting_on, on), Lack.NO_MEETING)
    want(_since(member.rules_on, on), Lack.RULES_NOT_ACCEPTED)
    want(years >= rules.of_age or _since(member.guardian_signed_on, on), Lack.NO_GUARDIAN)
    want(member.right is Right.ACCOMPANIED or _since(member.lesson_on, on), Lack.NO_LESSON)
    want(member.deposit_until is not None and on <= member.deposit_until, Lack.NO_DEPOSIT)
    if member.payment_until is None:
        found.append(Lack.NO_PAYMENT_CARD)
    else:
        want(on <= member.payment_until, Lack.PAYMENT_CARD_OVER)
    if member.plan_from is None:
        found.append(Lack.NO_PLAN)
    else:
        want(member.plan_from <= on and (member.plan_until is None or on <= member.plan_until), Lack.PLAN_OVER)
    return tuple(found)


def _since(done: date | None, on: date) -> bool:
    return done is not None and done <= on
