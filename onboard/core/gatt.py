"""The GATT service by which a phone speaks to the box: its names on the air, and how a value is refused.

Here because both sides of the seam need it: the device that serves it (``hw.ble_server``) and the conversation.
"""

from __future__ import annotations

from typing import Final

SERVICE: Final = "6f0a0001-6d42-4c1e-9a51-3a5d1f0c7e10"
HELLO: Final = "6f0a0002-6d42-4c1e-9a51-3a5d1f0c7e10"
"""Read."""
COMMAND: Final = "6f0a0003-6d42-4c1e-9a51-3a5d1f0c7e10"
"""Written, with response."""
RESULT: Final = "6f0a0004-6d42-4c1e-9a51-3a5d1f0c7e10"
"""Read; the read waits for the answer."""

VALUE_BYTES_MAX: Final = 512
"""Longest value of an attribute in Bluetooth."""

APPLICATION_ERRORS: Final = range(0x80, 0xA0)
"""Codes that Bluetooth leaves to the application (Bluetooth Core, vol. 3, part F, 3.4.1)."""
NOT_UNDERSTOOD: Final = 0x80
"""Nothing that this box can read: damaged, or for another car."""
REFERENCE_UNKNOWN: Final = 0x81
"""Send the pass."""
HELLO_OVER: Final = 0x82
"""The HELLO was used, or is too old: read a new one."""
BUSY: Final = 0x83
"""Try again in some seconds: no answer in time, or too much under way."""
BROKEN: Final = 0x8F
"""The box's own mistake."""


class GattRefused(Exception):  # noqa: N818 - a stranger's bytes are no error of ours
    """A read or write is answered with an error of ATT instead of a value. ``code`` is one of APPLICATION_ERRORS.

    Raises ValueError for another code.
    """

    def __init__(self, code: int, detail: str = "") -> None:
        if code not in APPLICATION_ERRORS:
            raise ValueError(f"an application error of ATT is 0x80 to 0x9f, not {code:#x}")
        super().__init__(f"{code:#04x}{': ' if detail else ''}{detail}")
        self.code = code
