"""What the two Debian releases differ in, and what every guest is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIRROR: Final = "http://deb.debian.org/debian"
SECURITY: Final = "http://deb.debian.org/debian-security"
KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"

PACKAGES: Final = (
    # The machine. The generic kernel: the cloud kernel has no Bluetooth.
    "linux-image-amd64", "systemd-sysv", "udev", "dbus", "kmod", "initramfs-tools", "lz4", "iproute2", "procps",
    # What systemd/README.md asks for, on Python 3.13 as well.
    "python3", "python3-venv", "python3-dev", "swig", "gcc", "libc6-dev",
    # The simulated pins are built from the kernel's own source; Debian 13 packs modules.
    "linux-headers-amd64", "make", "xz-utils",
    # What tests talk to.
    "mosquitto", "bluez", "can-utils", "gpiod",
)  # fmt: skip

INITRD_MODULES: Final = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic", "i6300esb")
"""``i6300esb`` is here because Debian forbids udev to load watchdogs by itself."""

GUEST_MODULES: Final = ("virtio_console", "kvaser_pci", "gpio-sim")


@dataclass(frozen=True, slots=True)
class Release:
    """One release of Debian: number, name, Python, and the package of the kernel's source."""

    number: int
    name: str
    python: str
    kernel_source: str


RELEASES: Final = {
    12: Release(12, "bookworm", "3.11", "linux-source-6.1"),
    13: Release(13, "trixie", "3.13", "linux-source-6.12"),
}
