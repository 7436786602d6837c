"""Where each file of ``systemd/`` goes in the package: by its name, else by its ending. The one list to add to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

SYSTEM: Final = "usr/lib/systemd/system"
PLACES: Final[Mapping[str, str]] = {
    # A file by its name. What a package of Debian's owns is not replaced, but added to.
    "README.md": "usr/share/doc/amibox/systemd/README.md",
    "amibox.toml": "opt/amibox/share/box.toml",
    "80-amibox-devices.rules": "opt/amibox/share/80-amibox-devices.rules",
    "bluetooth.conf": f"{SYSTEM}/bluetooth.service.d/amibox.conf",
    "bluetooth-main.conf": "etc/amibox/bluetooth-main.conf",
    "journald.conf": "usr/lib/systemd/journald.conf.d/amibox.conf",
    "watchdog.conf": "usr/lib/systemd/system.conf.d/amibox.conf",
    # All others by their ending; {name} is the file's, {stem} the same without the ending.
    "*.service": SYSTEM + "/{name}",
    "*.socket": SYSTEM + "/{name}",
    "*.timer": SYSTEM + "/{name}",
    "*.path": SYSTEM + "/{name}",
    "*.target": SYSTEM + "/{name}",
    "*.network": "usr/lib/systemd/network/{name}",
    "*.link": "usr/lib/systemd/network/{name}",
    "*.sysusers": "usr/lib/sysusers.d/{stem}.conf",
    "*.tmpfiles": "usr/lib/tmpfiles.d/{stem}.conf",
    "*.modules": "usr/lib/modules-load.d/{stem}.conf",
    "*.polkit": "usr/share/polkit-1/rules.d/{stem}.rules",
    "*.rules": "usr/lib/udev/rules.d/{name}",
    "*.sh": "opt/amibox/bin/{stem}",
}
ADAPTED: Final[Mapping[str, str]] = {
    "opt/amibox/share/box.toml": "/etc/amibox/box.toml",
    "opt/amibox/share/80-amibox-devices.rules": "/etc/udev/rules.d/80-amibox-devices.rules",
}
"""What each car has its own of: copied once at installation, never overwritten, gone with a purge."""


@dataclass(frozen=True, slots=True)
class Put:
    """A file to put into the package. ``name`` has no slash before it."""

    source: Path
    name: str
    mode: int = 0o644


def places(folder: Path) -> tuple[Put, ...]:
    """Return where every file of ``folder`` goes. ValueError names one for which there is no place."""
    return tuple(_place(file) for file in sorted(folder.iterdir()))


def _place(file: Path) -> Put:
    for pattern, place in PLACES.items():
        if fnmatch(file.name, pattern):
            name = place.format(name=file.name, stem=file.stem)
            return Put(file, name, 0o755 if pattern == "*.sh" else 0o644)
    raise ValueError(f"{file}: where does it go in the package? Say so in PLACES of deb/places.py")


def units(put: Iterable[Put]) -> tuple[str, ...]:
    """Return the units among them, templates left out: none of these runs without a name."""
    found = (each.source.name for each in put if each.name.startswith(SYSTEM) and "@." not in each.name)
    return tuple(sorted(name for name in found if not name.endswith(".conf")))


def users(put: Iterable[Put]) -> tuple[str, ...]:
    """Return the users that are ours, as systemd-sysusers makes them."""
    texts = (each.source.read_text() for each in put if each.source.suffix == ".sysusers")
    lines = (line.split() for text in texts for line in text.splitlines())
    return tuple(words[1] for words in lines if words[:1] == ["u"])


def enabled(put: Iterable[Put]) -> tuple[str, ...]:
    """Return the units that begin at boot: they say so in a section [Install]."""
    put = tuple(put)
    wanted = {each.source.name for each in put if "\n[Install]\n" in each.source.read_text()}
    return tuple(name for name in units(put) if name in wanted)
