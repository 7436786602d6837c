"""The console's loop: greet, have somebody log in, do what they type. The same for a serial line and a terminal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from onboard.console.daemon import ASK_S, Silent
from onboard.console.link import Link
from onboard.console.place import Place, look
from onboard.console.session import LoggedOut, Session

log = logging.getLogger("amibox.console")

CARD_S: Final = 30.0
WORDS_MAX: Final = 8
NAME_MAX: Final = 16
"""Letters of the car's name in the prompt: a command with a checksum fits beside it."""
NOBODY: Final = "nobody"
"""Who uses the console of a box that no car has yet."""


@dataclass(frozen=True, slots=True)
class Command:
    """What can be typed: ``do(session, place, words)``; ``words`` may follow; a line of help in both languages."""

    do: Callable[[Session, Place, Sequence[str]], None]
    words: tuple[str, ...]
    french: str
    english: str


def serve(link: Link, config_file: Path, commands: dict[str, Command]) -> None:
    """Serve one person after the other on this line. Raises ``LinkLost``."""
    session = Session(link)  # one for all: what is typed ahead is not lost between them
    while True:
        place = look(config_file)
        session.who, session.complete = "", lambda _text: ()
        session.editor.history.clear()
        session.french = place.settings.get("french", True)
        session.plain = place.settings.get("plain", True)
        try:
            if log_in(session, place):
                talk(session, place, commands)
        except LoggedOut:
            pass
        finally:
            if session.who not in {"", NOBODY}:
                place.daemon.note("logout", session.who)
        if session.who:
            session.say("Au revoir.", "Goodbye.")


def log_in(session: Session, place: Place) -> bool:
    """Have somebody log in; False if they were refused, and the line begins anew."""
    session.put()
    session.put(f"AmiBox {place.vehicle}")
    if not place.in_service:
        session.who = NOBODY
        session.say(
            "Boîtier sans voiture : pas de mot de passe. Tapez help.", "A box without a car: no log-in. Type help."
        )
        return True
    name = (session.ask("amibox login: ", wait_s=3600.0) or "").strip().lower()
    match name:
        case "":
            return False
        case "fr" | "en":
            session.french = name == "fr"
            place.remember(french=session.french)
            session.say("Nom, ou : carte, en", "Name, or: card, fr")
            return False
        case "carte" | "card":
            session.who = _by_card(session, place)
        case _:
            session.who = _by_pin(session, place, name)
    if session.who:
        session.say(f"Bonjour {session.who}. Tapez help.", f"Hello {session.who}. Type help.")
    return bool(session.who)


def _by_pin(session: Session, place: Place, name: str) -> str:
    gate = place.gate()
    if (locked_s := gate.locked_s()) > 0:
        minutes = int(locked_s / 60) + 1
        session.say(f"Bloqué encore {minutes} min. Une carte ouvre.", f"Locked for {minutes} min more. A card logs in.")
        return ""
    pin = session.ask("PIN: ", secret=True, wait_s=60.0)
    if pin is None:
        return ""
    verdict = gate.check(name, pin.strip())
    if verdict.who:
        place.daemon.note("login_pin", verdict.who)
        return verdict.who
    # What was typed as a name may be a PIN: it is not written down.
    known = place.given is not None and any(each.name == name for each in place.given.technicians)
    by = name if known else "?"
    place.daemon.note("locked_out" if verdict.locked else "login_failed", by, f"{verdict.failures}")
    if verdict.locked:
        session.say("Non. Bloqué 15 minutes.", "No. Locked for 15 minutes.")
        return ""
    session.say(f"Non. Attendez {verdict.wait_s:.0f} s.", f"No. Wait {verdict.wait_s:.0f} s.")
    session.wait(verdict.wait_s)
    return ""


def _by_card(session: Session, place: Place) -> str:
    session.say("Présentez votre carte au lecteur (30 s).", "Hold your card to the reader (30 s).")
    try:
        answer = place.daemon.ask("card", CARD_S + ASK_S, login=True, wait_s=CARD_S)
    except Silent:
        session.say("Le programme ne répond pas : utilisez le PIN.", "The daemon does not answer: use the PIN.")
        return ""
    except ValueError as error:
        session.put(str(error))
        return ""
    if answer["status"] == "granted":
        return str(answer["reason"])
    session.say(f"Non : {answer['reason']}.", f"No: {answer['reason']}.")
    return ""


def talk(session: Session, place: Place, commands: dict[str, Command]) -> None:
    """Do what is typed until ``logout``. Raises ``LoggedOut``."""
    session.complete = lambda text: complete(commands, text)
    while True:
        if session.who == NOBODY and place.box.provisioning.exists():
            raise LoggedOut("the box has a car now: whoever goes on logs in")
        line = session.ask(f"amibox {place.vehicle[:NAME_MAX]}> ")
        words = (line or "").split()[:WORDS_MAX]
        if not words:
            continue
        command = commands.get(words[0].lower())
        if command is None:
            session.say(f"Inconnu : {words[0]}. Tapez help.", f"Unknown: {words[0]}. Type help.")
            continue
        do(session, place, command, words[1:])


def do(session: Session, place: Place, command: Command, words: Sequence[str]) -> None:
    """Do one command. What fails is told, and the console goes on."""
    try:
        command.do(session, place, words)
    except Silent as silent:
        if silent.health == "hung":
            session.say(
                "Le programme ne répond pas (bloqué ?). Fait ou non : vérifiez. status, logs, reboot.",
                "The daemon does not answer (hung?). Done or not: check. status, logs, reboot.",
            )
        else:
            session.say(
                "Le programme ne tourne pas : rien n'a été fait. status, logs.",
                "The daemon does not run: nothing was done. status, logs.",
            )
    except (ValueError, OSError) as error:
        session.say(f"Refusé : {error}", f"Refused: {error}")


def complete(commands: dict[str, Command], text: str) -> list[str]:
    """Return what the last word of a line may become."""
    *before, word = text.split(" ")
    if not before:
        return sorted(name for name in commands if name.startswith(word))
    command = commands.get(before[0])
    return [each for each in command.words if each.startswith(word)] if command is not None and len(before) == 1 else []
