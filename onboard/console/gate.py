"""Who may log in by PIN: compared in constant time, slower at each failure, locked for a quarter of an hour after five.

What was tried stands on disk before the PIN is looked at: neither a pulled cable nor a new process forgets it. Time is
the boot-time clock's; after a reboot, whose length nobody knows, a lock-out begins anew.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents import Technician
from cloud_sync.documents.boxes import PIN_DIGEST_BYTES, SALT_BYTES
from cloud_sync.provisioning import pin_digest
from onboard.console.daemon import write_durably

FAILURES_MAX: Final = 5
LOCK_OUT_S: Final = 900.0
_NOBODY: Final = Technician("nobody", bytes(SALT_BYTES), bytes(PIN_DIGEST_BYTES))


@dataclass(frozen=True, slots=True)
class Tries:
    """What was tried: failures since the last success or lock-out, and until when (boot time) nobody may try."""

    failures: int = 0
    locked_until_s: float = 0.0
    boot: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``who``: the technician, "" if refused: then ``wait_s`` must pass before the next try. ``locked``: for long."""

    who: str
    failures: int = 0
    wait_s: float = 0.0
    locked: bool = False


class Gate:
    """Checks PINs. ``boot`` names this boot of the machine; ``boot_s`` reads its clock."""

    def __init__(self, file: Path, technicians: Iterable[Technician], boot: str, boot_s: Callable[[], float]) -> None:
        self._file = file
        self._known = {each.name: each for each in technicians}
        self._boot = boot
        self._boot_s = boot_s

    def locked_s(self) -> float:
        """Return for how long nobody may try, 0 if somebody may."""
        tries = self._read()
        return max(0.0, tries.locked_until_s - self._boot_s())

    def check(self, name: str, pin: str) -> Verdict:
        """Judge one try. During a lock-out no PIN is looked at."""
        tries, now_s = self._read(), self._boot_s()
        if tries.locked_until_s > now_s:
            return Verdict("", tries.failures, tries.locked_until_s - now_s, locked=True)
        if tries.failures >= FAILURES_MAX:
            tries = replace(tries, failures=0)
        failures = tries.failures + 1
        last = failures >= FAILURES_MAX
        self._write(Tries(failures, now_s + LOCK_OUT_S if last else 0.0, self._boot))
        known = self._known.get(name, _NOBODY)
        # An unknown name takes as long, and nothing has a digest of zeros.
        right = hmac.compare_digest(pin_digest(pin, known.salt), known.digest)
        if right and known is not _NOBODY:
            self._write(Tries(boot=self._boot))
            return Verdict(known.name)
        return Verdict("", failures, LOCK_OUT_S if last else 2.0 ** (failures - 1), locked=last)

    def _read(self) -> Tries:
        try:
            found: dict[str, Any] = json.loads(self._file.read_text())
            tries = Tries(int(found["failures"]), float(found["locked_until_s"]), str(found["boot"]))
        except FileNotFoundError:
            return Tries(boot=self._boot)
        except (OSError, ValueError, KeyError, TypeError):
            # Damaged, maybe by whoever wants it forgotten: the last try before a lock-out.
            tries = Tries(FAILURES_MAX - 1, 0.0, self._boot)
        if tries.boot != self._boot:
            until_s = LOCK_OUT_S if tries.locked_until_s > 0 else 0.0
            tries = replace(tries, boot=self._boot, locked_until_s=until_s)
        return tries

    def _write(self, tries: Tries) -> None:
        write_durably(self._file, json.dumps(asdict(tries)).encode())
