"""HTTP for the town hall's page and for programs: JSON under ``/api/v1``, the page at ``/``.

There is no log-in yet, so the endpoint listens on this machine alone unless it is told otherwise (``--insecure-open``).
There it answers only to this machine's own names: a page from elsewhere that a browser has open can't reach it
under a name of its own.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from sqlalchemy import insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from starlette.middleware.trustedhost import TrustedHostMiddleware

from cloud_sync.documents import Refused, radio_name
from cloud_sync.endpoint import fleet, lists, tables, views
from cloud_sync.endpoint.authority import Authority
from cloud_sync.endpoint.cards import Cards, card_values
from cloud_sync.endpoint.courier import body_max_bytes, phone_routes
from cloud_sync.endpoint.grants import Grants, booking_id, rights_of
from cloud_sync.endpoint.ingest import Ingest
from cloud_sync.endpoint.link import Link, publish_list
from cloud_sync.endpoint.members import Members
from cloud_sync.endpoint.membership import Rules
from cloud_sync.endpoint.messages import Box
from cloud_sync.endpoint.models import (
    REFUSED,
    Answers,
    Booking,
    BookingIn,
    BookingMade,
    EndpointStatus,
    Health,
    Rental,
    RouteTrack,
    StationInfo,
    Timeline,
    Trip,
    Vehicle,
    VehicleId,
)
from cloud_sync.endpoint.models_phone import Radio
from cloud_sync.endpoint.money import money_routes
from cloud_sync.endpoint.planning import Slot
from cloud_sync.endpoint.store import Store

PAGES = Path(__file__).parent / "pages"
BODY_MAX_BYTES = 64 * 1024
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

SICK: Answers = {503: {"model": Health, "description": "The database does not answer"}}

After = Annotated[int, Query(ge=0, le=2**62)]
Limit = Annotated[int, Query(ge=1, le=views.ROWS_MAX)]


def create_app(  # noqa: C901, PLR0913, PLR0915  (one short function a route; settings of the whole page)
    store: Store,
    authority: Authority,
    ingest: Ingest,
    link: Link,
    stations: tuple[StationInfo, ...] = (),
    *,
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1"),
    horizon_days: int = lists.HORIZON_DAYS,
    now: Callable[[], float] = time.time,
) -> FastAPI:
    """Build the application. ``hosts``: names it answers to (``*``: any); ``now`` gives Unix seconds."""
    app = FastAPI(
        title="AmiBox endpoint",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        responses=REFUSED,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))

    @app.exception_handler(RequestValidationError)
    def faults(_request: Request, error: Exception) -> Response:
        # Where and what, without the input: it may hold what no JSON can (NaN, half a character).
        found = error.errors() if isinstance(error, RequestValidationError) else ()
        told = [{name: fault[name] for name in ("type", "loc", "msg")} for fault in found]
        return Response(json.dumps({"detail": told}), 422, media_type="application/json")

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        length = request.headers.get("content-length", "0")
        chunked = "transfer-encoding" in request.headers
        most = body_max_bytes(request.method, request.url.path) or BODY_MAX_BYTES
        if chunked or not length.isascii() or not length.isdigit() or int(length) > most:
            return JSONResponse({"detail": f"at most {most} bytes, their number announced"}, status_code=413)
        answer = await call_next(request)
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    members = Members(store, Rules(), now=now)

    def known(vehicle: str) -> Box:
        box = store.box(vehicle)
        if box is None:
            raise HTTPException(404, f"no vehicle {vehicle}")
        return box

    @app.get("/api/v1/vehicles")
    def get_vehicles() -> list[Vehicle]:
        with store.read() as db:
            return views.vehicles(db)

    @app.get("/api/v1/vehicles/{vehicle}/trips")
    def get_vehicle_trips(vehicle: VehicleId, limit: Limit = 100) -> list[Trip]:
        known(vehicle)
        with store.read() as db:
            return views.trips(db, vehicle, limit)

    @app.get("/api/v1/vehicles/{vehicle}/track")
    def get_track(vehicle: VehicleId, trip: After | None = None) -> RouteTrack:
        known(vehicle)
        with store.read() as db:
            return views.track(db, vehicle, trip)

    @app.get("/api/v1/trips")
    def get_trips(limit: Limit = 100) -> list[Trip]:
        with store.read() as db:
            return views.trips(db, None, limit)

    @app.get("/api/v1/rentals")
    def get_rentals(vehicle: VehicleId | None = None, limit: Limit = 100) -> list[Rental]:
        with store.read() as db:
            return views.rentals(db, vehicle, limit)

    @app.get("/api/v1/events")
    def get_events(
        after: After = 0, vehicle: VehicleId | None = None, limit: Limit = 100, *, newest: bool = False
    ) -> Timeline:
        with store.read() as db:
            found = views.timeline(db, after, vehicle, limit, newest=newest)
        return Timeline(events=found, next=found[-1].id if found else after)

    @app.get("/api/v1/stations")
    def get_stations() -> list[StationInfo]:
        return list(stations)

    @app.get("/api/v1/bookings")
    def get_bookings(vehicle: VehicleId | None = None, limit: Limit = 100) -> list[Booking]:
        with store.read() as db:
            return views.bookings(db, vehicle, limit)

    @app.post("/api/v1/bookings", status_code=201)
    def post_booking(booking: BookingIn) -> BookingMade:
        box = known(booking.vehicle)
        names = {station.id for station in stations}
        strange = {booking.pickup, booking.dropoff or booking.pickup} - names
        if names and strange:
            raise HTTPException(422, f"no station {', '.join(sorted(strange))}")
        now_s = int(now())
        values = _booking_values(booking, now_s)
        try:
            with store.write() as db:
                if booking.member is not None:
                    driver = members.driver(db, booking.member, booking.start_s, booking.end_s)
                    keys = json.dumps(booking.phone_keys or driver.phone_keys)
                    values.update(driver=driver.pseudonym, phone_keys=keys, trace=driver.trace)
                    ends = booking.pickup, booking.dropoff or booking.pickup
                    fleet.check(db, Slot(booking.vehicle, booking.start_s, booking.end_s, *ends), stations, now_s)
                values["cards"] = json.dumps(card_values(db, booking.cards, (booking.vehicle,)))
                db.execute(insert(tables.bookings).values(values))
                row = lists.issue_within(db, authority, box, now_s, horizon_days)
        except Refused as refused:
            raise HTTPException(409, f"no list can hold this booking ({refused}); nothing was changed") from refused
        return BookingMade(id=values["id"].hex(), version=row.version, published=publish_list(link, row))

    @app.delete("/api/v1/bookings/{booking}")
    def delete_booking(booking: str) -> BookingMade:
        table = tables.bookings
        now_s = int(now())
        wanted = table.c.id == booking_id(booking)
        try:
            with store.write() as db:
                vehicle = db.scalar(select(table.c.vehicle).where(wanted))
                if vehicle is None:
                    raise HTTPException(404, "no such booking")
                db.execute(update(table).where(wanted, table.c.cancelled_s.is_(None)).values(cancelled_s=now_s))
                row = lists.issue_within(db, authority, known(vehicle), now_s, horizon_days)
        except Refused as refused:
            raise HTTPException(409, f"no list of the car can be made ({refused}); nothing was changed") from refused
        return BookingMade(id=booking, version=row.version, published=publish_list(link, row))

    @app.get("/api/v1/status")
    def get_status() -> EndpointStatus:
        with store.read() as db:
            found = views.alarms(db)
        return EndpointStatus(
            broker_connected=link.connected,
            trouble=link.trouble,
            counts=dict(ingest.counts),
            refused=dict(ingest.refused),
            carrier=dict(link.counts),
            alarms=found,
            now_s=now(),
        )

    @app.get("/healthz", responses=SICK)
    @app.get("/api/v1/healthz", responses=SICK)
    def get_health(response: Response) -> Health:
        try:
            with store.read() as db:
                views.last_event(db)
        except SQLAlchemyError:
            response.status_code = 503
            return Health(ok=False, broker_connected=link.connected)
        return Health(ok=True, broker_connected=link.connected)

    @app.get("/", include_in_schema=False)
    def get_page() -> FileResponse:
        return FileResponse(PAGES / "index.html", media_type="text/html; charset=utf-8")

    @app.get("/carte", include_in_schema=False)
    def get_block_page() -> FileResponse:
        return FileResponse(PAGES / "block.html", media_type="text/html; charset=utf-8")

    @app.get("/api/v1/vehicles/{vehicle}/radio")
    def get_radio(vehicle: VehicleId) -> Radio:
        box = known(vehicle)
        name = radio_name(box.agreement_public)
        return Radio(vehicle=vehicle, name=name, box=box.agreement_public.hex())

    # A log-in goes before each of these as a dependency: the town hall's people here, the drivers there.
    issuer = lists.Issuer(authority, link, horizon_days)
    app.include_router(Grants(store, authority, issuer, now=now).routes())
    cards = Cards(store, authority, issuer, link, now=now)
    app.include_router(cards.routes())
    app.include_router(cards.open_routes())
    app.include_router(money_routes(store, now))
    app.include_router(members.routes())
    app.include_router(phone_routes(store, authority, ingest, link, horizon_days=horizon_days, now=now))
    app.mount("/pages", StaticFiles(directory=PAGES), name="pages")
    return app


def _booking_values(booking: BookingIn, now_s: int) -> dict[str, Any]:
    return {
        "id": secrets.token_bytes(16),
        "vehicle": booking.vehicle,
        "start_s": booking.start_s,
        "end_s": booking.end_s,
        "pickup": booking.pickup,
        "dropoff": booking.dropoff,
        "kind": booking.kind.value,
        "driver": bytes.fromhex(booking.driver) if booking.driver else secrets.token_bytes(8),
        "phone_keys": json.dumps(booking.phone_keys),
        "rights": int(rights_of(booking.rights)),
        "trace": booking.trace,
        "created_s": now_s,
        "cancelled_s": None,
    }
