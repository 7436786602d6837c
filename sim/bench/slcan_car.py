"""A car behind an slcan adapter that says what its bus suffers: ``python -m sim.bench.slcan_car FOLDER``.

QEMU's CAN bus knows no errors; the kernel's slcan line discipline takes them from the adapter's words. In the folder:
``port`` (the adapter's, for slcand) and ``say`` (a datagram socket: each datagram is what the adapter says next, such
as ``sb000255`` and a carriage return for bus-off).
"""

from __future__ import annotations

import selectors
import socket
import sys
from pathlib import Path
from typing import Final

from sim.ami import Ami
from sim.clock import real_boot_s
from sim.route import BAZOUGES_HEDE
from sim.slcan import SlcanOnPty

TURN_S: Final = 0.05
WORD_MAX: Final = 64


def main() -> int:
    """Play until killed."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "say").unlink(missing_ok=True)
    adapter = SlcanOnPty(folder / "port")
    adapter.open()
    words = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    words.bind(str(folder / "say"))
    selector = selectors.DefaultSelector()
    selector.register(adapter, selectors.EVENT_READ, adapter.serve)
    selector.register(words, selectors.EVENT_READ, lambda: adapter.say(words.recv(WORD_MAX)))
    ami = Ami(BAZOUGES_HEDE, real_boot_s())
    ami.plug(is_in=True)
    while True:
        ami.advance(real_boot_s())
        for identifier, data in ami.frames():
            adapter.send(identifier, data)
        for key, _ in selector.select(TURN_S):
            key.data()


if __name__ == "__main__":
    sys.exit(main())
