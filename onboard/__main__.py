"""The composition root of the product: the only place that knows which devices a real car has.

In order: read the configuration, learn who this box is, build the devices, put the box together, serve.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import gpiozero

from cloud_sync.documents import radio_name
from cloud_sync.provisioning import Provisioning, load_provisioning
from cloud_sync.uplink import UplinkSettings
from hw import desk, inspect_can, inspect_nmea
from hw.ble_server import BleServer, BleSettings
from hw.can_bus import CanBus, CanSettings
from hw.can_signals import CarModel
from hw.card_link import link_of
from hw.card_reader import Book, CardReader, CardReaderSettings
from hw.card_resets import reader_resets
from hw.clock_sources import Clock, SystemClock
from hw.door import Door, DoorSettings, make_pin_factory
from hw.gps import Gps, GpsSettings
from hw.interlock import Interlock, InterlockSettings
from hw.worker import AdapterError
from onboard import cli
from onboard.box import Box, CardKeys, Devices, NoDoor, Setting
from onboard.config import Config, ConfigError, check_devices, load_config
from onboard.mail import Identity
from onboard.notify import Notifier
from onboard.phones import Phones
from onboard.store import StoreFailed

log = logging.getLogger("amibox")

BUILD_S: Final = 1_795_305_600.0
"""Date of this release, 2026-11-22 00:00 UTC: no wall time below it is believed."""
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_epoch() -> bytes:
    """Return 8 bytes that name this boot of the machine, unpredictable and the same until the next boot."""
    return hashlib.sha256(BOOT_ID.read_bytes()).digest()[:8]


def build_devices(
    config: Config, given: Provisioning, clock: Clock, pins: gpiozero.Factory | None, floor_s: float
) -> tuple[Config, Devices]:
    """Build what the configuration names; return it with the car model's own bounds put into its policy."""
    model = CarModel.load(config.car.model)
    interlock = Interlock(InterlockSettings(moving_mps=config.policy.interlock_mps))
    workers: list[Any] = []
    if config.can is not None:
        can = config.can
        workers.append(CanBus(CanSettings(can.interface, can.channel, can.bitrate), model, clock))
    if config.gps is not None:
        workers.append(Gps(GpsSettings(str(config.gps.port), config.gps.baud_rate), clock, floor_s))
    door: Door | NoDoor = NoDoor()
    if config.door is not None and pins is not None:
        door = Door(door_settings(config), clock, interlock, pins)
        workers.append(door)
    card_reader = None
    if config.card_reader is not None:
        wired = config.card_reader
        reader = CardReaderSettings(str(wired.port), wired.baud_rate, proof_max_s=wired.proof_max_s)
        resets = reader_resets(wired.reset_pin, wired.power_pin, pins)

        def card_reader(keys: CardKeys, capturing: Callable[[], bool]) -> Any:
            book = Book(keys, capturing, door.notice)
            return CardReader(reader, clock, given.card_key, resets, link_of(reader), book)

    radio = None
    if config.bluetooth is not None:
        settings = BleSettings(radio_name(given.agreement.public), config.bluetooth.dbus_address)

        def radio(phones: Phones) -> Any:
            return BleServer(settings, phones, lambda: interlock.moving(clock.boot_s()))

    policy = replace(config.policy, odometer_speed_mps=model.odometer_speed_mps)
    return replace(config, policy=policy), Devices(door, tuple(workers), (interlock.note,), radio, card_reader)


def door_settings(config: Config) -> DoorSettings:
    """Return the door's wiring as its adapter wants it."""
    door = config.door
    if door is None:
        raise ValueError("no [door] section")
    return DoorSettings(
        unlock_pin=door.unlock_pin,
        lock_pin=door.lock_pin,
        driver_contact_pin=door.driver_contact_pin,
        passenger_contact_pin=door.passenger_contact_pin,
        lock_contact_pin=door.lock_contact_pin,
        lock_button_pin=door.lock_button_pin,
        key_contact_pin=door.key_contact_pin,
        led_pin=door.led_pin,
        buzzer_pin=door.buzzer_pin,
        relay_active_high=door.relay_active_high,
        door_closed_when_open=door.door_closed_when_open,
        lock_closed_when_unlocked=door.lock_closed_when_unlocked,
        pulse_s=door.pulse_s,
    )


def uplink_settings(config: Config, vehicle: str) -> UplinkSettings | None:
    """Return how to reach the broker; None for a car without a network of its own."""
    uplink = config.uplink
    if uplink is None:
        return None
    password = uplink.password_file.read_text().strip() if uplink.password_file is not None else None
    return UplinkSettings(
        host=uplink.host,
        port=uplink.port,
        vehicle=vehicle,
        username=uplink.username,
        password=password,
        ca=uplink.ca_file,
        cert=uplink.cert_file,
        key=uplink.key_file,
        keepalive_s=uplink.keepalive_s,
        backoff_longest_s=uplink.backoff_max_s,
    )


async def serve(
    config: Config, clock: Clock, pins: gpiozero.Factory | None, notifier: Notifier, floor_s: float = BUILD_S
) -> None:
    """Run one box until SIGTERM or SIGINT. Raises what ended it otherwise: the service manager starts it again."""
    given = load_provisioning(config.box.provisioning)
    config, devices = build_devices(config, given, clock, pins, floor_s)
    setting = Setting(
        config=config,
        identity=Identity(given.vehicle, given.agreement, given.signing, given.roots),
        clock=clock,
        floor_s=floor_s,
        boot_epoch=boot_epoch(),
        software=version("amibox"),
        list_floor=given.list_floor,
        key_set=given.key_set,
        key_set_floor=given.key_set_floor,
        uplink=uplink_settings(config, given.vehicle),
    )
    box = Box(setting)
    loop = asyncio.get_running_loop()
    try:
        await box.open(devices)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, box.stop)
        await box.run(notifier)
    finally:
        await box.close()


def run(config_file: Path) -> int:
    """Run the daemon: ``amibox run``."""
    try:
        config = load_config(config_file)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    logging.basicConfig(level=config.box.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    for problem in (*config.shadows, *check_devices(config)):
        # A device may come later; its worker keeps trying. The technician should know now.
        log.warning("%s", problem)
    try:
        pins = make_pin_factory(config.door.pin_factory) if config.door is not None else None
        asyncio.run(serve(config, SystemClock(), pins, Notifier()))
    except (AdapterError, StoreFailed, OSError, ValueError) as error:
        log.error("the box stops: %s", error)  # noqa: TRY400 - the text says what to do; a trace would bury it
        return 1
    return 0


def main() -> int:
    """Entry point of the ``amibox`` command."""
    return cli.main(cli.Commands(run=run, inspect_can=inspect_can, inspect_nmea=inspect_nmea, desk=desk))


if __name__ == "__main__":
    sys.exit(main())
