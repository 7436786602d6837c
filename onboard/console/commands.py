"""Every command of the console, with its help in both languages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from onboard.console import files, monitors, screen
from onboard.console.daemon import ASK_S, LOG_LINES_MAX, UNITS, Health, Silent, journal, service, write_durably
from onboard.console.place import Place
from onboard.console.selftest import selftest
from onboard.console.session import LoggedOut, Session
from onboard.console.shell import Command

TRIPS: Final = 20
LOG_LINES: Final = 15
CARD_S: Final = 30.0
USAGE: Final = 22
_RENTED: Final = frozenset({"on_trip", "stopped"})
_TRIP_KINDS: Final = frozenset({"trip_start", "trip_end", "rental_end", "end_requested", "door_reopened"})


def _help(session: Session, _place: Place, words: Sequence[str]) -> None:
    for name, command in COMMANDS.items():
        if not words or name == words[0]:
            usage = f"{name} {'|'.join(command.words)}".strip()
            usage = f"{name} ..." if len(usage) > USAGE else usage
            session.show([f"{usage:<{USAGE}} {session.word(command.french, command.english)}"])
            if words:
                session.show([f"  {name} {word}" for word in command.words])


def _language(session: Session, place: Place, words: Sequence[str]) -> None:
    if words[:1] not in (["fr"], ["en"]):
        raise ValueError("language fr|en")
    session.french = words[0] == "fr"
    place.remember(french=session.french)
    session.say("Français.", "English.")


def _terminal(session: Session, place: Place, words: Sequence[str]) -> None:
    if words[:1] not in (["ascii"], ["utf8"]):
        raise ValueError("terminal ascii|utf8")
    session.plain = words[0] == "ascii"
    place.remember(plain=session.plain)
    session.say("Voilà : é ▁▄█", "Here: é ▁▄█")


def _status(session: Session, place: Place, _words: Sequence[str]) -> None:
    try:
        answer = place.daemon.ask("status")
    except Silent as silent:
        session.show(_without_daemon(session, place, silent.health))
        return
    session.show(screen.status_lines(answer, place.problems, french=session.french))
    place.daemon.hand_over()


def _without_daemon(session: Session, place: Place, health: Health) -> list[str]:
    try:
        rows: list[dict[str, Any]] | str = place.daemon.rows(6)
    except OSError as error:
        rows = str(error)
    lines = screen.silent_lines(health, service(), rows, journal(8, ("amibox",)), french=session.french)
    return [*lines, *(f"! {each}" for each in place.problems)][: screen.LINES_MAX]


def _faults(session: Session, place: Place, _words: Sequence[str]) -> None:
    answer = place.daemon.ask("status")
    session.show(list(screen.broken_lines(answer, place.problems, french=session.french)))
    counted = {f"{part}.{name}": count for part, names in answer["counts"].items() for name, count in names.items()}
    worst = sorted(counted.items(), key=lambda each: -each[1])[:12]
    session.show([f"  {count:>8} {name}" for name, count in worst])


def _trips(session: Session, place: Place, _words: Sequence[str]) -> None:
    rows = [row for row in place.daemon.rows(100) if row["kind"] in _TRIP_KINDS]
    if not rows:
        session.say("Aucun.", "None.")
    session.show([screen.row_line(row) for row in rows[-TRIPS:]])


def _records(session: Session, place: Place, _words: Sequence[str]) -> None:
    session.show([screen.row_line(row) for row in place.daemon.rows(TRIPS)])


def _door(session: Session, place: Place, words: Sequence[str]) -> None:
    action = words[0] if words else ""
    if action == "test":
        _move(session, place, "unlock")
        if session.yes("La porte s'est-elle déverrouillée ?", "Did the door unlock?"):
            session.say("Bien.", "Good.")
        else:
            session.say("Relais, fusible, fils de l'actionneur.", "Relay, fuse, wires of the actuator.")
        action = "lock"
    if action not in {"unlock", "lock"}:
        raise ValueError("door test|unlock|lock")
    _move(session, place, action)


def _move(session: Session, place: Place, action: str) -> None:
    answer = place.daemon.ask("door", ASK_S + 2.0, action=action, by=session.who)
    session.put(f"{action}: {answer['status']} {answer['reason']}")
    session.wait(1.5)
    door = screen.word_of(place.daemon.ask("status")["door"], french=session.french)
    session.say(f"contacts : {door}", f"contacts: {door}")


def _card(session: Session, place: Place, words: Sequence[str]) -> None:
    if words[:1] != ["read"]:
        raise ValueError("card read")
    session.say("Présentez une carte (30 s).", "Hold a card to the reader (30 s).")
    answer = place.daemon.ask("card", CARD_S + ASK_S, login=False, wait_s=CARD_S)
    session.put(f"{answer['status']}: {answer['reason']}")


def _maintenance(session: Session, place: Place, words: Sequence[str]) -> None:
    if words[:1] not in (["on"], ["off"]):
        raise ValueError("maintenance on|off")
    place.daemon.ask("maintenance", on=words[0] == "on", by=session.who)
    session.say(f"maintenance {words[0]}, noté.", f"maintenance {words[0]}, written down.")


def _sync(session: Session, place: Place, words: Sequence[str]) -> None:
    if words[:1] != ["now"]:
        raise ValueError("sync now")
    place.daemon.ask("sync")
    session.wait(2.0)
    outbox = place.daemon.ask("status")["outbox"]
    session.put(f"{outbox['acknowledged_seq']} / {outbox['last_seq']}, connected: {outbox['connected']}")


def _time(session: Session, place: Place, _words: Sequence[str]) -> None:
    told = place.daemon.ask("place")
    quality = screen.word_of(told["quality"], french=session.french)
    session.put(f"{screen.stamp(told['best_s'])} UTC, {quality}")
    session.say(f"question pour la mairie : {told['nonce']}", f"question for the town hall: {told['nonce']}")


def _part(*parts: str) -> Any:
    def show(session: Session, place: Place, _words: Sequence[str]) -> None:
        answer = place.daemon.ask("status")
        for part in parts:
            counts = answer["counts"].get(part, {})
            state = answer["faults"].get(part) or ("not alive" if part in answer["not_alive"] else "ok")
            session.show([f"{part}: {state}", *(f"  {count:>8} {name}" for name, count in counts.items())])

    return show


def _ble(session: Session, place: Place, words: Sequence[str]) -> None:
    session.put(str(place.daemon.ask("status")["radio"] or "-"))
    _part("bluetooth", "phones")(session, place, words)
    session.show([f"systemd: {service('bluetooth')}"])


def _supply(session: Session, place: Place, _words: Sequence[str]) -> None:
    supply = place.daemon.ask("status")["supply"]
    voltage = supply["voltage_v"]
    session.put(f"{supply['level']}, " + ("-" if voltage is None else f"{voltage:.2f} V"))
    if voltage is None:
        session.say("Non mesuré : pas de capteur, ou pas encore.", "Not measured: no sensor, or not yet.")


def _logs(session: Session, _place: Place, words: Sequence[str]) -> None:
    units = tuple(word for word in words if word in UNITS) or UNITS
    count = next((int(word) for word in words if word.isascii() and word.isdigit()), LOG_LINES)
    session.show(journal(min(count, LOG_LINES_MAX), units))


def _reboot(session: Session, place: Place, _words: Sequence[str]) -> None:
    try:
        rented = place.daemon.ask("status")["state"] in _RENTED
    except Silent:
        rented = False  # nobody can say; a hung box serves no driver, and the trip survives on the disk
        session.say("Le programme ne répond pas.", "The daemon does not answer.")
    if rented:
        raise ValueError(session.word("la voiture est louée", "the car is rented"))
    if session.ask(session.word("Tapez reboot pour confirmer : ", "Type reboot to confirm: ")) != "reboot":
        return
    place.daemon.note("reboot", session.who)
    write_durably(place.folder / "reboot", b"")
    session.say("Redémarrage dans quelques secondes.", "Restarts within seconds.")


def _logout(_session: Session, _place: Place, _words: Sequence[str]) -> None:
    raise LoggedOut("asked for")


COMMANDS: Final[dict[str, Command]] = {
    "help": Command(_help, (), "cette liste", "this list"),
    "status": Command(_status, (), "ce qui marche, ou pas, et que faire", "what works, what not, what to do"),
    "faults": Command(_faults, (), "défauts, et ce qui fut refusé", "faults, and what was refused"),
    "signals": Command(monitors.signals, (), "signaux de la voiture, en direct", "the car's signals, live"),
    "can": Command(monitors.can_bus, (), "bus CAN : charge, trames", "CAN bus: load, frames"),
    "gps": Command(monitors.gps, (), "position, en direct", "position, live"),
    "door": Command(_door, ("test", "unlock", "lock"), "essai de la serrure, noté", "test the lock, written down"),
    "card": Command(_card, ("read",), "quelle carte est-ce ?", "what card is it?"),
    "ble": Command(_ble, (), "Bluetooth et téléphones", "Bluetooth and phones"),
    "supply": Command(_supply, (), "batterie 12 V", "12 V battery"),
    "time": Command(_time, (), "heure, et d'où elle vient", "time, and where from"),
    "sync": Command(_sync, ("now",), "envoyer à la mairie", "send to the town hall"),
    "trips": Command(_trips, (), "derniers trajets, sans noms", "last trips, without names"),
    "records": Command(_records, (), "dernières lignes écrites", "last rows written"),
    "logs": Command(_logs, UNITS, "journal : logs 50 amibox", "log: logs 50 amibox"),
    "export": Command(files.export_file, tuple(files.KINDS), "sortir un fichier", "take a file out"),
    "import": Command(files.import_file, tuple(files.KINDS), "entrer un fichier", "bring a file in"),
    "maintenance": Command(_maintenance, ("on", "off"), "hors service, en service", "out of service, in service"),
    "selftest": Command(selftest, (), "essai complet, procès-verbal", "whole test, protocol"),
    "reboot": Command(_reboot, (), "redémarrer le boîtier", "restart the box"),
    "language": Command(_language, ("fr", "en"), "langue", "language"),
    "terminal": Command(_terminal, ("ascii", "utf8"), "accents et blocs, ou non", "accents and blocks, or not"),
    "logout": Command(_logout, (), "terminer", "leave"),
}
