"""What the box's radio and its conversation have to agree on: the service, and how a value is refused."""

from __future__ import annotations

from typing import Final

SERVICE: Final = "6f0a0001-6d42-4c1e-9a51-3a5d1f0c7e10"
HELLO: Final = "6f0a0002-6d42-4c1e-9a51-3a5d1f0c7e10"
COMMAND: Final = "6f0a0003-6d42-4c1e-9a51-3a5d1f0c7e10"
RESULT: Final = "6f0a0004-6d42-4c1e-9a51-3a5d1f0c7e10"

NOT_UNDERSTOOD: Final = 0x80
"""Nothing that this box can read: damaged, or for another car."""
REFERENCE_UNKNOWN: Final = 0x81
"""Send the pass."""
HELLO_OVER: Final = 0x82
"""The HELLO was used, or is too old: read a new one."""
BUSY: Final = 0x83
"""Too much at once: try again in some seconds."""


class GattRefused(Exception):  # noqa: N818 - a stranger's bytes are no error of ours
    """A read or write is answered by an ATT error: ``code`` is 0x80 to 0x9f (Bluetooth Core, vol. 3, part F, 3.4.1)."""

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(f"0x{code:02x}{': ' if detail else ''}{detail}")
        self.code = code
