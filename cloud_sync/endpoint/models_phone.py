"""What a driver's phone asks over HTTP, and the answers. Bytes are lower-case hexadecimal; units as in ``models``."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator

from cloud_sync.documents import MAX_DOCUMENT_BYTES
from cloud_sync.endpoint.models import PhoneKey, Strict

DOCUMENTS_MAX: Final = 16
"""Documents in one delivery: as many batches as a box has under way at most."""

Bytes16 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Document = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})+$", max_length=2 * MAX_DOCUMENT_BYTES)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class PassWanted(Strict):
    """The public half of a phone's key, a compressed P-256 point; the booking must list it."""

    phone_key: PhoneKey


class PassMade(Strict):
    """A pass, and how to find and know the car. ``box``: its identity V, to be trusted only because it comes from here.

    ``name``: under which the car's radio is heard. After ``expires_s`` the pass starts nothing; ask for another one.
    """

    vehicle: str
    name: str
    box: str
    document: Annotated[str, Field(serialization_alias="pass")]
    booking: str
    expires_s: int


class Heard(Strict):
    """What a phone heard from a box at its last visit, maybe long ago; nobody signed it. Absent: not known.

    ``acked_seq`` and ``up_to_seq`` are numbers of rows in the store ``store_id``: acknowledged, and last written.
    """

    list_version: Count | None = None
    key_set_version: Count | None = None
    store_id: Bytes16 | None = None
    up_to_seq: Count | None = None
    acked_seq: Count | None = None
    time_nonce: Bytes16 | None = None

    @model_validator(mode="after")
    def one_store(self) -> Self:
        """Refuse numbers of no store, and more rows acknowledged than written: two visits were mixed up."""
        if self.store_id is None and (self.up_to_seq, self.acked_seq) != (None, None):
            raise ValueError("up_to_seq and acked_seq count in a store: store_id is wanted with them")
        if self.acked_seq is not None and self.up_to_seq is not None and self.acked_seq > self.up_to_seq:
            raise ValueError("acked_seq can't be above up_to_seq")
        return self


class Documents(Strict):
    """What to hand to the box, in this order."""

    documents: list[str]


class BatchesIn(Strict):
    """A box's sealed batches as the phone took them, in any order; the phone can't read them."""

    documents: Annotated[list[Document], Field(min_length=1, max_length=DOCUMENTS_MAX)]


class Delivered(Strict):
    """One word for each document, in the order given, and what to bring back to the box.

    ``taken``: it is stored, now or since an earlier delivery: let go of it. Any other word is why it was refused
    (``docs/protocol.md`` section 7, and ``log_forked``: it contradicts rows that are held): no repetition helps.
    """

    results: list[str]
    documents: list[str]


class Radio(Strict):
    """What a phone must know of a car to talk to it: its name on the radio, and its box's key (hexadecimal)."""

    vehicle: str
    name: str
    box: str
