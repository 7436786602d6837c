"""The process of one long run: atheris picks inputs by what of the product each reaches. Ends by itself.

``python -m sim.fuzz.guided DOOR FOLDER SECONDS``: what it found stands in the folder (``sim.fuzz.run``), its figures in
``figures.json``, written anew every second: libFuzzer ends the process without a word to Python.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import logging
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["onboard", "hw", "cloud_sync", "can", "pynmeagps", "tomllib"]):
    from sim.fuzz.doors import ALL

from sim.fuzz.door import Harness, opened, place_of

HANGS_S: Final = 20
"""An input that takes longer ends the run; its bytes are kept."""
MEMORY_MB: Final = 2048
FIGURES_EVERY_S: Final = 1.0
SLOW_KEPT: Final = 5
FIGURES: Final = "figures.json"


@dataclass(slots=True)
class _Run:
    """What this process knows of its run."""

    harness: Harness
    folder: Path
    executions: int = 0
    began_s: float = field(default_factory=time.monotonic)
    written_s: float = 0.0
    crashes: dict[str, str] = field(default_factory=dict)
    """Where it came from -> the file with the input."""
    slow: list[tuple[float, bytes]] = field(default_factory=list)

    def one(self, data: bytes) -> None:
        """Look at one input; a crash is noted, and the run goes on."""
        began_s = time.process_time()
        try:
            self.harness(data)
        except Exception as error:  # noqa: BLE001 - whatever is not caught below is what is looked for
            self._crashed(error, data)
        took_s = time.process_time() - began_s
        self.executions += 1
        if len(self.slow) < SLOW_KEPT:
            heapq.heappush(self.slow, (took_s, data))
        elif took_s > self.slow[0][0]:
            heapq.heapreplace(self.slow, (took_s, data))
        if time.monotonic() - self.written_s > FIGURES_EVERY_S:
            self._write()

    def _crashed(self, error: Exception, data: bytes) -> None:
        place = place_of(error)
        if place in self.crashes:
            return
        file = self.folder / "crashes" / hashlib.sha256(data).hexdigest()[:16]
        file.write_bytes(data)
        self.crashes[place] = str(file)
        self._write()

    def _write(self) -> None:
        self.written_s = time.monotonic()
        for _, data in self.slow:
            (self.folder / "slow" / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        figures = {
            "executions": self.executions,
            "seconds": round(self.written_s - self.began_s, 1),
            "crashes": self.crashes,
        }
        fresh = self.folder / (FIGURES + ".new")
        fresh.write_text(json.dumps(figures))
        fresh.replace(self.folder / FIGURES)


def main() -> None:
    """Fuzz one door; does not return."""
    name, folder, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    logging.disable()
    door = ALL[name]
    with opened(door) as harness:
        run = _Run(harness, folder)
        flags = [
            f"-max_total_time={seconds}",
            f"-max_len={door.bytes_max}",
            f"-timeout={HANGS_S}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-artifact_prefix={folder}/crashes/",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *flags, str(folder / "corpus")], run.one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
