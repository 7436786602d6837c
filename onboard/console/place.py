"""What the console knows of its box without asking anybody: configuration, keys, and the files it keeps itself."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cloud_sync.provisioning import Provisioning, load_provisioning
from onboard.config import BoxConfig, Config, ConfigError, load_config
from onboard.console.daemon import Daemon, write_durably
from onboard.console.gate import Gate

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(slots=True)
class Place:
    """``given`` is None on a box that no car has yet: it has no technicians, no keys, and nothing to protect.

    ``problems``: what of the box's own files does not read, for the screen.
    """

    folder: Path
    box: BoxConfig
    config: Config | None
    given: Provisioning | None
    problems: tuple[str, ...]
    daemon: Daemon
    settings: dict[str, bool] = field(default_factory=dict)

    @property
    def vehicle(self) -> str:
        """The car's name; ``new`` before it has one."""
        return self.given.vehicle if self.given is not None else "new"

    @property
    def in_service(self) -> bool:
        """Whether somebody must log in: there is a provisioning file, whether it reads or not."""
        return self.given is not None or self.box.provisioning.exists()

    def gate(self) -> Gate:
        """Return who checks PINs."""
        technicians = self.given.technicians if self.given is not None else ()
        boot = BOOT_ID.read_text().strip()
        return Gate(self.folder / "tries.json", technicians, boot, lambda: time.clock_gettime(time.CLOCK_BOOTTIME))

    def remember(self, **settings: bool) -> None:
        """Keep the language and the terminal for the next time."""
        self.settings |= settings
        write_durably(self.folder / "settings.json", json.dumps(self.settings).encode())


def look(config_file: Path) -> Place:
    """Read what is there. Never raises for what is not: this is the tool that tells."""
    problems: list[str] = []
    config, given = None, None
    try:
        config = load_config(config_file)
    except ConfigError as error:
        problems += str(error).splitlines()[:3]
    box = config.box if config is not None else BoxConfig()
    try:
        given = load_provisioning(box.provisioning)
    except ValueError as error:
        problems.append(str(error))
    folder = box.data_dir / "console"
    daemon = Daemon(box.socket, folder, box.data_dir / "store.db")
    return Place(folder, box, config, given, tuple(problems), daemon, _settings(folder))


def _settings(folder: Path) -> dict[str, bool]:
    try:
        found = json.loads((folder / "settings.json").read_text())
        return {name: bool(found[name]) for name in ("french", "plain") if name in found}
    except (OSError, ValueError, TypeError):
        return {}
