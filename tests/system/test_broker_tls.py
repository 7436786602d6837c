"""Who gets through to whom over TLS: the shipped configuration and certificates, a real mosquitto, any clock.

Nobody's clock is moved: certificates are made that lie in the past or the future of the machine's.
"""

from __future__ import annotations

import re
import signal
import ssl
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_sync.carrier_settings import CarrierSettings, Outgoing
from cloud_sync.endpoint.certificates import BROKER, BrokerAuthority, found
from cloud_sync.uplink import UplinkSettings
from cloud_sync.wire import MAX_PAYLOAD_BYTES, Topic, build_topic
from tests.broker_rig import HOST, YEAR_S, Mosquitto, box_runs, listening, trying
from tests.cloud_rig import free_port, wait_for
from tests.conftest import ROOT


@pytest.fixture
def still(mosquitto: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that is not started yet."""
    made = Mosquitto(mosquitto, tmp_path / "commune")
    yield made
    made.kill()


@pytest.fixture
def broker(still: Mosquitto) -> Mosquitto:
    still.start()
    return still


@pytest.fixture
def stranger(tmp_path: Path) -> BrokerAuthority:
    return found(tmp_path / "stranger", [HOST], time.time())


def test_a_box_connects_with_its_certificate_and_publishes(broker: Mosquitto) -> None:
    topic = build_topic("ami-1", Topic.BATCH)
    with listening(broker.cloud(), topic) as (_, heard), box_runs(broker.uplink("ami-1")) as (uplink, life):
        wait_for(life.connected)
        assert uplink.publish(Topic.BATCH, b"sealed")
        wait_for(lambda: heard == [(topic, b"sealed")])


def test_the_largest_document_passes_and_what_no_document_can_be_ends_the_connection(broker: Mosquitto) -> None:
    topic = build_topic("ami-1", Topic.BATCH)
    own = build_topic("ami-1", Topic.LIST)
    with listening(broker.cloud(), topic) as (_, heard), listening(_box(broker, "ami-1"), own) as (car, _nothing):
        assert car.publish(Outgoing(topic, bytes(MAX_PAYLOAD_BYTES)))
        wait_for(lambda: heard)
        assert len(heard[0][1]) == MAX_PAYLOAD_BYTES
        assert car.publish(Outgoing(topic, bytes(MAX_PAYLOAD_BYTES + 1100)))
        wait_for(lambda: car.counts["lost"] == 1)
        assert len(heard) == 1


@pytest.mark.parametrize("years", [3, -3], ids=["not yet valid", "over by the machine's clock"])
def test_a_broker_whose_certificate_lies_in_another_time_is_believed(still: Mosquitto, years: int) -> None:
    still.authority.renew_own(BROKER, time.time() + years * YEAR_S)
    still.start()
    # A box knows what was signed last: here two years ago, before the certificate of the past was over.
    with box_runs(still.uplink("ami-1"), lambda: time.time() - 2 * YEAR_S) as (uplink, life):
        wait_for(life.connected)
        assert life.faults() == []
        assert uplink.counts["bad_certificate"] == 0


def test_a_broker_whose_certificate_is_over_by_signed_times_is_not(still: Mosquitto) -> None:
    still.authority.renew_own(BROKER, time.time() - 3 * YEAR_S)
    still.start()
    with box_runs(still.uplink("ami-1"), time.time) as (uplink, life):
        wait_for(life.faults)
        assert "the broker's certificate ended on" in life.faults()[0]
        assert not life.connected()
        assert uplink.counts["bad_certificate"] >= 1


def test_the_cloud_goes_by_its_clock(still: Mosquitto) -> None:
    still.authority.renew_own(BROKER, time.time() - 3 * YEAR_S)
    still.start()
    with trying(still.cloud(), "amibox/v1/+/up/batch") as (carrier, _, troubles):
        wait_for(lambda: troubles)
        assert "certificate has expired" in troubles[0]
        assert not carrier.connected


def test_a_broker_of_another_authority_is_no_broker(broker: Mosquitto, stranger: BrokerAuthority) -> None:
    with box_runs(broker.uplink("ami-1", ca=stranger.paths.ca)) as (uplink, life):
        wait_for(life.faults)
        assert not life.connected()
        assert not uplink.publish(Topic.BATCH, b"sealed")


def test_a_broker_under_another_name_is_no_broker(still: Mosquitto) -> None:
    still.authority.renew_own(BROKER, time.time(), ["other.example.org", "127.0.0.2"])
    still.start()
    with box_runs(still.uplink("ami-1")) as (_, life):
        wait_for(life.faults)
        assert "IP address mismatch" in life.faults()[0]
        assert not life.connected()


def test_a_broker_with_a_certificate_of_its_own_making_is_no_broker(still: Mosquitto, tmp_path: Path) -> None:
    place = still.authority.paths.mosquitto
    make = f"openssl req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -addext subjectAltName=IP:{HOST}"
    files: list[str | Path] = ["-keyout", tmp_path / "own.key", "-out", tmp_path / "own.pem", "-subj", "/CN=broker"]
    subprocess.run([*make.split(), *files], check=True, capture_output=True)
    for name in ("pem", "key"):
        (place / f"broker.{name}").write_bytes((tmp_path / f"own.{name}").read_bytes())
    still.start()
    with box_runs(still.uplink("ami-1")) as (_, life):
        wait_for(life.faults)
        assert "self-signed certificate" in life.faults()[0]
        assert not life.connected()


def test_whoever_stole_a_boxs_key_can_not_pose_as_the_broker(still: Mosquitto) -> None:
    stolen, place = still.box("ami-2"), still.authority.paths.mosquitto
    for name in ("pem", "key"):
        (place / f"broker.{name}").write_bytes((stolen / f"box.{name}").read_bytes())
    still.start()
    with box_runs(still.uplink("ami-1")) as (_, life):
        wait_for(life.faults)
        assert not life.connected()


def test_a_box_with_a_strangers_certificate_is_not_let_in(
    broker: Mosquitto, stranger: BrokerAuthority, tmp_path: Path
) -> None:
    stranger.give("ami-1", tmp_path / "forged", time.time())
    with box_runs(broker.uplink("ami-1", tmp_path / "forged", ca=broker.authority.paths.ca)) as (_, life):
        wait_for(life.faults)
        assert "hung up before it answered" in life.faults()[0]
        assert not life.connected()


def test_a_box_without_a_certificate_is_not_let_in(broker: Mosquitto) -> None:
    with box_runs(broker.uplink("ami-1", cert=None, key=None)) as (uplink, life):
        wait_for(lambda: uplink.counts["closed_before_connack"] + uplink.counts["lost"] >= 2)
        assert not life.connected()


def test_a_revoked_box_is_out_once_the_broker_has_started_again_and_nobody_else(broker: Mosquitto) -> None:
    with (
        box_runs(broker.uplink("ami-1")) as (stolen, thief),
        box_runs(broker.uplink("ami-2")) as (_, life),
        listening(broker.cloud(), "amibox/v1/+/up/batch") as (cloud, _heard),
    ):
        wait_for(lambda: thief.connected() and life.connected())
        assert broker.authority.revoke("ami-1", time.time()) == 1
        broker.restart()
        wait_for(lambda: life.connected() and cloud.connected and thief.faults())
        assert not thief.connected()
        assert stolen.counts["connected"] == 1
        assert life.faults()[-1:] in ([], [""])


def test_a_reload_reads_the_list_and_leaves_the_revoked_box_connected(broker: Mosquitto) -> None:
    """Why docs/decisions.md asks for a restart. Should a newer mosquitto drop it, that page may ask for less."""
    with box_runs(broker.uplink("ami-1")) as (stolen, thief):
        wait_for(thief.connected)
        broker.authority.revoke("ami-1", time.time())
        broker.signal(signal.SIGHUP)
        with box_runs(broker.uplink("ami-1")) as (_, second):
            wait_for(second.faults)
        assert stolen.publish(Topic.BATCH, b"still here")
        wait_for(lambda: stolen.counts["published"] == 1 and not stolen._carrier._under_way)
        assert thief.connected()


def test_a_box_reads_and_writes_in_its_own_tree_only(broker: Mosquitto) -> None:
    mine, other = (build_topic("ami-1", topic) for topic in (Topic.BATCH, Topic.LIST)), "amibox/v1/ami-2"
    up, down = mine
    with (
        listening(broker.cloud(), "#") as (cloud, heard_above),
        listening(_box(broker, "ami-2"), f"{other}/down/list") as (_, heard_by_other),
        listening(_box(broker, "ami-1"), "#", f"{other}/down/list", f"{other}/up/batch", down) as (car, heard),
    ):
        for topic in (f"{other}/up/batch", f"{other}/down/list", down, "amibox/v1/ami-1/x", "elsewhere", up):
            assert car.publish(Outgoing(topic, b"from ami-1"))
        wait_for(lambda: (up, b"from ami-1") in heard_above)  # the last; the broker keeps a client's order
        assert cloud.publish(Outgoing(f"{other}/down/list", b"for ami-2"))
        assert cloud.publish(Outgoing(down, b"for ami-1"))
        wait_for(lambda: heard and heard_by_other)
        assert heard_above == [(up, b"from ami-1")]
        assert heard_by_other == [(f"{other}/down/list", b"for ami-2")]
        assert set(heard) == {(down, b"for ami-1")}


def test_the_cloud_writes_downward_only(broker: Mosquitto) -> None:
    up, down = build_topic("ami-1", Topic.BATCH), build_topic("ami-1", Topic.LIST)
    with (
        listening(broker.cloud(), "#") as (cloud, heard_above),
        listening(_box(broker, "ami-1"), down) as (car, heard),
    ):
        for topic in (up, "elsewhere", down):
            assert cloud.publish(Outgoing(topic, b"from the cloud"))
        wait_for(lambda: heard)
        assert car.publish(Outgoing(up, b"from ami-1"))
        wait_for(lambda: heard_above)
        assert heard_above == [(up, b"from ami-1")]


def test_nobody_takes_anothers_connection_by_its_client_id(broker: Mosquitto) -> None:
    with box_runs(broker.uplink("ami-1")) as (uplink, life):
        wait_for(life.connected)
        with listening(_box(broker, "ami-2", client_id="ami-1"), build_topic("ami-2", Topic.LIST)):
            assert uplink.publish(Topic.BATCH, b"undisturbed")
            wait_for(lambda: uplink.counts["published"] == 1 and not uplink._carrier._under_way)
            assert uplink.counts["connected"] == 1


def test_a_renewed_certificate_is_taken_at_the_next_connection_without_a_restart(
    broker: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_sync.uplink.LOOK_EVERY_S", 0.05)
    files = tmp_path / "box"
    broker.authority.give("ami-1", files, time.time() - 3 * YEAR_S)  # it has ended a year ago
    with box_runs(broker.uplink("ami-1", files), time.time) as (_, life):
        wait_for(lambda: life.faults() and life.faults("certificate"))
        assert "hung up before it answered" in life.faults()[0]
        assert "amibox-cloud box renew ami-1" in life.faults("certificate")[0]
        assert not life.connected()
        broker.authority.renew("ami-1", tmp_path / "new.pem", time.time())
        (tmp_path / "new.pem").replace(files / "box.pem")
        wait_for(life.connected)
        wait_for(lambda: life.faults()[-1] == life.faults("certificate")[-1] == "")


def test_a_certificate_for_a_key_that_never_left_the_box(broker: Mosquitto, tmp_path: Path) -> None:
    """A box of another make, whose owner asks by openssl; ours asks with ``amibox provision request``."""
    new = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", str(tmp_path / "box.key"), "-out", str(tmp_path / "box.csr"), "-subj", "/CN=ami-1"]
    subprocess.run([*new, *files], check=True, capture_output=True)
    assert (tmp_path / "box.key").stat().st_mode & 0o077 == 0
    broker.authority.sign("ami-1", (tmp_path / "box.csr").read_bytes(), tmp_path / "out", time.time())
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"ca.pem", "box.pem"}
    (tmp_path / "box.key").rename(tmp_path / "out" / "box.key")
    with box_runs(broker.uplink("ami-1", tmp_path / "out")) as (_, life):
        wait_for(life.connected)


def test_strict_verifiers_take_chain_and_list(still: Mosquitto) -> None:
    paths = still.authority.paths
    for vehicle in ("ami-1", "ami-2"):
        still.box(vehicle)
    still.authority.revoke("ami-2", time.time())
    for file, purpose, said in (
        (paths.mosquitto / "broker.pem", "sslserver", "OK"),
        (paths.root / "cloud.pem", "sslclient", "OK"),
        (still.box("ami-1") / "box.pem", "sslclient", "OK"),
        (still.box("ami-1") / "box.pem", "sslserver", "unsuitable certificate purpose"),
        (paths.mosquitto / "broker.pem", "sslclient", "unsuitable certificate purpose"),
        (still.box("ami-2") / "box.pem", "sslclient", "certificate revoked"),
    ):
        given: list[str | Path] = ["-CAfile", paths.ca, "-CRLfile", paths.crl, "-purpose", purpose, file]
        done = subprocess.run(
            ["openssl", "verify", "-x509_strict", "-crl_check", *given], capture_output=True, text=True, check=False
        )
        assert said in done.stdout + done.stderr, (file.name, purpose)


def test_only_tls_1_2_and_newer(broker: Mosquitto) -> None:
    for version, answered in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        given: list[str | Path] = ["-CAfile", broker.authority.paths.ca, "-connect", f"{HOST}:{broker.port}"]
        flag = "-tls1_1" if version is ssl.TLSVersion.TLSv1_1 else "-tls1_2"
        # Without the lower level OpenSSL itself would refuse the old version, whatever the broker says.
        done = subprocess.run(
            ["openssl", "s_client", flag, "-cipher", "ALL:@SECLEVEL=0", *given],
            capture_output=True,
            text=True,
            check=False,
            input="",
        )
        assert ("Server certificate" in done.stdout) is answered, flag


def _box(broker: Mosquitto, vehicle: str, **changes: object) -> CarrierSettings:
    """A box that subscribes and publishes where it likes."""
    files = broker.box(vehicle)
    keys = {"client_id": vehicle, "ca": files / "ca.pem", "cert": files / "box.pem", "key": files / "box.key"}
    how: dict[str, object] = {"host": HOST, "port": broker.port, "backoff_first_s": 0.05, "backoff_longest_s": 0.2}
    return CarrierSettings(**(how | keys | changes))  # type: ignore[arg-type]  # a test's words


@contextmanager
def make_broker(folder: Path, port: int, *words: str) -> Iterator[str]:
    """What ``make broker`` runs, and what it said."""
    command = [sys.executable, "-m", "sim.local_broker", str(folder), "--port", str(port), *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as broker:
        try:
            assert broker.stdout is not None
            said = ""
            while not said.endswith("mosquitto runs until Ctrl-C:\n"):
                line = broker.stdout.readline()
                assert line, said
                said += line
            yield said
        finally:
            broker.terminate()


def test_make_broker_makes_what_is_missing_and_says_how_to_use_it(tmp_path: Path, mosquitto: Path) -> None:
    assert mosquitto.exists()
    folder, port = tmp_path / "commune", free_port()
    kept: dict[str, bytes] = {}
    for words, host in (((), "localhost"), (("--host", "box.example.org"), "box.example.org")):
        with make_broker(folder, port, *words) as said:
            toml = said.partition("[uplink]\n")[2].partition("Its answer")[0]
            box = tomllib.loads("\n".join(line.strip() for line in toml.splitlines()))
            assert (box["host"], box["port"]) == (host, port)
            files = {name: Path(box[f"{name}_file"]) for name in ("ca", "cert", "key")}
            car = replace(UplinkSettings("localhost", port, "hede-1", backoff_longest_s=1.0), **files)  # type: ignore[arg-type]  # three paths
            flags = dict(re.findall(r"--mqtt-?(\w*) (\S+)", said))
            assert flags.pop("") == f"localhost:{port}"
            given = {name: Path(flag) for name, flag in flags.items()}
            cloud = replace(CarrierSettings("localhost", port, "cloud", backoff_longest_s=1.0), **given)  # type: ignore[arg-type]  # as above
            with listening(cloud, "amibox/v1/+/up/batch") as (_, heard), box_runs(car) as (uplink, life):
                wait_for(life.connected)
                assert uplink.publish(Topic.BATCH, b"sealed")
                wait_for(lambda heard=heard: heard)  # type: ignore[misc]  # a default binds the loop's value
        now = {name: (folder / name).read_bytes() for name in ("broker/authority/ca.key", "boxes/hede-1/box.key")}
        assert kept in ({}, now)
        kept = now
    assert "box.example.org" in BrokerAuthority(folder).hosts()
    # What runs is what is shipped, but for the port, and the user where root tries it.
    shipped = (ROOT / "cloud_sync" / "broker" / "mosquitto.conf").read_text().splitlines()
    ran = (folder / "broker" / "here.conf").read_text().splitlines()
    assert set(shipped) ^ set(ran) <= {"listener 8883", f"listener {port}", "user root"}
    assert (folder / "broker" / "mosquitto" / "mosquitto.conf").read_text().splitlines() == shipped
