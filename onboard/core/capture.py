"""Taking the number of a card at the car, for the town hall to enrol: who may ask for it, and which card counts."""

from __future__ import annotations

from onboard.core import access
from onboard.core.access import Denial
from onboard.core.clock import Instant
from onboard.core.events import Credential, RemoteCredential
from onboard.core.state import State


def waits(state: State, now_s: float) -> bool:
    """Tell whether a card's number is waited for at boot time ``now_s``."""
    return state.capture is not None and now_s <= state.capture.until_s


def denial(state: State, credential: Credential, now: Instant) -> Denial | None:
    """Say why this credential may not have a card captured; None if it may.

    A remote one is the commune's own word. Everybody else must be in its service at this time.
    """
    if not state.policy.uid_cards:
        return Denial("uid_cards_off")
    if access.revoked(state, credential, now):
        return Denial("revoked")
    if isinstance(credential, RemoteCredential) or access.serves(state, credential, now):
        return None
    return Denial("staff_only")
