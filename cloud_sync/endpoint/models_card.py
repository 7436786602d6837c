"""What the town hall says of its cards over HTTP, and the answers. ``uid``: as on air."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from cloud_sync.endpoint.models import CardUid, ListMade, Strict
from onboard.core.cards import number_fault

CARDS_MAX: Final = 500

CardNumber = Annotated[int, Field(ge=1, lt=2**31)]
Code = Annotated[
    str,
    StringConstraints(max_length=40),
    AfterValidator(lambda text: "".join(text.split())),
    StringConstraints(pattern=r"^[0-9]{8}$"),
]
"""Eight digits; people write them in groups."""
Holder = Annotated[
    str,
    StringConstraints(
        max_length=80, strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]*$"
    ),
]
"""A name on one line."""

State = Literal["new", "ready", "lent", "lost", "blocked"]
"""``new``: its keys are not written yet. ``ready``: at the town hall. The last two open nothing."""


class CardWanted(Strict):
    """A card to enrol: the commune's (``mutual``: it gets keys), or a resident's own (``uid``: a number only)."""

    uid: CardUid
    assurance: Literal["mutual", "uid"]

    @model_validator(mode="after")
    def a_person_s(self) -> Self:
        """Refuse a number that can't stand for a person."""
        fault = number_fault(bytes.fromhex(self.uid))
        if fault is not None:
            raise ValueError(f"{fault}: this number is not the card's own alone")
        if self.assurance == "mutual" and len(self.uid) != 14:
            raise ValueError("a card that can prove itself shows a fixed number of 7 bytes")
        return self


class CardKeys(Strict):
    """An enrolled card. ``keys``: what is to be written on it, key 0 first; empty for one that shows a number only."""

    number: CardNumber
    uid: CardUid
    keys: Annotated[list[str], Field(repr=False)]


class CardChange(Strict):
    """A card's new state. ``holder``: whom it is lent to, as the town hall calls them; nobody else is told.

    ``written``: its keys are on it, which a ``new`` one needs before anything else.
    """

    state: Literal["ready", "lent", "lost"]
    holder: Holder = ""
    written: bool = False

    @model_validator(mode="after")
    def to_whom(self) -> Self:
        """Refuse a card lent to nobody, and a holder of one that is not lent."""
        if (self.state == "lent") != bool(self.holder):
            raise ValueError("holder is whom a card is lent to, and only then")
        return self


class Card(Strict):
    """A card as it stands. Its number on air is not told again. ``holder``: who has it, or had it when it was lost."""

    number: CardNumber
    assurance: str
    state: State
    holder: str
    changed_s: int


class CardChanged(Strict):
    """What became of a card: its state, the lists that say so, and, where it was lent, the code that blocks it.

    ``bookings``: how many it does not open any more, for it was given back.
    """

    number: CardNumber
    state: State
    block_code: str | None
    bookings: int
    lists: list[ListMade]


class CardBlock(Strict):
    """The code on the slip that came with the card."""

    code: Code


class SlotMade(Strict):
    """The key of every card that is this car's from now on."""

    vehicle: str
    slot: int
    lost: list[CardNumber]
    """Residents' own cards that the old box may know: they open nothing any more."""
    lists: list[ListMade]


class CaptureMade(Strict):
    """A car was asked for a card's number. What comes after ``until_s`` (Unix seconds) came from no card then."""

    id: str
    until_s: int


class Capture(Strict):
    """What became of it: the card's number here and as on air, once it came; ``new``: it was not enrolled before."""

    vehicle: str
    number: CardNumber | None
    uid: CardUid | None
    new: bool | None
