"""The virtual vehicle bench: a Debian guest under QEMU, with the box installed as on a Pi. See docs/bench.md."""
