"""``make broker``: the commune's broker on this machine as it is shipped, with certificates for whoever has none.

python -m sim.local_broker DIR [--port 8883] [--vehicle hede-1] [--host NAME]...
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from cloud_sync.endpoint import authority
from cloud_sync.endpoint.authority import Paths
from cloud_sync.endpoint.broker_command import serve_flags
from cloud_sync.endpoint.certificates import BROKER, BrokerAuthority, BrokerPaths, found

PORT: Final = 8883
HERE: Final = ("localhost", "127.0.0.1", "::1")
LISTENER: Final = f"listener {PORT}\n"


def configure(folder: Path, port: int = PORT, bind: str = "") -> Path:
    """Write the shipped configuration of an endpoint's ``folder`` for another ``port`` and address; return the file.

    All other lines are the shipped ones. Start mosquitto in the folder of its certificates.
    """
    place = BrokerPaths(folder).mosquitto
    shipped = (place / "mosquitto.conf").read_text()
    if LISTENER not in shipped:
        raise ValueError(f"{place / 'mosquitto.conf'} has no line {LISTENER!r}")
    text = shipped.replace(LISTENER, f"listener {port} {bind}".rstrip() + "\n")
    if os.geteuid() == 0:
        # It would become the user mosquitto, to whom a folder of root's is shut.
        text += "user root\n"
    file = BrokerPaths(folder).root / "here.conf"
    file.write_text(text)
    return file


def prepare(folder: Path, hosts: Sequence[str], vehicle: str, now_s: float) -> Path:
    """Make what is missing: the commune's keys, the broker's authority, a box's files. Return the folder of these."""
    if not Paths(folder).key_set.exists():
        authority.initialise(folder, int(now_s))
    if not BrokerPaths(folder).root.exists():
        found(folder, hosts, now_s)
    elif not set(hosts) <= set(BrokerAuthority(folder).hosts()):
        BrokerAuthority(folder).renew_own(BROKER, now_s, hosts)
    box = folder / "boxes" / vehicle
    if not (box / "box.pem").exists():
        BrokerAuthority(folder).give(vehicle, box, now_s)
    return box


def main(argv: list[str] | None = None) -> NoReturn:
    """Prepare, say how to use it, and become mosquitto."""
    parser = argparse.ArgumentParser(prog="make broker", description="The commune's broker on this machine.")
    parser.add_argument("dir", metavar="DIR", type=Path)
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--vehicle", default="hede-1")
    parser.add_argument("--host", action="append", default=[], help="a further name of this machine")
    arguments = parser.parse_args(argv)
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        sys.exit("There is no mosquitto here: sudo apt install mosquitto")
    os.umask(0o077)
    folder = arguments.dir.resolve()
    hosts = list(dict.fromkeys((*HERE, socket.gethostname(), *arguments.host)))
    box = prepare(folder, hosts, arguments.vehicle, time.time())
    file = configure(folder, arguments.port)
    sys.stdout.write(
        f"The endpoint:\n  amibox-cloud serve {serve_flags(folder, 'localhost', arguments.port)}\n"
        f'The box of {arguments.vehicle}, in its box.toml:\n  [uplink]\n  host = "{(arguments.host or hosts)[0]}"\n'
        f'  port = {arguments.port}\n  ca_file = "{box / "ca.pem"}"\n  cert_file = "{box / "box.pem"}"\n'
        f'  key_file = "{box / "box.key"}"\n'
        f"Its answer: amibox-cloud box add {arguments.vehicle} --dir {folder} …: docs/provisioning.md\n"
        f"Another box: amibox-cloud broker box NAME --dir {folder} --out {folder / 'boxes'}/NAME\n"
        "mosquitto runs until Ctrl-C:\n"
    )
    sys.stdout.flush()
    os.chdir(BrokerPaths(folder).mosquitto)
    os.execv(program, [program, "-c", str(file)])  # noqa: S606  (its arguments are ours)


if __name__ == "__main__":
    main()
