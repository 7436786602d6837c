"""The commune beside the rig: its keys, mosquitto with TLS, and the endpoint, on the machine of the car's ends.

On the bench that is the guest itself; a box with wires reaches it over the network. Everybody proves himself to the
broker by a certificate.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Any, Final

from cloud_sync.endpoint.certificates import SHIPPED
from sim.bench.agent import ASK
from sim.bench.keys import Certifier
from sim.bench.machine import GuestError
from sim.rig import STATE, VEHICLE, Rig

FOLDER: Final = "/srv/commune"
HTTP: Final = "127.0.0.1:8080"
HTTP_S: Final = 20.0
BROKER: Final = """\
listener 8883 {bind}
cafile /etc/mosquitto/bench/ca.pem
certfile /etc/mosquitto/bench/broker.pem
keyfile /etc/mosquitto/bench/broker.key
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file /etc/mosquitto/bench/access
"""
ACCESS: Final = SHIPPED / "access.list"


def read_out(said: str) -> str:
    """Return the fingerprint in what a command said, as somebody reads it out. ValueError: there is none, or two."""
    (digits,) = set(re.findall(r"\d{5}(?: \d{5}){7}", said))
    return str(digits)


class Commune:
    """Made once for a rig. ``found`` makes keys and starts broker and endpoint; ``get`` and ``post`` talk to it."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._program = PurePosixPath(rig.settings.car.python).with_name("amibox-cloud")

    def found(self) -> None:
        """Make the commune and its one car; give the box its keys, as a technician does.

        A rig with wires has a past: box and broker forget theirs.
        """
        rig, cloud = self._rig, f"{self._program}"
        rig.shell(f"systemctl stop amibox; rm -rf {STATE}/*; install -d -o amibox -g amibox -m 700 {STATE}")
        rig.beside.shell(
            f"systemctl stop -q commune || true; rm -rf {FOLDER}\n"
            "systemctl stop mosquitto; rm -f /var/lib/mosquitto/mosquitto.db"
        )
        self._certify()
        amibox = f"runuser -u amibox -- {PurePosixPath(rig.settings.car.python).with_name('amibox')} provision"
        asked = rig.shell(f"{amibox} request --out {STATE}/request.cbor", timeout_s=120)
        told = read_out(asked)
        rig.beside.shell(f"mkdir -p {FOLDER}")
        rig.beside.put(f"{FOLDER}/request.cbor", rig.place.fetch(f"{STATE}/request.cbor"))
        said = rig.beside.shell(
            f"{cloud} init {FOLDER}/cloud\n"
            f"{cloud} box add {VEHICLE} --dir {FOLDER}/cloud --request {FOLDER}/request.cbor --fingerprint '{told}'"
            f" --out {FOLDER}/answer.cbor",
            timeout_s=120,
        )
        rig.put(f"{STATE}/answer.cbor", rig.beside.fetch(f"{FOLDER}/answer.cbor"), owner="amibox:amibox", mode="600")
        rig.shell(f"{amibox} accept {STATE}/answer.cbor --commune '{read_out(said)}'", timeout_s=120)
        rig.beside.put(f"{FOLDER}/box.toml", rig.place.fetch("/etc/amibox/box.toml"))
        # Once: what a technician has just installed must not be what a power cut takes. From here on nobody syncs for
        # the box.
        rig.shell("sync")
        self.start()
        rig.shell("systemctl start --no-block amibox")

    def start(self) -> None:
        """Start broker and endpoint (again, after a power cut); return when they have found each other."""
        keys = "--mqtt-ca /etc/amibox-cloud/ca.pem --mqtt-cert /etc/amibox-cloud/cloud.pem"
        keys += " --mqtt-key /etc/amibox-cloud/cloud.key --mqtt-retry-s 1"
        serve = f"serve --dir {FOLDER}/cloud --http {HTTP} --mqtt localhost:8883 {keys} --stations {FOLDER}/box.toml"
        self._rig.beside.shell(
            "systemctl restart mosquitto\n"
            "systemctl is-active -q commune"
            f" || systemd-run -q --collect --unit=commune -p Restart=always {self._program} {serve}"
        )
        self._rig.until("the endpoint", lambda: self.get("healthz")["broker_connected"])

    def get(self, path: str) -> Any:
        """Return the JSON at ``/api/v1/<path>``. GuestError if nobody answers or the answer is a refusal."""
        return self._ask("GET", path)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send JSON; return the answer's. GuestError as above."""
        return self._ask("POST", path, json.dumps(body).encode())

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        """Change what is there; return the answer's JSON. GuestError as above."""
        return self._ask("PATCH", path, json.dumps(body).encode())

    def delete(self, path: str) -> Any:
        """Cancel what is there; return the answer's JSON. GuestError as above."""
        return self._ask("DELETE", path)

    def _ask(self, verb: str, path: str, content: bytes = b"") -> Any:
        head = f"{verb} /api/v1/{path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
        text = self._rig.beside.must(ASK, HTTP, stdin=request, timeout_s=HTTP_S)
        head, _, answer = text.partition("\r\n\r\n")
        code = next(iter(head.split()[1:]), "")
        if not code.startswith("2"):
            raise GuestError(f"{path}: {code or 'no answer'} {answer[-300:]}")
        return json.loads(answer)

    def _certify(self) -> None:
        rig, certifier, host = self._rig, Certifier(), self._rig.settings.commune.host
        for place, folder, user, name, short in (
            (rig.place, "/etc/amibox", "root:amibox", VEHICLE, "box"),
            (rig.beside, "/etc/amibox-cloud", "root:root", "cloud", "cloud"),
            (rig.beside, "/etc/mosquitto/bench", "root:mosquitto", "broker", "broker"),
        ):
            certificate, key = certifier.issue(name, host)
            keys = STATE if short == "box" else folder  # a box's key is its own, and never leaves it
            for where, file, content in (
                (folder, "ca.pem", certifier.pem),
                (folder, f"{short}.pem", certificate),
                (keys, f"{short}.key", key),
            ):
                place.put(f"{where}/{file}", content, owner=user, mode="640")
        rig.beside.put("/etc/mosquitto/bench/access", ACCESS.read_bytes(), owner="root:mosquitto", mode="640")
        broker = BROKER.format(bind="localhost" if host == "localhost" else "")
        rig.beside.put("/etc/mosquitto/conf.d/bench.conf", broker.encode())
