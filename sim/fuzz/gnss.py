"""The receiver's serial line: sentences as they come, or with their checksums put right, up to what is believed."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hw.gps import Gate
from hw.nmea import Fix, NmeaStream, Receiver, Sentence, checksum
from onboard.__main__ import BUILD_S
from onboard.core.events import PositionReported, TimeHeard
from sim.fuzz.door import Door, Harness, right
from sim.fuzz.feed import Feed
from sim.gnss import TrueFix, sentences

AS_IT_IS, RIGHT_CHECKSUMS = range(2)
"""The first byte of an input."""
_T0: Final = datetime(2026, 12, 1, 10, 0, 0, tzinfo=UTC)


def _repaired(line: bytes) -> bytes:
    body = line.strip(b"$\r").partition(b"*")[0]
    return b"$%s*%02X\r" % (body, checksum(body))


def _heard(data: bytes, piece: int) -> list[Sentence]:
    stream = NmeaStream()
    found = [sentence for at in range(0, len(data), piece) for sentence in stream.feed(data[at : at + piece])]
    return found + stream.close()


def open_nmea(_folder: Path, _ending: ExitStack) -> Harness:
    """Bytes to sentences, to epochs, to what the box believes."""

    def run(data: bytes) -> None:
        feed = Feed(data)
        repair, piece = feed.below(2) == RIGHT_CHECKSUMS, 1 + feed.below(40)
        text = feed.rest()
        if repair:
            text = b"\n".join(map(_repaired, text.split(b"\n")))
        heard = _heard(text, piece)
        right(heard == _heard(text, max(1, len(text))), "other sentences in other pieces")
        receiver, gate = Receiver(), Gate(BUILD_S)
        fixes = [receiver.take(sentence, at_s / 5) for at_s, sentence in enumerate(heard)]
        for fix in (*fixes, receiver.flush()):
            if fix is not None:
                _judge(gate, fix)

    return run


def _judge(gate: Gate, fix: Fix) -> None:
    for event in gate.take(fix):
        if isinstance(event, PositionReported):
            at = event.position
            right(abs(at.latitude) <= 90 and abs(at.longitude) <= 180, "a position that is not on Earth")
            right(at.speed_mps is None or (math.isfinite(at.speed_mps) and at.speed_mps >= 0), "a speed that is none")
        elif isinstance(event, TimeHeard):
            right(event.heard.earliest_s >= BUILD_S - 2, "a time before the build")


def _seeds() -> list[bytes]:
    fix = TrueFix(48.25, -1.5, 5.0, 90.0, _T0)
    drive = b"".join(sentences(replace(fix, time=fix.time.replace(second=second))) for second in range(4))
    lost = sentences(fix, locked=False)
    odd = b"$GPRMC,235960.00,A,4815.0000,N,00130.0000,W,1.0,90.0,311226,,,A*00\n$GPZDA,000000,01,01,2027,,*00\n"
    return [bytes((how, 39)) + text for how in (AS_IT_IS, RIGHT_CHECKSUMS) for text in (drive, lost, odd)]


DOORS: Final = (
    # Some hundred sentences.
    Door("nmea", "the receiver's line, to what is believed", open_nmea, _seeds, worst_s=0.05),
)
