"""What a box believes of a broker's certificate whatever its clock says, against a bare TLS server."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from socket import create_connection, create_server, socket

import pytest

from cloud_sync.carrier_settings import ENDS_SOON_S, CarrierSettings
from cloud_sync.endpoint.certificates import BrokerAuthority, found
from cloud_sync.tls import client_context, day
from cloud_sync.uplink import UplinkSettings
from tests.broker_rig import HOST, YEAR_S, box_runs, trying
from tests.cloud_rig import wait_for

NOW_S = time.time()


class Server:
    """A TLS server with the broker's certificate. ``heard``: what each connection sent, to its end."""

    def __init__(self, authority: BrokerAuthority) -> None:
        self.port = 0
        self.heard: list[bytes] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        place = authority.paths.mosquitto
        self._context.load_cert_chain(place / "broker.pem", place / "broker.key")
        self._stop = threading.Event()

    @contextmanager
    def serving(self) -> Iterator[Server]:
        with create_server((HOST, 0)) as server:
            server.settimeout(0.05)
            self.port = server.getsockname()[1]
            thread = threading.Thread(target=self._serve, args=(server,))
            thread.start()
            try:
                yield self
            finally:
                self._stop.set()
                thread.join()

    def _serve(self, server: socket) -> None:
        while not self._stop.is_set():
            try:
                raw, _ = server.accept()
            except TimeoutError:
                continue
            raw.settimeout(20)
            with raw:
                try:
                    with self._context.wrap_socket(raw, server_side=True) as connection:
                        self.heard.append(connection.recv(100))
                except OSError:  # the client broke the handshake off
                    self.heard.append(b"")


def settings(port: int, ca: Path, known_s: Callable[[], float] | None) -> CarrierSettings:
    return CarrierSettings(HOST, port, "ami-1", ca=ca, known_s=known_s)


def own(port: int, files: Path) -> UplinkSettings:
    given = UplinkSettings(HOST, port, "ami-1", ca=files / "ca.pem", cert=files / "box.pem", key=files / "box.key")
    return replace(given, backoff_first_s=0.01, backoff_longest_s=0.01)


def shake(server: Server, ca: Path, known_s: Callable[[], float] | None, host: str = HOST) -> None:
    context = client_context(settings(server.port, ca, known_s))
    with create_connection((HOST, server.port)) as raw, context.wrap_socket(raw, server_hostname=host) as connection:
        connection.sendall(b"hello")


@pytest.mark.parametrize("years", [0, 5, -5, -25], ids=["now", "all to come", "broker's over", "authority's over"])
def test_by_a_wrong_clock_every_certificate_is_wrong_and_a_box_leaves_it_out(tmp_path: Path, years: int) -> None:
    authority = found(tmp_path, [HOST], NOW_S + years * YEAR_S)
    with Server(authority).serving() as server:
        shake(server, authority.paths.ca, lambda: 0.0)
        wait_for(lambda: server.heard == [b"hello"])
        if years:
            with pytest.raises(ssl.SSLCertVerificationError, match=r"expired|not yet valid"):
                shake(server, authority.paths.ca, None)
        else:
            shake(server, authority.paths.ca, None)


def test_what_is_over_by_signed_times_is_refused_before_a_byte_is_sent(tmp_path: Path) -> None:
    authority = found(tmp_path, [HOST], NOW_S)
    end_s = authority.issued()[0].certificate.not_valid_after_utc.timestamp()
    with Server(authority).serving() as server:
        shake(server, authority.paths.ca, lambda: end_s)
        with pytest.raises(ssl.SSLCertVerificationError, match=f"ended on {day(end_s)}, and by signed times it is"):
            shake(server, authority.paths.ca, lambda: end_s + 1)
        wait_for(lambda: server.heard == [b"hello", b""])


def test_the_whole_uplink_sends_nothing_and_waits_its_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = found(tmp_path / "commune", [HOST], NOW_S - 5 * YEAR_S)
    authority.give("ami-1", tmp_path / "box", NOW_S)
    waits: list[int] = []

    def wait_s(failures: int, *_: float) -> float:
        waits.append(failures)
        return 0.01

    monkeypatch.setattr("cloud_sync.carrier.backoff_s", wait_s)
    with (
        Server(authority).serving() as server,
        box_runs(own(server.port, tmp_path / "box"), lambda: NOW_S) as (uplink, life),
    ):
        wait_for(lambda: len(waits) >= 2 and len(server.heard) >= 2)
        assert "the broker's certificate ended on" in life.faults()[0]
        assert set(waits) == {31}  # the longest wait
        assert set(server.heard) == {b""}
        assert uplink.counts["connected"] == 0


def test_dates_are_all_that_a_box_leaves_out(tmp_path: Path) -> None:
    authority = found(tmp_path / "commune", [HOST], NOW_S + 5 * YEAR_S)
    stranger = found(tmp_path / "stranger", [HOST], NOW_S + 5 * YEAR_S)
    with Server(authority).serving() as server:
        for ca, host, said in (
            (stranger.paths.ca, HOST, "certificate verify failed"),
            (authority.paths.ca, "127.0.0.2", "IP address mismatch"),
            (authority.paths.ca, "localhost", "Hostname mismatch"),
        ):
            with pytest.raises(ssl.SSLCertVerificationError, match=said):
                shake(server, ca, lambda: 0.0, host)
        wait_for(lambda: len(server.heard) == 3)
        assert set(server.heard) == {b""}


def test_a_clock_without_a_calendar_is_no_crash() -> None:
    assert [day(0.0), day(1e20), day(float("inf")), day(float("nan"))] == ["1970-01-01", "?", "?", "?"]


def test_a_box_tells_in_time_that_its_own_certificate_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_sync.uplink.LOOK_EVERY_S", 0.01)
    authority = found(tmp_path / "commune", [HOST], NOW_S)
    authority.give("ami-1", tmp_path / "box", NOW_S)
    end_s = next(
        each for each in authority.issued() if each.name == "ami-1"
    ).certificate.not_valid_after_utc.timestamp()
    known_s = end_s - ENDS_SOON_S
    looks = 0

    def now_s() -> float:
        nonlocal looks
        looks += 1
        return known_s

    with box_runs(own(1, tmp_path / "box"), now_s) as (
        _,
        life,
    ):
        wait_for(lambda: looks > 3)
        assert life.faults("certificate") == []
        known_s += 1
        wait_for(lambda: life.faults("certificate"))
        assert f"ends on {day(end_s)}: amibox-cloud box renew ami-1" in life.faults("certificate")[0]
        authority.renew("ami-1", tmp_path / "new.pem", known_s)
        (tmp_path / "new.pem").replace(tmp_path / "box" / "box.pem")
        wait_for(lambda: life.faults("certificate")[-1] == "")


def test_the_cloud_tells_its_trouble_in_words(tmp_path: Path) -> None:
    authority = found(tmp_path / "commune", [HOST], NOW_S - 5 * YEAR_S)
    with (
        Server(authority).serving() as server,
        trying(settings(server.port, authority.paths.ca, None), "amibox/v1/+/up/batch") as (carrier, _, troubles),
    ):
        wait_for(lambda: troubles)
        assert "certificate has expired" in troubles[0]
        assert not carrier.connected


def test_a_broker_that_goes_down_in_a_handshake_is_no_fault(tmp_path: Path) -> None:
    authority = found(tmp_path / "commune", [HOST], NOW_S)
    authority.give("ami-1", tmp_path / "box", NOW_S)
    with create_server((HOST, 0)) as server:
        server.settimeout(20)
        with box_runs(own(server.getsockname()[1], tmp_path / "box")) as (uplink, life):
            for _ in range(3):
                connection, _ = server.accept()
                connection.settimeout(20)
                connection.recv(4096)  # the client's first words; unread, the end would be a reset
                connection.close()
            wait_for(lambda: uplink.counts["unreachable"] >= 2)
            assert uplink.counts["bad_certificate"] == 0
            assert life.faults() == []
