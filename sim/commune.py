"""The commune beside the rig: its keys, mosquitto with TLS, and the endpoint, on the machine of the car's ends.

On the bench that is the guest itself. Everybody proves himself to the broker by a certificate.
"""

from __future__ import annotations

import json
from typing import Any, Final

from sim.bench.keys import Certifier
from sim.bench.machine import GuestError
from sim.rig import STATE, VEHICLE, Rig

FOLDER: Final = "/srv/commune"
CLOUD: Final = "/opt/amibox/.venv/bin/amibox-cloud"
HTTP: Final = "127.0.0.1:8080"
BROKER: Final = """\
listener 8883 localhost
cafile /etc/mosquitto/bench/ca.pem
certfile /etc/mosquitto/bench/broker.pem
keyfile /etc/mosquitto/bench/broker.key
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file /etc/mosquitto/bench/access
"""
ACCESS: Final = """\
user cloud
topic readwrite amibox/#
pattern write amibox/v1/%u/up/+
pattern read amibox/v1/%u/down/+
"""
TALK: Final = """\
import sys, urllib.request
url, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode() or None, {"Content-Type": "application/json"})
sys.stdout.buffer.write(urllib.request.urlopen(request, timeout=20).read())
"""


class Commune:
    """Made once for a rig. ``found`` makes keys and starts broker and endpoint; ``get`` and ``post`` talk to it."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def found(self) -> None:
        """Make the commune and its one car; give the box its keys, as a technician does."""
        rig = self._rig
        rig.shell("systemctl stop amibox")
        self._certify()
        provisioning = f"{STATE}/provisioning.cbor"
        rig.shell(
            f"mkdir -p {FOLDER}; {CLOUD} init {FOLDER}/cloud\n"
            f"{CLOUD} box add {VEHICLE} --dir {FOLDER}/cloud --out {FOLDER}/box.cbor\n"
            f"install -d -o amibox -g amibox -m 700 {STATE}\n"
            f"install -o amibox -g amibox -m 600 {FOLDER}/box.cbor {provisioning} && rm {FOLDER}/box.cbor",
            timeout_s=120,
        )
        # Once: what a technician has just installed must not be what a power cut takes. From here on nobody syncs for
        # the box.
        rig.shell("sync")
        self.start()
        rig.shell("systemctl start --no-block amibox")

    def start(self) -> None:
        """Start broker and endpoint (again, after a power cut); return when they have found each other."""
        keys = "--mqtt-ca /etc/amibox-cloud/ca.pem --mqtt-cert /etc/amibox-cloud/cloud.pem"
        keys += " --mqtt-key /etc/amibox-cloud/cloud.key --mqtt-retry-s 1"
        serve = f"serve --dir {FOLDER}/cloud --http {HTTP} --mqtt localhost:8883 {keys} --stations /etc/amibox/box.toml"
        self._rig.shell(
            "systemctl restart mosquitto\n"
            f"systemctl is-active -q commune || systemd-run -q --unit=commune -p Restart=always {CLOUD} {serve}"
        )
        self._rig.until("the endpoint", lambda: self.get("healthz")["broker_connected"])

    def get(self, path: str) -> Any:
        """Return the JSON at ``/api/v1/<path>``. GuestError if nobody answers or the answer is a refusal."""
        return self._ask(path, "")

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send JSON; return the answer's. GuestError as above."""
        return self._ask(path, json.dumps(body))

    def _ask(self, path: str, body: str) -> Any:
        said = self._rig.run("/usr/bin/python3", "-c", TALK, f"http://{HTTP}/api/v1/{path}", body)
        if said.code != 0:
            raise GuestError(f"{path}: {said.text[-300:]}")
        return json.loads(said.text)

    def _certify(self) -> None:
        rig, certifier = self._rig, Certifier()
        for folder, user, name, short in (
            ("/etc/amibox", "root:amibox", VEHICLE, "box"),
            ("/etc/amibox-cloud", "root:root", "cloud", "cloud"),
            ("/etc/mosquitto/bench", "root:mosquitto", "broker", "broker"),
        ):
            certificate, key = certifier.issue(name)
            for file, content in (("ca.pem", certifier.pem), (f"{short}.pem", certificate), (f"{short}.key", key)):
                rig.put(f"{folder}/{file}", content, owner=user, mode="640")
        rig.put("/etc/mosquitto/bench/access", ACCESS.encode(), owner="root:mosquitto", mode="640")
        rig.put("/etc/mosquitto/conf.d/bench.conf", BROKER.encode())
