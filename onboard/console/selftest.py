"""``selftest``: through the fitting step by step, and a signed acceptance protocol at its end.

Each step asks the daemon, or the person; one that fails can be tried again, or left as failed. The door is moved by the
core alone, as a visit of staff.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from onboard.console.acceptance import Finding, accepted, compose
from onboard.console.daemon import ASK_S, write_durably
from onboard.console.place import Place
from onboard.console.session import Session
from onboard.console.transfer import sha_of

CONTACT_S: Final = 60.0
CARD_S: Final = 30.0
DOOR_S: Final = 10.0
_POLL_S: Final = 0.5
Seen = tuple[bool | None, str]
Check = Callable[[Session, Place], Seen]


@dataclass(frozen=True, slots=True)
class Step:
    """``name`` stands in the protocol; the person reads what to do in their language."""

    name: str
    french: str
    english: str
    check: Check


def selftest(session: Session, place: Place, _words: Sequence[str]) -> None:
    """Walk through every step, then print, keep and record the protocol."""
    if place.given is None:
        raise ValueError(session.word("d'abord la mise en service", "provisioning first"))
    status = place.daemon.ask("status")
    if status["rental"] is not None:
        raise ValueError(session.word("la voiture est louée", "the car is rented"))
    findings = []
    for number, step in enumerate(STEPS, start=1):
        session.put(f"[{number}/{len(STEPS)}] {session.word(step.french, step.english)}")
        finding = _do(session, place, step)
        session.put(f"    {_word(session, finding.well)} {finding.detail}".rstrip())
        findings.append(finding)
    time = place.daemon.ask("place")
    text = compose(place.vehicle, status["software"], session.who, int(time["best_s"]), findings, place.given.signing)
    write_durably(place.folder / f"acceptance-{int(time['best_s'])}.txt", text.encode())
    outcome = "accepted" if accepted(findings) else "not accepted"
    place.daemon.note("acceptance", session.who, f"{outcome} {sha_of(text.encode())[:16]}")
    for line in text.splitlines():
        session.put(line)
    session.say("Gardé ; export acceptance.", "Kept; export acceptance.")


def _do(session: Session, place: Place, step: Step) -> Finding:
    while True:
        try:
            well, detail = step.check(session, place)
        except ValueError as error:
            well, detail = False, str(error)
        if well is not False:
            return Finding(step.name, well, detail)
        session.put(f"    {_word(session, well)} {detail}".rstrip())
        if not session.yes("    Réessayer ?", "    Try again?"):
            return Finding(step.name, well, detail)


def _word(session: Session, well: bool | None) -> str:  # noqa: FBT001 - three answers
    if well is None:
        return session.word("laissé", "left out")
    return "ok" if well else session.word("ÉCHEC", "FAILED")


def _status(place: Place) -> dict[str, Any]:
    return place.daemon.ask("status")


def _bus(_session: Session, place: Place) -> Seen:
    status = _status(place)
    fresh = sum(1 for reading in status["signals"].values() if reading["fresh"])
    return status["bus"] == "awake" and fresh > 0, f"{status['bus']}, {fresh} signals"


def _position(_session: Session, place: Place) -> Seen:
    gnss = _status(place)["gnss"]
    return gnss is not None and gnss["age_s"] < 10, "no fix" if gnss is None else f"{gnss['mode']}D fix"


def _card(_session: Session, place: Place) -> Seen:
    answer = place.daemon.ask("card", CARD_S + ASK_S, login=False, wait_s=CARD_S)
    return answer["status"] == "granted", answer["reason"]


def _contact(name: str) -> Check:
    def check(session: Session, place: Place) -> Seen:
        """Wait until the contact has said both."""
        seen: set[bool] = set()
        waited_s = 0.0
        while len(seen) < 2 and waited_s < CONTACT_S:
            contacts = _status(place)["contacts"]
            if contacts is not None and contacts[name] is not None:
                seen.add(bool(contacts[name]))
            if len(seen) < 2:
                if session.key(_POLL_S):
                    break
                waited_s += _POLL_S
        return len(seen) == 2, "both states seen" if len(seen) == 2 else f"only {sorted(seen)}"

    return check


def _move(action: str) -> Check:
    def check(session: Session, place: Place) -> Seen:
        answer = place.daemon.ask("door", ASK_S + 2.0, action=action, by=session.who)
        # The button of the step before may have locked it already: then nobody's visit is left to end.
        done = action == "lock" and answer["reason"] == "not_open"
        if answer["status"] not in {"granted", "accepted"} and not done:
            return False, f"refused: {answer['reason']}"
        wanted, waited_s = action == "lock", 0.0
        while waited_s < DOOR_S:
            contacts = _status(place)["contacts"]
            if contacts is not None and contacts["locked"] is wanted:
                break
            session.wait(_POLL_S)
            waited_s += _POLL_S
        else:
            return False, "the contact does not confirm it"
        moved = session.yes("    La serrure a-t-elle bougé ?", "    Did the lock move?")
        return moved, "contact and person" if moved else "the person saw nothing"

    return check


def _asked(french: str, english: str) -> Check:
    def check(session: Session, _place: Place) -> Seen:
        return session.yes(f"    {french}", f"    {english}"), "asked"

    return check


def _button(session: Session, place: Place) -> Seen:
    config = place.config
    if config is not None and config.door is not None and config.door.lock_button_pin is None:
        return None, "this car has none"
    waited_s = 0.0
    while waited_s < CONTACT_S:
        if _status(place)["lock_armed"]:
            return True, "heard"
        if session.key(_POLL_S):
            break
        waited_s += _POLL_S
    return False, "not heard"


def _radio(_session: Session, place: Place) -> Seen:
    status = _status(place)
    if status["radio"] is None:
        return None, "not in the configuration"
    bad = "bluetooth" in status["faults"] or "bluetooth" in status["not_alive"]
    return not bad, status["faults"].get("bluetooth", status["radio"])


def _supply(_session: Session, place: Place) -> Seen:
    voltage = _status(place)["supply"]["voltage_v"]
    return (None, "not measured") if voltage is None else (voltage > 11.8, f"{voltage:.1f} V")


def _network(_session: Session, place: Place) -> Seen:
    if place.config is not None and place.config.uplink is None:
        return None, "a car without network"
    connected = _status(place)["outbox"]["connected"]
    return connected, "connected" if connected else "not connected"


def _time(_session: Session, place: Place) -> Seen:
    quality = _status(place)["clock"]["quality"]
    return quality in {"gnss", "authenticated"}, quality


STEPS: Final = (
    Step("can bus", "Contact mis : le bus parle-t-il ?", "Ignition on: does the bus talk?", _bus),
    Step("position", "Position du récepteur.", "Position of the receiver.", _position),
    Step("card reader", "Présentez une carte (30 s).", "Hold a card to the reader (30 s).", _card),
    Step("driver door", "Ouvrez puis fermez la porte du conducteur.", "Open and shut the driver's door.",
         _contact("driver_open")),
    Step("passenger door", "Ouvrez puis fermez celle du passager.", "Open and shut the passenger's door.",
         _contact("passenger_open")),
    Step("unlock", "Le boîtier déverrouille : écoutez.", "The box unlocks: listen.", _move("unlock")),
    Step("light and buzzer", "Lumière et buzzer.", "Light and buzzer.",
         _asked("Ont-ils répondu ?", "Did they answer?")),
    Step("passenger lock", "La porte du passager s'est-elle déverrouillée aussi ?",
         "Is the passenger's door unlocked as well?", _asked("Déverrouillée ?", "Unlocked?")),
    Step("button", "Appuyez sur le bouton intérieur.", "Press the button inside.", _button),
    Step("lock", "Fermez les portes. Le boîtier verrouille.", "Shut the doors. The box locks.", _move("lock")),
    Step("free exit", "Assis dedans, fermé : la porte s'ouvre-t-elle de l'intérieur ?",
         "Sit inside, locked: does the door open from inside?", _asked("Oui ?", "Does it?")),
    Step("bluetooth", "Bluetooth.", "Bluetooth.", _radio),
    Step("12 V", "Batterie 12 V.", "12 V battery.", _supply),
    Step("network", "Lien avec la mairie.", "Link to the town hall.", _network),
    Step("time", "Heure.", "Time.", _time),
)  # fmt: skip
"""In the order in which one walks round the car. The lock's own contact is seen by the two moves."""
