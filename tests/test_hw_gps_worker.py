"""The GNSS worker on a real tty: the simulated receiver is plugged, unplugged, muted and garbled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hw.gps import BACKUP, SILENT_S, WAKE, Gps, GpsSettings, ubx
from hw.nmea import NmeaStream, Receiver
from hw.worker import Life
from onboard.core.clock import ClockQuality, Instant
from onboard.core.commands import Loads
from onboard.core.events import Event, FaultReported, PositionReported, TimeHeard
from sim.gnss import GnssFault, SimulatedGnss, TrueFix

DEADLINE_S = 20.0
NOON = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
BUILD_S = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
HEDE = TrueFix(48.2969, -1.8036, 8.5, 211.0, NOON)


class HandClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at_s = 100.0

    def boot_s(self) -> float:
        return self.at_s

    def now(self) -> Instant:
        return Instant(self.at_s, 0.0, ClockQuality.UNSET)

    def wait_s(self, boot_s: float) -> float:
        return max(0.0, boot_s - self.at_s)


class Bench:
    """A running worker, its receiver, and what it emitted."""

    def __init__(self, link: Path, build_s: float) -> None:
        self.receiver = SimulatedGnss(link)
        self.clock = HandClock()
        self.events: list[Event] = []
        self.beats = 0
        self.gps = Gps(GpsSettings(str(link), 38400), self.clock, build_s)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.gps.run, args=(Life(self.events.append, self._beat, self._stop),))
        self._seconds = 0

    def _beat(self) -> None:
        self.beats += 1

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> float:
        """Stop the worker; return how long it took."""
        begun = time.monotonic()
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        self.receiver.close()
        return time.monotonic() - begun

    def send(self) -> None:
        """One second more: the clock, the receiver."""
        self._seconds += 1
        self.clock.at_s += 1
        self.receiver.send(replace(HEDE, time=NOON + timedelta(seconds=self._seconds)))

    def until(self, seen: Callable[[], object], *, sending: bool = True) -> None:
        """Send second after second until something is seen; fail at the deadline."""
        end = time.monotonic() + DEADLINE_S
        while not seen():
            assert time.monotonic() < end, (self.events, self.gps.counts)
            if sending:
                self.send()
            time.sleep(0.02)

    def faults(self) -> list[FaultReported]:
        return [event for event in self.events if isinstance(event, FaultReported)]

    def positions(self) -> list[PositionReported]:
        return [event for event in self.events if isinstance(event, PositionReported)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing_bench(tmp_path / "gps") as bench:
        yield bench


@contextmanager
def closing_bench(link: Path, build_s: float = BUILD_S) -> Iterator[Bench]:
    """A bench whose worker never outlives its test."""
    bench = Bench(link, build_s)
    try:
        yield bench
    finally:
        bench.stop()


def test_positions_and_a_time_arrive_and_the_receiver_is_told_to_work(bench: Bench) -> None:
    bench.receiver.open()
    bench.start()
    bench.until(lambda: len(bench.positions()) >= 3)
    position = bench.positions()[0].position
    assert position.latitude == pytest.approx(HEDE.latitude, abs=1e-7)
    assert position.longitude == pytest.approx(HEDE.longitude, abs=1e-7)
    assert position.speed_mps == pytest.approx(8.5, abs=1e-3)
    assert (position.mode, position.hdop) == (3, 0.92)
    assert bench.clock.at_s >= position.sampled_s > 100
    heard = [event.heard for event in bench.events if isinstance(event, TimeHeard)]
    assert heard[0].quality is ClockQuality.GNSS
    assert abs(heard[0].earliest_s - NOON.timestamp()) < 3600
    assert [fault.active for fault in bench.faults()] == [False]
    assert bench.gps.counts["fixes"] >= 3


def test_the_last_epoch_is_not_held_back_until_the_next_one(bench: Bench) -> None:
    bench.receiver.open()
    bench.start()
    bench.until(bench.positions)
    bench.send()
    bench.until(lambda: bench.positions()[-1].position.sampled_s == bench.clock.at_s, sending=False)


def test_no_fix_is_no_fault(bench: Bench) -> None:
    bench.receiver.open()
    bench.receiver.fault = GnssFault.NO_FIX
    bench.start()
    bench.until(bench.faults)
    bench.until(lambda: bench.clock.at_s > 100 + 5 * SILENT_S)
    assert [fault.active for fault in bench.faults()] == [False]
    assert bench.positions() == []


def test_a_receiver_pulled_out_is_told_and_comes_back_by_itself(bench: Bench) -> None:
    bench.receiver.open()
    bench.start()
    bench.until(bench.positions)
    bench.receiver.unplug()
    bench.until(lambda: len(bench.faults()) == 2)
    assert bench.faults()[-1].active
    assert "lost: " in bench.faults()[-1].detail
    assert "plugged in" in bench.faults()[-1].detail
    beats = bench.beats
    bench.receiver.open()
    before = len(bench.positions())
    bench.until(lambda: len(bench.positions()) > before)
    assert [fault.active for fault in bench.faults()] == [False, True, False]
    assert bench.beats > beats
    assert bench.gps.counts["port_lost"] >= 1


def test_a_receiver_that_was_never_there_is_found_when_it_comes(bench: Bench) -> None:
    bench.start()
    bench.until(bench.faults)
    assert bench.faults()[0].active
    assert "No such file" in bench.faults()[0].detail
    bench.receiver.open()
    bench.until(bench.positions)
    assert not bench.faults()[-1].active


def test_silence_is_told_with_its_remedy_and_ends(bench: Bench) -> None:
    bench.receiver.open()
    bench.start()
    bench.until(bench.positions)
    bench.receiver.fault = GnssFault.SILENCE
    bench.until(lambda: len(bench.faults()) == 2)
    assert bench.faults()[-1].detail.startswith("silent: nothing on ")
    bench.receiver.fault = GnssFault.NONE
    bench.until(lambda: len(bench.faults()) == 3)
    assert not bench.faults()[-1].active


def test_a_wrong_baud_rate_is_told_with_its_remedy(bench: Bench) -> None:
    bench.receiver.open()
    bench.receiver.fault = GnssFault.NOT_UNDERSTOOD
    bench.start()
    bench.until(bench.faults)
    assert bench.faults()[0].active
    assert "at 38400 bit/s: set gps.baud_rate" in bench.faults()[0].detail
    assert bench.gps.counts["noise"] > 0


def test_something_that_is_no_serial_port_is_told(tmp_path: Path) -> None:
    link = tmp_path / "gps"
    link.write_text("not a tty")
    with closing_bench(link) as bench:
        bench.start()
        bench.until(bench.faults, sending=False)
        assert bench.faults()[0].active


@pytest.mark.parametrize("plugged", [True, False])
def test_it_stops_within_a_second(bench: Bench, plugged: bool) -> None:
    if plugged:
        bench.receiver.open()
    bench.start()
    bench.until(lambda: bench.faults() or bench.positions())
    assert bench.stop() < 1.0 + 2.0  # two seconds for a busy machine


def test_a_recording_goes_through_the_port_as_through_the_parser(recordings: Path, tmp_path: Path) -> None:
    raw = (recordings / "nmea" / "quectel-L70.log").read_bytes()
    sent = b"".join(line for line in raw.splitlines(keepends=True) if not line.startswith(b"#"))
    with closing_bench(tmp_path / "gps", datetime(2022, 1, 1, tzinfo=UTC).timestamp()) as bench:
        bench.receiver.open()
        bench.start()
        bench.until(lambda: bench.beats, sending=False)
        for at in range(0, len(sent), 512):
            beats = bench.beats
            bench.receiver.write(sent[at : at + 512])
            bench.clock.at_s += 1
            bench.until(lambda: bench.beats > beats, sending=False)  # noqa: B023  (called at once; a tty's buffer is small)
        stream, receiver = NmeaStream(), Receiver()
        parsed = [receiver.take(sentence) for sentence in stream.feed(sent)] + [receiver.flush()]
        places = {(fix.lat, fix.lon) for fix in parsed if fix is not None}
        assert len(places) > 2
        bench.until(
            lambda: {(p.position.latitude, p.position.longitude) for p in bench.positions()} == places, sending=False
        )
        assert set(bench.gps.counts) == {"fixes"}


def test_a_parked_cars_receiver_sleeps_without_a_fault_and_wakes_with_a_fix(bench: Bench) -> None:
    bench.receiver.open()
    bench.start()
    bench.until(bench.positions)
    assert bench.receiver.heard().endswith(WAKE)
    bench.gps.set_loads(Loads(gnss=False))
    bench.until(lambda: bench.gps.counts["sleeps"])
    bench.until(lambda: BACKUP in bench.receiver.heard(), sending=False)
    before, told = bench.beats, len(bench.positions())
    bench.clock.at_s += 2 * SILENT_S
    bench.until(lambda: bench.beats > before + 2)
    assert len(bench.positions()) == told
    assert not any(fault.active for fault in bench.faults()), "it was sent to sleep: its silence is no fault"
    bench.gps.set_loads(Loads())
    bench.until(lambda: len(bench.positions()) > told)
    assert bench.receiver.heard().endswith(WAKE)


def test_a_receiver_with_a_switch_is_not_asked_to_sleep(tmp_path: Path) -> None:
    with closing_bench(tmp_path / "gps") as bench:
        bench.gps = Gps(GpsSettings(str(tmp_path / "gps"), 38400, sleeps=False), bench.clock, BUILD_S)
        bench._thread = threading.Thread(
            target=bench.gps.run, args=(Life(bench.events.append, bench._beat, bench._stop),)
        )
        bench.receiver.open()
        bench.start()
        bench.until(bench.positions)
        bench.gps.set_loads(Loads(gnss=False))
        bench.until(lambda: bench.gps.counts["sleeps"])
        assert BACKUP not in bench.receiver.heard()


def test_the_wish_to_sleep_is_the_message_that_the_maker_describes() -> None:
    """UBX-RXM-PMREQ. Checked against the message that u-blox prints for its older form of 8 bytes."""
    old = ubx(0x02, 0x41, bytes(4) + b"\x02\x00\x00\x00")
    assert old.hex(" ") == "b5 62 02 41 08 00 00 00 00 00 02 00 00 00 4d 3b"
    body = BACKUP[6:-2]
    assert (BACKUP[:6].hex(" "), len(body)) == ("b5 62 02 41 10 00", 16)
    assert body[:8] == bytes(8), "version 0, and without an end"
    assert body[8:12] == b"\x02\x00\x00\x00", "bit 1: backup; not bit 2: over USB it would never wake"
    assert body[12:] == b"\x08\x00\x00\x00", "bit 3: its UART wakes it"
