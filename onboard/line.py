"""One connection of a phone: how far its conversation is, and when it is to be dropped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cloud_sync.documents import AgreementKey, KeySet
from cloud_sync.documents.conversation import Channel
from onboard.core.events import PhoneCredential
from onboard.parcel import Parcel

IDLE_S: Final = 5.0
"""A phone silent for longer is dropped: it holds the air that the next one waits for."""
ERRAND_S: Final = 60.0
"""A phone that was asked for a time proof may be silent for so long: it has to ask the commune."""
UNPROVEN_S: Final = 15.0
"""A line on which nobody has proven himself by then is dropped, whatever it says; on an errand it has longer."""


@dataclass(slots=True)
class Line:
    """One connection."""

    seen_s: float
    made_s: float
    patience_s: float = IDLE_S
    hello: bytes = b""
    hello_s: float = 0.0
    once: AgreementKey | None = None
    pending: bytearray = field(default_factory=bytearray)
    channel: Channel | None = None
    began_s: float = 0.0
    credential: PhoneCredential | None = None
    """Of a phone that has proven itself. None with a channel: its pass is signed with a key that is not known yet."""
    key_set: KeySet | None = None
    """By which its pass was judged."""
    counter: int = 0
    ticket: int = 0
    over: bool = False
    """The answer under way is the last."""
    answer: bytes = b""
    parcel: Parcel = field(default_factory=Parcel)
    taken_bytes: int = 0

    def over_at(self, now_s: float) -> bool:
        """Tell whether it is to be dropped."""
        if now_s - self.seen_s > self.patience_s:
            return True
        if self.credential is not None:
            return False
        # With a channel it brings a key set, or waits for an errand.
        return now_s - self.made_s > (ERRAND_S if self.channel is not None else UNPROVEN_S)

    def end(self) -> None:
        """Forget the conversation; the answer already given may still be read."""
        self.hello, self.once, self.channel, self.credential = b"", None, None, None
        self.counter, self.ticket, self.over = 0, 0, False
        self.pending.clear()
        self.parcel, self.taken_bytes = Parcel(), 0
