"""The endpoint's HTTP: what it answers, what it refuses, its page, and its command."""

from __future__ import annotations

import hashlib
import hmac
import re
import stat
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.documents import Refused, decode_reservation_list
from cloud_sync.endpoint.__main__ import main, read_stations
from cloud_sync.endpoint.app import BODY_MAX_BYTES, PAGES, create_app
from cloud_sync.endpoint.authority import Authority, AuthorityError
from cloud_sync.endpoint.models import StationInfo
from cloud_sync.wire import Topic
from tests.cloud_http_rig import Client, Link
from tests.cloud_rig import NOW_S, WHOLE_RENTAL, Box, Cloud, make_cloud

STATIONS = (
    StationInfo(id="bazouges", name="Bazouges", latitude=48.42, longitude=-1.57),
    StationInfo(id="hede", name="Hédé", latitude=48.43, longitude=-1.56),
)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = make_cloud(tmp_path / "cloud")
    yield made
    made.store.close()


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def box(cloud: Cloud) -> Box:
    return cloud.add("ami-1")


@pytest.fixture
def client(cloud: Cloud, link: Link) -> Client:
    app = create_app(cloud.store, cloud.authority, cloud.ingest, link, STATIONS)
    return Client(app)


def booking(**changes: Any) -> dict[str, Any]:
    return {
        "vehicle": "ami-1",
        "start_s": NOW_S,
        "end_s": NOW_S + 3600,
        "pickup": "bazouges",
        "cards": [{"ref": "0102030405060708"}],
        **changes,
    }


def test_a_car_shows_what_its_box_said_and_what_its_log_says(cloud: Cloud, box: Box, client: Client) -> None:
    [before] = client.get("/api/v1/vehicles").json()
    assert (before["state"], before["last_seen_s"], before["online"]) == ("non_contactable", None, False)
    box.write(*WHOLE_RENTAL)
    status = box.status(soc_pct=60.5, range_m=45_000, door="locked", parked_at=(48.43, -1.56), faults=("gps",))
    cloud.ingest.handle(box.topic(Topic.STATUS), status, NOW_S)
    cloud.ingest.handle(box.topic(Topic.BATCH), box.batch(1, 5), NOW_S + 1)
    [car] = client.get("/api/v1/vehicles").json()
    said = {
        name: car[name] for name in ("id", "state", "soc_pct", "range_m", "door", "faults", "online", "last_seen_s")
    }
    assert said == {
        "id": "ami-1",
        "state": "available",
        "soc_pct": 60.5,
        "range_m": 45_000,
        "door": "locked",
        "faults": ["gps"],
        "online": True,
        "last_seen_s": NOW_S + 1,
    }
    assert (car["position"]["latitude"], car["position"]["source"]) == (48.43, "parked")
    [trip] = client.get("/api/v1/vehicles/ami-1/trips").json()
    assert client.get("/api/v1/trips").json() == [trip]
    assert trip["distance_m"] == 12300
    [rental] = client.get("/api/v1/rentals").json()
    assert rental["billable_s"] == 401
    assert len(client.get("/api/v1/vehicles/ami-1/track").json()["points"]) == 2


def test_the_timeline_goes_on_where_the_last_answer_ended(cloud: Cloud, box: Box, client: Client) -> None:
    box.write(*WHOLE_RENTAL)
    cloud.ingest.handle(box.topic(Topic.BATCH), box.batch(1, 5), NOW_S)
    first = client.get("/api/v1/events", params={"limit": 2}).json()
    rest = client.get("/api/v1/events", params={"after": first["next"]}).json()
    kinds = [event["kind"] for event in first["events"] + rest["events"]]
    assert kinds == ["booted", "trip_start", "track", "trip_end", "rental_end"]
    end = client.get("/api/v1/events", params={"after": rest["next"]}).json()
    assert end == {"events": [], "next": rest["next"]}
    newest = client.get("/api/v1/events", params={"limit": 2, "newest": True}).json()
    assert [event["kind"] for event in newest["events"]] == ["trip_end", "rental_end"]


def test_a_booking_goes_to_the_car_in_a_new_list_and_a_cancelled_one_is_gone(
    box: Box, client: Client, link: Link
) -> None:
    made = client.post("/api/v1/bookings", json=booking(start_s=2_000_000_000, end_s=2_000_003_600))
    assert made.status_code == 201
    now = booking(start_s=int(time.time()), end_s=int(time.time()) + 3600, dropoff="hede", kind="one_way", trace=True)
    made = client.post("/api/v1/bookings", json=now)
    assert made.json()["published"] is True
    message = link.sent[-1]
    assert (message.topic, message.retain) == (box.topic(Topic.LIST), True)
    listed = decode_reservation_list(message.payload, box.key_set, box.given.agreement, "ami-1")
    assert listed.version == made.json()["version"]
    [reservation] = listed.reservations  # the other one starts beyond the horizon
    assert reservation.id.hex() == made.json()["id"]
    assert len(client.get("/api/v1/bookings").json()) == 2
    assert "driver" not in client.get("/api/v1/bookings").text

    gone = client.delete(f"/api/v1/bookings/{made.json()['id']}")
    assert gone.json()["version"] > made.json()["version"]
    listed = decode_reservation_list(link.sent[-1].payload, box.key_set, box.given.agreement, "ami-1")
    assert listed.reservations == ()


def test_a_card_is_listed_by_the_reference_that_its_car_works_out(cloud: Cloud, box: Box) -> None:
    ref = hmac.digest(box.given.card_key, bytes.fromhex("04a1b2c3d4e5f6"), hashlib.sha256)[:8]
    assert cloud.authority.card_ref("ami-1", bytes.fromhex("04a1b2c3d4e5f6")) == ref


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(
    "wrong",
    [
        {"vehicle": "ami-1/../x"},
        {"end_s": NOW_S},
        {"end_s": NOW_S + 31 * 86_400},
        {"start_s": str(NOW_S)},
        {"start_s": -1},
        {"pickup": "atlantis"},
        {"kind": "one_way"},
        {"dropoff": "hede"},
        {"kind": "teleport"},
        {"phone_keys": ["05" + "11" * 32]},
        {"phone_keys": ["02" + "11" * 32] * 9},
        {"cards": [{}]},
        {"cards": [{"uid": "04a1b2c3", "ref": "0102030405060708"}]},
        {"cards": [{"uid": "04a1b2c3", "assurance": "mutual"}]},
        {"rights": ["service"]},
        {"surprise": 1},
    ],
)
def test_a_booking_that_makes_no_sense_is_refused_and_changes_nothing(
    client: Client, link: Link, wrong: dict[str, Any]
) -> None:
    assert client.post("/api/v1/bookings", json=booking(**wrong)).status_code == 422
    assert client.get("/api/v1/bookings").json() == []
    assert link.sent == []


async def _piecewise() -> AsyncIterator[bytes]:
    yield b"{}"


@pytest.mark.usefixtures("box")
def test_strangers_and_oversized_requests_are_refused(client: Client) -> None:
    assert client.get("/api/v1/vehicles/ami-9/trips").status_code == 404
    assert client.post("/api/v1/bookings", json=booking(vehicle="ami-9")).status_code == 404
    assert client.delete(f"/api/v1/bookings/{'00' * 16}").status_code == 404
    assert client.get("/api/v1/events", params={"limit": 100_000}).status_code == 422
    assert client.post("/api/v1/bookings", content=b" " * (BODY_MAX_BYTES + 1)).status_code == 413
    assert client.post("/api/v1/bookings", content=_piecewise()).status_code == 413


@pytest.mark.usefixtures("box")
def test_another_sites_page_reaches_nothing_under_a_name_of_its_own(client: Client) -> None:
    assert client.get("/api/v1/vehicles", headers={"host": "evil.example"}).status_code == 400
    form = {"content-type": "text/plain"}
    assert client.post("/api/v1/bookings", content=b"{}", headers=form).status_code == 422
    answer = client.get("/api/v1/vehicles", headers={"origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_the_endpoint_tells_its_own_state(cloud: Cloud, box: Box, client: Client, link: Link) -> None:
    cloud.ingest.handle(box.topic(Topic.BATCH), b"garbage", NOW_S)
    link.connected = False
    status = client.get("/api/v1/status").json()
    assert (status["broker_connected"], status["refused"]) == (False, {"bad_envelope": 1})
    assert client.get("/healthz").json() == {"ok": True, "broker_connected": False}


def test_the_page_asks_nobody_else_and_runs_no_inline_script(client: Client) -> None:
    page = client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=|<style", page.text)
    wanted = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    wanted += [
        f"/pages/{name}" for file in PAGES.glob("*.js") for name in re.findall(r'from "\./(.+?)"', file.read_text())
    ]
    assert len(wanted) >= 6
    for path in wanted:
        assert client.get(path).status_code == 200, path
    for file in PAGES.iterdir():
        strange = [url for url in re.findall(r"https?://[^\s\"']+", file.read_text()) if "www.w3.org" not in url]
        assert not strange, (file, strange)


def test_every_word_of_the_page_stands_in_both_languages() -> None:
    words = (PAGES / "words.js").read_text()
    french, english = words.split("  en: {")[0], words.split("  en: {")[1].split("\n};")[0]

    def names(text: str) -> set[str]:
        return set(re.findall(r'(?:^|[,{]\s+|\n\s+)(\w+): (?:"|\()', text))

    assert len(names(french)) > 60
    assert names(french) - {"fr"} == names(english)
    used = set(re.findall(r'data-word="(\w+)"', (PAGES / "index.html").read_text()))
    used |= set(re.findall(r'word\("(\w+)"', (PAGES / "app.js").read_text()))
    assert used <= names(english)


def test_the_page_that_blocks_a_card_is_there_and_says_everything_in_both_languages(client: Client) -> None:
    page = client.get("/carte")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    script = (PAGES / "block.js").read_text()
    halves = script.split("\n};")[0].split("  en: {")
    french, english = (set(re.findall(r'(?:^|[,{]\s+|\n\s+)(\w+): ["(]', half)) - {"fr"} for half in halves)
    assert french == english
    wanted = set(re.findall(r'data-word="(\w+)"', page.text)) | set(re.findall(r"words\.(\w+)", script))
    assert wanted <= french
    assert len(wanted) > 10
    for used in re.findall(r'(?:src|href)="(/pages/[^"]+)"', page.text):
        assert client.get(used).status_code == 200, used


def test_init_makes_keys_for_the_owner_alone_and_never_over_others(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "cloud"
    assert main(["init", str(folder)]) == 0
    for file in folder.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) == (0o700 if file.is_dir() else 0o600), file
    before = (folder / "key_set.cbor").read_bytes()
    assert main(["init", str(folder)]) == 1
    assert "keys already" in capsys.readouterr().err
    assert (folder / "key_set.cbor").read_bytes() == before


def test_the_offline_keys_are_not_needed_to_serve_and_a_strange_key_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "cloud"
    main(["init", str(folder)])
    for file in (folder / "offline").iterdir():
        file.unlink()
    Authority(folder)
    (folder / "keys" / "sync.pem").write_bytes((folder / "keys" / "lists.pem").read_bytes())
    with pytest.raises(AuthorityError, match=r"no keys/sync\*\.pem is in the key set"):
        Authority(folder)
    (folder / "keys" / "sync.pem").chmod(0o644)
    with pytest.raises(Refused, match="chmod 600"):
        Authority(folder)


def test_without_a_log_in_it_listens_on_this_machine_only(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "cloud"
    main(["init", str(folder)])
    assert main(["serve", "--dir", str(folder), "--http", "0.0.0.0:8080"]) == 1
    assert "--insecure-open" in capsys.readouterr().err


def test_stations_are_read_with_a_fault_named(tmp_path: Path) -> None:
    file = tmp_path / "stations.toml"
    file.write_text('[[station]]\nid = "hede"\nname = "Hédé"\nlatitude = 48\nlongitude = -1.5\nradius_m = 40\n')
    assert read_stations(file)[0].name == "Hédé"
    long = "x = " + "9" * 5000
    for text, fault in (
        (long, "stations.toml: no TOML"),
        ("[[station", "no TOML"),
        ("x = 1", "is wanted"),
        ('[[station]]\nid = "A B"', r"station\.0"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=fault):
            read_stations(file)


@pytest.mark.parametrize(
    "body", [b'{"vehicle": NaN}', b'{"vehicle": "\\ud800"}', b'{"\\ud800": 1}', b'{"start_s": 1e999}']
)
def test_a_wrong_request_is_refused_without_its_own_words(client: Client, body: bytes) -> None:
    refused = client.post("/api/v1/bookings", content=body, headers={"content-type": "application/json"})
    assert refused.status_code == 422
    assert all(fault["loc"][0] == "body" and fault["msg"] for fault in refused.json()["detail"])
    assert not any("input" in fault for fault in refused.json()["detail"])


def test_what_is_too_long_is_refused_as_the_schema_says(client: Client) -> None:
    refused = client.post("/api/v1/bookings", content=b" " * 65_537)
    assert refused.status_code == 413
    assert "at most" in refused.json()["detail"]


def test_the_schema_names_the_refusals_of_every_route(client: Client) -> None:
    schema = client.get("/api/v1/openapi.json").json()
    answers = {
        (path, method): set(route["responses"])
        for path, routes in schema["paths"].items()
        for method, route in routes.items()
    }
    assert len(answers) > 20
    assert not [route for route, said in answers.items() if "4XX" not in said or "422" in said]
    away = {route for route, said in answers.items() if "503" in said}
    assert away == {
        ("/healthz", "get"),
        ("/api/v1/healthz", "get"),
        ("/api/v1/vehicles/{vehicle}/captures", "post"),
        ("/api/v1/vehicles/{vehicle}/batches", "post"),
    }
