"""What the town hall says of a member over HTTP, and the answers. Days are ISO 8601 (2026-12-01), the commune's."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from cloud_sync.endpoint.membership import WORDS, Lack, Right, State
from cloud_sync.endpoint.models import Cents, PhoneKey, Strict

PHONES_MAX: Final = 4
LINE: Final = r"^[^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]*$"
"""Letters of every script, on one line that reads in one direction."""


def a_day(value: Any) -> Any:
    """Read a day; whatever else it is stays for the type to refuse. A number is none: it may be anything."""
    return date.fromisoformat(value) if isinstance(value, str) and len(value) == 10 else value


Day = Annotated[date, BeforeValidator(a_day), Field(ge=date(1900, 1, 1), le=date(2200, 1, 1))]
Line = Annotated[str, StringConstraints(max_length=80, strip_whitespace=True, pattern=LINE)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=80, strip_whitespace=True, pattern=LINE)]
Email = Annotated[
    str, StringConstraints(max_length=120, pattern=r"^([^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+\.[^@\s\x00-\x1f]+)?$")
]
Phone = Annotated[str, StringConstraints(max_length=30, pattern=r"^(\+?[0-9][0-9 .()-]{3,28})?$")]


class MemberIn(Strict):
    """A person to register, with what the town hall has checked so far; nothing of it is a copy of a paper.

    ``deposit_until`` and ``payment_until``: the last day of the bank card that the provider holds.
    """

    name: Name
    born: Day
    email: Email = ""
    phone: Phone = ""
    language: Literal["fr", "en"] = "fr"
    guardian: Line = ""
    state: Annotated[State, Field(strict=False)] = State.ACTIVE
    right: Annotated[Right | None, Field(strict=False)] = None
    right_until: Day | None = None
    right_checked_on: Day | None = None
    right_checked_by: Line = ""
    highway_code: bool = False
    meeting_on: Day | None = None
    meeting_by: Line = ""
    rules_on: Day | None = None
    guardian_signed_on: Day | None = None
    lesson_on: Day | None = None
    deposit_until: Day | None = None
    payment_until: Day | None = None
    plan: Line = ""
    plan_fee_cents: Cents = 0
    plan_from: Day | None = None
    plan_until: Day | None = None
    trace: bool = False
    phone_keys: Annotated[list[PhoneKey], Field(max_length=PHONES_MAX, default_factory=list)]

    @model_validator(mode="after")
    def fits_together(self) -> Self:
        """Refuse what was checked or signed by nobody."""
        if (self.right_checked_on is not None) != bool(self.right_checked_by):
            raise ValueError("right_checked_on and right_checked_by go together: who looked, and when")
        if (self.meeting_on is not None) != bool(self.meeting_by):
            raise ValueError("meeting_on and meeting_by go together: who held it, and when")
        if self.guardian_signed_on is not None and not self.guardian:
            raise ValueError("guardian_signed_on wants the guardian's name")
        if self.plan_from is not None and self.plan_until is not None and self.plan_until < self.plan_from:
            raise ValueError("plan_until lies before plan_from")
        return self


class Lacking(Strict):
    """Why a member can't book, as a word and in words."""

    word: Lack
    fr: str
    en: str


class MemberOut(MemberIn):
    """A member, and what lacks today."""

    member: int
    lacks: list[Lacking]


def told(lacking: tuple[Lack, ...]) -> list[Lacking]:
    """Return what lacks with its words."""
    return [Lacking(word=each, fr=WORDS[each][0], en=WORDS[each][1]) for each in lacking]
