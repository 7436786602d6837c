"""What the guests differ in (Debian's release, the processor), and what every one is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIRROR: Final = "http://deb.debian.org/debian"
SECURITY: Final = "http://deb.debian.org/debian-security"
KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"

PACKAGES: Final = (
    # The machine. With its kernel comes the generic one: the cloud kernel has no Bluetooth.
    "systemd-sysv", "udev", "dbus", "kmod", "initramfs-tools", "lz4", "iproute2", "procps",
    # What the box's package depends on: there is no network to fetch it from when it is installed.
    "python3", "bluez", "polkitd", "passwd",
    # The simulated pins are built from the kernel's own source; Debian 13 packs modules.
    "make", "gcc", "libc6-dev", "xz-utils",
    # What tests talk to.
    "mosquitto", "can-utils", "gpiod",
)  # fmt: skip

INITRD_MODULES: Final = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic", "i6300esb")
"""``i6300esb`` is here because Debian forbids udev to load watchdogs by itself."""

GUEST_MODULES: Final = ("virtio_console", "kvaser_pci", "gpio-sim")


@dataclass(frozen=True, slots=True)
class Architecture:
    """A kind of processor, and the machine that QEMU makes for it."""

    debian: str
    """Debian's name for it."""
    machine: str
    """The kernel's name for it (``uname -m``), which is QEMU's and a wheel's as well."""
    qemu_package: str
    board: str
    processor: str
    """What is emulated where it can't be lent."""
    serial: str
    """The kind of serial port that the guest calls ttyS0 and so on."""
    arguments: str
    """The kernel's, beside those of every guest."""
    initrd_modules: tuple[str, ...]
    """As well, beside those of every guest."""


# no_timer_check: on a busy machine an emulated timer may tick too late for the kernel, which then panics.
AMD64: Final = Architecture("amd64", "x86_64", "qemu-system-x86", "q35", "Nehalem", "isa-serial", "no_timer_check", ())
ARM64: Final = Architecture(
    "arm64",
    "aarch64",
    "qemu-system-arm",
    "virt",
    "cortex-a53",  # a Pi 3's
    "pci-serial",
    "initcall_blacklist=pl061_gpio_driver_init",  # the board's own pins would be GPIO chip 0
    ("bcm2835",),  # a Pi 3's card slot: sim/bench/pi.py
)


@dataclass(frozen=True, slots=True)
class Release:
    """One release of Debian: number, name, Python, the package of the kernel's source; and for which processor."""

    number: int
    name: str
    python: str
    kernel_source: str
    architecture: Architecture = AMD64

    @property
    def label(self) -> str:
        """What a person calls it."""
        return f"{self.number}" if self.architecture is AMD64 else f"{self.number}-{self.architecture.debian}"


RELEASES: Final = {
    release.label: release
    for release in (
        Release(12, "bookworm", "3.11", "linux-source-6.1"),
        Release(13, "trixie", "3.13", "linux-source-6.12"),
        Release(12, "bookworm", "3.11", "linux-source-6.1", ARM64),
    )
}
