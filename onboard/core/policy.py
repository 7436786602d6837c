"""Every bound and every time of the core in one place; the configuration may change them, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Station:
    """A place where a rental may begin and end: a circle of ``radius_m`` round a charging point."""

    id: str
    latitude: float
    longitude: float
    radius_m: float


@dataclass(frozen=True, slots=True)
class Policy:
    """The commune's rules and the box's bounds. Defaults are the safe ones."""

    stations: tuple[Station, ...] = ()

    # Access
    early_unlock_s: float = 600.0
    """A driver may come this early if no other window is open."""
    grace_s: float = 900.0
    """A rental may outlast its booking this long before a locked car counts as returned."""
    unproven_start: bool = False
    """Let a listed booking start although the clock is too weak to test its window (logged as unproven)."""
    uid_cards: bool = False
    """Accept cards that only show a number. Such cards can be copied."""
    reopen_window_s: float = 600.0
    finish_tap_s: float = 20.0
    """A second tap within this time of the lock ends the rental anywhere."""
    lock_ends_rental: Literal["at_dropoff", "always"] = "at_dropoff"
    left_open_s: float = 300.0
    abandon_s: float = 1800.0

    # Doors
    settle_s: float = 0.1
    """A door report counts for an actuation only if sampled this long after its pulse ended."""
    confirm_s: float = 3.0
    """No confirmation by then: the pulse is repeated."""
    attempts_max: int = 3
    lock_arm_s: float = 120.0
    """After the button (or a tap with a door open), the car locks when the last door shuts within this time."""
    door_fresh_s: float = 5.0

    # Standing still
    speed_fresh_s: float = 3.0
    standstill_mps: float = 0.3
    interlock_mps: float = 1.4

    # Trip
    progress_every_s: float = 300.0
    """How often a running trip's distance is made durable: a power cut loses at most this much of the fallbacks."""
    track_every_s: float = 60.0
    track_points_max: int = 64
    speed_gap_s: float = 2.0
    odometer_speed_mps: float = 33.4
    """Fastest believable odometer rise; the car's model sets it (120 km/h unless it says otherwise)."""
    unbooked_movement_m: float = 100.0

    # Charging
    plug_in_grace_s: float = 900.0
    plug_in_soc_pct: float = 97.0
    plug_in_temperature_c: tuple[float, float] = (-5.0, 53.0)

    # Sync
    batch_events_max: int = 50
    batches_unacknowledged_max: int = 16
    resend_first_s: float = 60.0
    resend_max_s: float = 600.0
    status_every_s: float = 60.0
    echo_after_s: float = 3600.0
    """Heard nothing from the commune for so long: the status asks for an answer, which takes both directions."""
    comms_lost_s: float = 300.0

    # 12 V: falling below a step enters it, rising 0.3 V above it leaves it
    supply_saving_v: float = 12.2
    supply_critical_v: float = 11.8
    supply_off_v: float = 11.5
    supply_hysteresis_v: float = 0.3
    supply_hold_s: float = 60.0
    supply_plausible_v: tuple[float, float] = (9.0, 16.0)
    """Outside of it no battery is measured that the box could run from: a broken wire reads 0 V."""
    supply_fresh_s: float = 60.0
    """Without a believable measurement for so long nothing is known of the battery."""
    supply_awake_s: float = 120.0
    """So long after its start the box does not switch itself off: time for a driver who waits beside it."""
    supply_check_s: float = 21_600.0
    """Switched off, the box comes back after so long at the latest, to look at the battery and for bookings."""
    supply_settle_s: float = 3600.0
    """So long after its last use a battery shows its own voltage; from then on its fall is reckoned on."""

    # What is switched off while nobody needs it
    soon_s: float = 900.0
    """So long before a booking everything is on."""
    parked_after_s: float = 300.0
    """So long after its last use a car counts as parked: its receiver is off."""
    modem_switch: bool = False
    """There is a switch for the modem: the car's wiring says so."""
    modem_every_s: float = 900.0
    modem_look_s: float = 120.0
    """A parked car's modem is on for so long in every ``modem_every_s``, to send what waits and hear of bookings."""
    modem_linger_s: float = 3600.0
    """So long after its last use it stays on, if the car is not locked and charging before."""

    # Bounds
    passes_max: int = 64
    refusals_per_hour_max: int = 60
    """Refusals written down in an hour; more are counted in one record. Changes of faults have the same bound."""
    remembered_commands_max: int = 256
    remembered_commands_each_max: int = 32
    """Of one phone, so that none pushes aside what others were answered."""
    remembered_commands_s: float = 24 * 3600.0
