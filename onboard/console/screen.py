"""The status screen, as lines: what works, what does not, what to do. Twenty-four lines of eighty letters at most."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from onboard.console.daemon import Health
from onboard.console.editor import COLUMNS

LINES_MAX: Final = 23
Words = tuple[str, str]
"""French, English."""

_REMEDIES: Final[Mapping[str, Words]] = {
    "can": ("adaptateur CAN : câble, prise OBD ; ip link show can0", "CAN adapter: cable, OBD plug; ip link show can0"),
    "can_bus": ("bus en défaut : fils H/L, voiture éveillée ?", "bus in fault: wires H/L, is the car awake?"),
    "gps": ("récepteur GPS : câble, port dans box.toml", "GPS receiver: cable, port in box.toml"),
    "gnss_time": ("heure du ciel refusée : sync now, ou attendre", "time of the sky refused: sync now, or wait"),
    "card_reader": ("lecteur de cartes : câble, alimentation", "card reader: cable, supply"),
    "door": ("serrure : fils, fusible, contact ; door test", "lock: wires, fuse, contact; door test"),
    "bluetooth": ("Bluetooth : logs bluetooth", "Bluetooth: logs bluetooth"),
    "uplink": ("réseau : antenne, SIM, certificat ; logs", "network: antenna, SIM, certificate; logs"),
    "disk": ("disque plein : faites de la place", "disk full: make room"),
    "store": ("base de données : carte SD ? logs", "database: SD card? logs"),
}
_OTHER: Final[Words] = ("voir logs", "see logs")
_STATES: Final[Mapping[str, Words]] = {
    "available": ("libre", "available"),
    "reserved": ("réservée", "reserved"),
    "on_trip": ("en trajet", "on a trip"),
    "stopped": ("louée, fermée", "rented, locked"),
    "non_operational": ("hors service", "out of service"),
    "locked": ("fermée", "locked"),
    "unlocked": ("déverrouillée", "unlocked"),
    "open": ("ouverte", "open"),
    "unknown": ("inconnue", "unknown"),
    "still": ("arrêtée", "still"),
    "moving": ("ROULE", "MOVES"),
    "unproven": ("arrêt non prouvé", "standstill not proven"),
    "awake": ("éveillé", "awake"),
    "asleep": ("endormi", "asleep"),
    "fault": ("EN DÉFAUT", "FAULT"),
    "unset": ("inconnue", "unset"),
    "restored": ("reprise du disque, non prouvée", "from the disk, not proven"),
    "rtc": ("horloge interne, non prouvée", "real-time clock, not proven"),
    "gnss": ("GPS", "GNSS"),
    "authenticated": ("prouvée par la mairie", "proven by the town hall"),
}


def status_lines(answer: Mapping[str, Any], problems: tuple[str, ...], *, french: bool) -> list[str]:
    """Return the screen of a daemon that is alive."""
    lines = [*_working(answer, french=french), *broken_lines(answer, problems, french=french)]
    if len(lines) > LINES_MAX:
        lines[LINES_MAX - 1 :] = ["... faults"]
    return [line[: COLUMNS - 1] for line in lines]


def silent_lines(
    health: Health, unit: str, rows: list[dict[str, Any]] | str, logged: list[str], *, french: bool
) -> list[str]:
    """Return the screen without a daemon: what systemd, its log and its database say."""
    word = {
        Health.HUNG: (
            "programme BLOQUÉ : il ne répond pas. Le chien de garde le relance dans 30 s ; sinon : reboot",
            "daemon HUNG: it does not answer. Its watchdog starts it again within 30 s; if not: reboot",
        ),
        Health.DEAD: (
            "programme ARRÊTÉ. Cherchez la cause ci-dessous ; configuration : box.toml ; sinon : reboot",
            "daemon DEAD. Look for the cause below; configuration: box.toml; if that does not help: reboot",
        ),
        Health.ALIVE: ("", ""),
    }[health]
    lines = [_pick(word, french=french), f"systemd: {unit}"]
    lines.append(_pick(("base de données, dernières lignes :", "database, last rows:"), french=french))
    lines += [f"  {rows}"] if isinstance(rows, str) else [f"  {row_line(row)}" for row in rows[-6:]]
    lines.append(_pick(("journal :", "log:"), french=french))
    lines += [f"  {line}" for line in logged[-8:]]
    return [line[: COLUMNS - 1] for line in lines[:LINES_MAX]]


def row_line(row: Mapping[str, Any]) -> str:
    """Return one row of the store as a line."""
    says = " ".join(f"{name}={_short(value)}" for name, value in row["says"].items() if value not in (None, "", [], 0))
    return f"{row['seq']:>6} {stamp(row['wall_s'])} {row['kind']} {says}"


def stamp(wall_s: float) -> str:
    """Return a wall time, UTC; dashes for a clock that was never set."""
    return time.strftime("%d.%m. %H:%M", time.gmtime(wall_s)) if wall_s > 1e9 else "--.--. --:--"


def word_of(word: str, *, french: bool) -> str:
    """Return one of the daemon's words in the person's language."""
    return _pick(_STATES.get(word, (word, word)), french=french)


def _pick(words: Words, *, french: bool) -> str:
    return words[0] if french else words[1]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return "yes" if value is True else str(value)[:24]


def _working(answer: Mapping[str, Any], *, french: bool) -> Iterator[str]:
    def say(french_words: str, english_words: str) -> str:
        return french_words if french else english_words

    def word(key: str) -> str:
        return word_of(str(answer[key]), french=french)

    clock, outbox, trip, gnss = answer["clock"], answer["outbox"], answer["trip"], answer["gnss"]
    yield f"{answer['vehicle']}  AmiBox {answer['software']}  {stamp(clock['wall_s'])} UTC"
    door = say("porte ", "door ") + word("door")
    state = f"{word('state')}, {door}, {word('standing')}"
    yield (
        say("voiture   ", "car       ")
        + state
        + (say(", MAINTENANCE", ", MAINTENANCE") if answer["maintenance"] else "")
    )
    yield say("trajet    ", "trip      ") + (f"{trip['number']}, {trip['distance_m']} m" if trip else "-")
    yield (
        say("réserv.   ", "bookings  ")
        + f"{answer['bookings']}, "
        + say("liste ", "list ")
        + str(answer["list_version"])
    )
    yield f"CAN       {word('bus')}; " + _values(answer["signals"])
    fix = say("pas de position", "no fix") if gnss is None else f"{gnss['mode']}D, {gnss['age_s']} s"
    yield f"GPS       {fix}"
    yield say("heure     ", "time      ") + word_of(clock["quality"], french=french)
    yield f"Bluetooth {answer['radio'] or '-'}"
    voltage = answer["supply"]["voltage_v"]
    yield f"12 V      {answer['supply']['level']}" + (f", {voltage:.1f} V" if voltage is not None else "")
    waiting = outbox["last_seq"] - outbox["acknowledged_seq"]
    link = say("relié", "connected") if outbox["connected"] else say("NON relié", "NOT connected")
    yield say("mairie    ", "town hall ") + link + say(f", {waiting} lignes à envoyer", f", {waiting} rows to send")


def _values(signals: Mapping[str, Any]) -> str:
    shown = (f"{name.rsplit('.', 1)[-1]} {reading['value']:g}" for name, reading in signals.items() if reading["fresh"])
    return ", ".join(shown) or "-"


def broken_lines(answer: Mapping[str, Any], problems: tuple[str, ...], *, french: bool) -> Iterator[str]:
    """Give all that does not work, each with what to do."""
    for part in answer["not_alive"]:
        yield f"! {part}: " + _pick(("ne répond pas", "not alive"), french=french)
    for part, detail in answer["faults"].items():
        yield f"! {part}: {detail}"
        yield "    -> " + _pick(_REMEDIES.get(part, _OTHER), french=french)
    for problem in problems:
        yield f"! {problem}"
    if not answer["faults"] and not answer["not_alive"] and not problems:
        yield _pick(("aucun défaut", "no faults"), french=french)
