"""The same disk in a Raspberry Pi 3: the shipped pin factory, in the shipped sandbox, finds the Pi's own pins."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from sim.rig import STATE, VEHICLE

BOX = "/opt/amibox/.venv/bin/amibox"
CLOUD = "/opt/bench/.venv/bin/amibox-cloud"
SCRIPT = f"""\
sed -i -e /^pin_factory/d -e "/^\\[uplink\\]/,/^# The commune.s rules/d" /etc/amibox/box.toml
{CLOUD} init /srv/cloud
install -d -o amibox -g amibox -m 700 {STATE}
AMIBOX="runuser -u amibox -- {BOX} provision"
digits() {{ grep -oE "[0-9]{{5}}( [0-9]{{5}}){{7}}" | head -1; }}
TOLD=$($AMIBOX request --out {STATE}/request.cbor | digits)
{CLOUD} box add {VEHICLE} --dir /srv/cloud --request {STATE}/request.cbor --fingerprint "$TOLD" --out /srv/answer.cbor \
  > /srv/said
install -o amibox -g amibox -m 600 /srv/answer.cbor {STATE}/answer.cbor
$AMIBOX accept {STATE}/answer.cbor --commune "$(digits < /srv/said)"
systemctl start --no-block amibox
timeout 300 sh -c "until gpioinfo gpiochip0 | grep -w lg; do sleep 1; done"
gpiodetect
gpioinfo gpiochip0
journalctl -u amibox -n 20 --no-pager -o cat
systemctl show amibox -p SubState
"""


@pytest.mark.needs("pi")
def test_the_box_as_shipped_finds_a_pis_own_pins(pi: Callable[[str], str]) -> None:
    said = pi(SCRIPT)
    assert "SubState=running" in said
    assert "gpiochip0 [pinctrl-bcm2835]" in said
    held = dict(re.findall(r"line +(\d+):.* \"lg\" +(\w+)", said))
    assert {number: held.get(number) for number in ("5", "6", "13", "17", "27")} == {
        "5": "input",
        "6": "input",
        "13": "input",
        "17": "output",
        "27": "output",
    }
