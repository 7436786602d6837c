"""The updater: what it verifies, when it waits, what it calls good, and how it goes back. Its clock is a number."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_sync import documents as d
from cloud_sync.documents.update import pack, version_number
from onboard import launch, slots, updater
from onboard.inbox import BUNDLE, KEYS, ROOTS
from onboard.slots import Slots, Trial
from tests.document_rig import CLOUD, OTHER_ROOT, ROOT, STRANGER
from tests.document_rig import KEYS as KEY_SET
from tests.update_rig import BOOT, PACKAGE, Town, bundle, content, signed

NEW = "0.2.0"


def note(town: Town) -> Slots:
    return slots.read(town.slots)


def words(town: Town) -> str:
    verdict = note(town).verdict
    return "" if verdict is None else verdict.words


def started(town: Town) -> str:
    """What the launcher would start now: a version's id, "" for the package's code."""
    slot = slots.choose(town.slots, town.boot_id, town.now_s, PACKAGE).slot
    return "" if slot is None else slot.id


def well(town: Town) -> dict[str, Any]:
    """A daemon of whatever the launcher starts, well since some seconds after the stop."""
    return town.old() | {"id": started(town), "up_s": town.up_s()}


def silent(_town: Town) -> dict[str, Any]:
    raise ConnectionError("no daemon answers")


def brought(folder: Path, data: bytes, **changes: Any) -> Town:
    town = Town(folder, daemon=well, **changes)
    town.bring(data)
    town.updater().run()
    return town


def test_a_good_bundle_is_tried_and_kept(tmp_path: Path) -> None:
    town = brought(tmp_path, bundle(NEW))
    found = note(town)
    assert found.good is not None
    assert (found.good.name, found.good.version, found.floor) == ("a", version_number(NEW), version_number(NEW))
    assert (found.trial, found.before, words(town)) == (None, None, "0.2.0 runs")
    assert (town.slots / "a").read_bytes() == bundle(NEW)
    assert not (town.inbox / BUNDLE).exists()
    assert town.asked[-1] == "update_kept"
    assert town.now_s - 1000.0 < 45.0, "a watchdog period and a little"


def test_the_next_one_goes_into_the_other_slot_and_the_one_before_stays(tmp_path: Path) -> None:
    town = brought(tmp_path, bundle(NEW))
    town.stopped_s = None
    town.bring(bundle("0.2.1"))
    town.updater().run()
    found = note(town)
    assert found.good is not None
    assert found.before is not None
    assert (found.good.name, found.before.name) == ("b", "a")
    assert (town.slots / "a").read_bytes() == bundle(NEW)


def test_nothing_is_called_good_before_a_whole_watchdog_period(tmp_path: Path) -> None:
    town = Town(tmp_path, daemon=well)
    town.bring(bundle(NEW))
    seen: list[float] = []
    town.on_sleep = lambda town: seen.append(town.up_s()) if note(town).good is None else None
    town.updater().run()
    assert max(seen) >= updater.WELL_S - updater.LOOK_EVERY_S
    unit = Path(__file__).parent.parent / "systemd" / "amibox.service"
    period_s = next(line for line in unit.read_text().splitlines() if line.startswith("WatchdogSec="))
    assert float(period_s.partition("=")[2]) < updater.WELL_S


@pytest.mark.parametrize(
    ("daemon", "why"),
    [
        (silent, "it does not answer"),
        (lambda town: well(town) | {"not_alive": ["gps"]}, "not alive: gps"),
        (lambda town: well(town) | {"faults": ["gps", "door"]}, "new faults: door"),
        (lambda town: well(town) | {"up_s": 20.0}, "it did not run for a watchdog period"),
        (lambda town: town.old(), "the version before still answers"),
    ],
)
def test_what_is_not_well_goes_back_by_itself_within_three_minutes(tmp_path: Path, daemon: Any, why: str) -> None:
    town = Town(tmp_path, daemon=daemon)
    town.bring(bundle(NEW))
    back: list[float] = []
    town.on_sleep = lambda town: back.append(town.now_s) if town.stopped_s and not started(town) else None
    town.updater().run()
    assert words(town) == f"refused: went back to the version before: {why}"
    assert started(town) == ""
    assert back[0] - 1000.0 <= slots.TRIAL_S <= 150.0, "with a start of 30 s: three minutes"
    # It is not tried again, and does not come in again.
    asked = len(town.asked)
    town.bring(bundle(NEW))
    town.updater().run()
    assert len(town.asked) == asked
    assert not (town.inbox / BUNDLE).exists()


def test_going_back_needs_no_updater(tmp_path: Path) -> None:
    """It dies in the middle of the trial, and nobody writes anything more."""
    town = Town(tmp_path, daemon=silent)
    town.bring(bundle(NEW))

    def die(town: Town) -> None:
        if town.stopped_s is not None:
            raise InterruptedError

    town.on_sleep = die
    with pytest.raises(InterruptedError):
        town.updater().run()
    assert started(town) == hashlib.sha256(signed(NEW, content(NEW))).hexdigest()
    town.now_s += slots.TRIAL_S
    assert started(town) == ""


def test_an_updater_that_comes_back_sees_its_trial_to_the_end(tmp_path: Path) -> None:
    town = Town(tmp_path, daemon=well)
    town.bring(bundle(NEW))

    def die(town: Town) -> None:
        if town.stopped_s is not None:
            raise InterruptedError

    town.on_sleep = die
    with pytest.raises(InterruptedError):
        town.updater().run()
    town.on_sleep = lambda _town: None
    town.updater().run()
    assert words(town) == "0.2.0 runs"


def test_a_power_cut_in_a_trial_costs_a_strike_and_three_are_the_end(tmp_path: Path) -> None:
    town = Town(tmp_path, daemon=silent)
    town.bring(bundle(NEW))

    def cut(town: Town) -> None:
        if town.stopped_s is not None:
            raise InterruptedError

    for number in range(1, slots.STRIKES_MAX + 1):
        town.on_sleep = cut
        with pytest.raises(InterruptedError):
            town.updater().run()
        assert started(town) != ""
        town.boot_id, town.stopped_s, town.now_s = f"boot after cut {number}", None, 30.0
        assert started(town) == "", "the boot alone goes back"
    town.on_sleep = lambda _town: None
    asked = len(town.asked)
    town.updater().run()
    assert words(town) == "refused: the box lost power or restarted in each of 3 trials"
    assert len(town.asked) == asked
    assert not (town.inbox / BUNDLE).exists()


def test_it_waits_while_the_box_may_not_be_away(tmp_path: Path) -> None:
    town = Town(tmp_path, daemon=well, obstacles=["rental", "rental", "battery"])
    town.bring(bundle(NEW))
    town.updater().run()
    assert town.asked[:5] == ["update", "update", "update", "update", "update_stop"]
    assert words(town) == "0.2.0 runs"


def test_a_box_that_changes_its_mind_is_asked_again_and_no_strike_is_counted(tmp_path: Path) -> None:
    town = Town(tmp_path, daemon=well, stops=False)
    town.bring(bundle(NEW))

    def relent(town: Town) -> None:
        assert note(town).trial is None
        assert note(town).strikes == 0
        town.stops = True

    town.on_sleep = lambda town: relent(town) if town.stopped_s is None else None
    town.updater().run()
    assert town.asked.count("update_stop") == 2
    assert words(town) == "0.2.0 runs"


def test_a_dead_daemon_is_waited_for(tmp_path: Path) -> None:
    """Whether somebody is under way cannot be known."""
    town = Town(tmp_path)
    town.bring(bundle(NEW))
    town.answers = False

    def withdraw(town: Town) -> None:
        if town.now_s > 10_000:
            (town.inbox / BUNDLE).unlink()

    town.on_sleep = withdraw
    town.updater().run()
    assert note(town).trial is None
    assert started(town) == ""


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (bundle("0.1.0"), "0.1.0 is not newer than what this box has"),
        (bundle("0.0.9"), "0.0.9 is not newer than what this box has"),
        (bundle(NEW, signer=STRANGER), "unknown_key_id (14)"),
        (flipped(bundle(NEW), 140), "bad_signature (16)"),
        (flipped(bundle(NEW), -3), "its content is not what was signed"),
        (bundle(NEW) + b"x", "its content is not what was signed"),
        (bundle(NEW)[:-1], "its content is not what was signed"),
        (bundle(NEW)[:100], "bad_envelope (4): a bundle that is cut short"),
        (b"", "bad_envelope (4): not a bundle of the box's software"),
        (bytes(9_000_000), "it is larger than"),
        (bundle(NEW, needs=("cbor2==0.0.1",)), "update the package first, it lacks cbor2==0.0.1"),
        (bundle(NEW, needs=("no-such-library==1",)), "update the package first, it lacks no-such-library==1"),
    ],
)
def test_what_does_not_prove_itself_is_refused_in_words_and_changes_nothing(
    tmp_path: Path, data: bytes, why: str
) -> None:
    town = brought(tmp_path, data)
    assert words(town).startswith(f"refused: {why}")
    assert town.asked == [], "the daemon was not even asked"
    assert started(town) == ""
    assert not (town.inbox / BUNDLE).exists()


def test_a_downgrade_is_refused_after_an_update_too(tmp_path: Path) -> None:
    town = brought(tmp_path, bundle("0.3.0"))
    town.bring(bundle(NEW))
    town.updater().run()
    assert words(town) == "refused: 0.2.0 is not newer than what this box has"
    assert note(town).floor == version_number("0.3.0")


def test_a_new_version_that_finds_itself_unfit_is_not_tried(tmp_path: Path) -> None:
    town = brought(tmp_path, bundle(NEW), check="ImportError: no such module")
    assert words(town) == "refused: its own check says: ImportError: no such module"
    assert town.asked == []


def test_a_bundle_left_by_a_power_cut_after_its_verdict_changes_no_word(tmp_path: Path) -> None:
    town = brought(tmp_path, bundle(NEW))
    before = note(town)
    town.bring(bundle(NEW))
    town.updater().run()
    assert note(town) == before
    assert not (town.inbox / BUNDLE).exists()


def test_roots_are_pinned_the_first_time_and_key_sets_never_fall(tmp_path: Path) -> None:
    town = brought(tmp_path, bundle(NEW))
    # Whoever took the box over names another root, whose key set has his own key.
    own = d.KeySet(99, (STRANGER.may_sign(d.DocumentType.UPDATE),), KEY_SET.sealing_public)
    (town.inbox / ROOTS).write_text(STRANGER.public.hex())
    (town.inbox / KEYS).write_bytes(d.encode_key_set(own, STRANGER))
    town.bring(bundle("0.3.0", signer=STRANGER))
    town.updater().run()
    assert words(town).startswith("refused: unknown_key_id")
    # A stolen key is taken out by a newer key set, which the second root signed; the older one does not bring it back.
    newer = replace(KEY_SET, version=KEY_SET.version + 1, keys=(STRANGER.may_sign(d.DocumentType.UPDATE),))
    (town.inbox / KEYS).write_bytes(d.encode_key_set(newer, OTHER_ROOT))
    town.bring(bundle("0.4.0", signer=CLOUD))
    town.updater().run()
    assert words(town).startswith("refused: unknown_key_id")
    (town.inbox / KEYS).write_bytes(d.encode_key_set(KEY_SET, ROOT))
    town.bring(bundle("0.4.1", signer=CLOUD))
    town.updater().run()
    assert words(town).startswith("refused: unknown_key_id")


@pytest.mark.parametrize("lacking", [ROOTS, KEYS])
def test_a_box_that_told_nobody_whom_it_believes_takes_nothing(tmp_path: Path, lacking: str) -> None:
    town = Town(tmp_path)
    (town.inbox / lacking).unlink()
    town.bring(bundle(NEW))
    town.updater().run()
    assert words(town).startswith("refused: ")
    assert started(town) == ""


def test_the_new_codes_own_word_is_asked_in_its_own_process(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(bundle(NEW))
    assert updater.check_bundle(tmp_path / "good", tmp_path / "box.toml") == ""
    (tmp_path / "empty").write_bytes(pack(b"document", b"no zip"))
    config = tmp_path / "box.toml"
    config.write_text("[nonsense]\n")
    # No zip: Python passes it over, and the package's own code says what is wrong with the configuration.
    assert "nonsense" in updater.check_bundle(tmp_path / "empty", config) or "box.toml" in updater.check_bundle(
        tmp_path / "empty", config
    )


def test_a_trial_of_this_boot_that_ran_out_is_over(tmp_path: Path) -> None:
    town = brought(tmp_path, bundle(NEW))
    found = note(town)
    assert found.good is not None
    tried = replace(found.good, id="f" * 64)
    slots.write(town.slots, replace(found, trial=Trial(tried, BOOT, town.now_s - 1.0)))
    town.updater().run()
    assert note(town).trial is None
    assert started(town) == found.good.id


def test_the_command_ends_when_there_is_nothing_to_do(tmp_path: Path) -> None:
    town = Town(tmp_path)
    arguments = ["--inbox", str(town.inbox), "--slots", str(town.slots), "--socket", str(tmp_path / "none")]
    assert updater.main(arguments) == 0
    (town.slots / "state.new").mkdir()
    town.bring(b"nothing")
    assert updater.main(arguments) == 1, "a disk that does not take it: systemd tries again"
    assert launch.boot_s() > 0
