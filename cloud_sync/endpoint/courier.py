"""A driver's phone: its pass, and the phone as courier between the commune and a car that has no network.

A phone is no more trusted than a broker. What it brings up proves itself; what it takes down is signed, and sealed
where it holds secrets; what it says it heard decides only which documents it is given. There is no log-in yet: whoever
reaches the endpoint may call these routes, so it listens on this machine only (``app``). They are one router, so that
a log-in can stand before them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, HTTPException
from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from cloud_sync.carrier_settings import Outgoing
from cloud_sync.documents import MAX_DOCUMENT_BYTES, Ack, Refused, Resend, TimeProof
from cloud_sync.endpoint import lists, passes, tables
from cloud_sync.endpoint.authority import Authority
from cloud_sync.endpoint.grants import booking_id
from cloud_sync.endpoint.ingest import TAKEN, Ingest
from cloud_sync.endpoint.link import Link
from cloud_sync.endpoint.messages import Box, ListRow
from cloud_sync.endpoint.models import AWAY, VehicleId
from cloud_sync.endpoint.models_phone import (
    DOCUMENTS_MAX,
    BatchesIn,
    Delivered,
    Documents,
    Heard,
    PassMade,
    PassWanted,
)
from cloud_sync.endpoint.store import Store, log_place, newest_store
from cloud_sync.wire import Topic, build_topic

DELIVERY_MAX_BYTES: Final = 2 * DOCUMENTS_MAX * MAX_DOCUMENT_BYTES + 4096
"""A full delivery in hexadecimal, and the JSON round it."""

_DELIVERY: Final = re.compile(r"/api/v1/vehicles/[^/]+/batches")


def body_max_bytes(method: str, path: str) -> int | None:
    """Return the bound of a request's body where it is another one than everywhere else."""
    return DELIVERY_MAX_BYTES if method == "POST" and _DELIVERY.fullmatch(path) else None


def phone_routes(
    store: Store, authority: Authority, ingest: Ingest, link: Link, *, horizon_days: int, now: Callable[[], float]
) -> APIRouter:
    """Build the routes. ``now`` gives Unix seconds."""
    routes = APIRouter(prefix="/api/v1")

    def known(vehicle: str) -> Box:
        box = store.box(vehicle)
        if box is None:
            raise HTTPException(404, f"no vehicle {vehicle}")
        return box

    @routes.post("/bookings/{booking}/pass", status_code=201)
    def post_pass(booking: str, wanted: PassWanted) -> PassMade:
        """Issue a pass to a phone that the booking lists. Asking again issues another one; both are good."""
        booked = booking_id(booking)
        with store.read() as db:
            vehicle = db.scalar(select(tables.bookings.c.vehicle).where(tables.bookings.c.id == booked))
        if vehicle is None:
            raise HTTPException(404, "no such booking")
        box, phone_key = known(vehicle), bytes.fromhex(wanted.phone_key)
        with store.write() as db:
            return passes.issue(db, authority, box, booked, phone_key, int(now()), horizon_days)

    @routes.post("/vehicles/{vehicle}/courier")
    def post_courier(vehicle: VehicleId, heard: Heard) -> Documents:
        """Give a phone what its car lacks, by what the phone heard there."""
        found = documents_for(store, authority, known(vehicle), heard, now(), horizon_days)
        return Documents(documents=[document.hex() for document in found])

    @routes.post("/vehicles/{vehicle}/batches", responses=AWAY)
    def post_batches(vehicle: VehicleId, delivery: BatchesIn) -> Delivered:
        """Take what a phone brought from a car. 503: see there; deliver all of it again, doubles do no harm."""
        box = known(vehicle)
        topic = build_topic(vehicle, Topic.BATCH)
        try:
            outcomes = [ingest.take(topic, bytes.fromhex(document), now()) for document in delivery.documents]
            # The state after the whole delivery: what one document left open, the next one may have filled. Of a log
            # that is in doubt nothing is acknowledged.
            in_doubt = {outcome.store_id for outcome in outcomes if outcome.word != TAKEN}
            stores = dict.fromkeys(outcome.store_id for outcome in outcomes if outcome.store_id not in in_doubt)
            with store.read() as db:
                answers = [message for each in stores if each for message in _log_messages(db, authority, box, each)]
        except SQLAlchemyError as error:
            ingest.count("database_failed")
            text = f"the database failed ({type(error).__name__}): some of these documents may be stored, none is "
            raise HTTPException(503, f"{text}acknowledged. Keep them all and deliver them again later") from error
        resend = build_topic(vehicle, Topic.RESEND)
        asked = any(message.topic == resend for outcome in outcomes for message in outcome.messages)
        for message in answers:
            # To a box with a network a gap is told once in a while (``ingest``): it may be on its way already.
            if asked or message.topic != resend:
                link.publish(message)
        words = [outcome.word for outcome in outcomes]
        return Delivered(results=words, documents=[message.payload.hex() for message in answers])

    return routes


def documents_for(
    store: Store, authority: Authority, box: Box, heard: Heard, now_s: float, horizon_days: int
) -> list[bytes]:
    """Return what a box needs, in the order in which it must get it.

    The key set comes first, since it verifies the rest; then the time, since its nonce lives for 60 s and a list may
    take long over a radio; then the list, the acknowledgement, and the wish for rows that are missing here.
    """
    found = []
    if heard.key_set_version is None or heard.key_set_version < authority.key_set.version:
        found.append(authority.key_set_document)
    if heard.time_nonce is not None:
        found.append(authority.sign_time(TimeProof(box.vehicle, bytes.fromhex(heard.time_nonce), now_s)))
    listed: ListRow | None
    try:
        listed = lists.current(store, authority, box, int(now_s), horizon_days, heard=heard.list_version or 0)
    except Refused:
        # Bookings that fit no list must not keep the rest from their car; the last list is still a true one.
        listed = store.last_list(box.vehicle)
    if listed is not None and listed.version != heard.list_version:
        found.append(listed.document)
    with store.read() as db:
        store_id = bytes.fromhex(heard.store_id) if heard.store_id is not None else newest_store(db, box.vehicle)
        if store_id is not None:
            found += [message.payload for message in _log_messages(db, authority, box, store_id, heard.acked_seq)]
    return found


def _log_messages(
    db: Connection, authority: Authority, box: Box, store_id: bytes, acked_seq: int | None = None
) -> list[Outgoing]:
    """Return what a box should hear of its log: how far it is held, and from where on rows are missing.

    ``acked_seq``: the box has heard so much already. More than is held means that this database was restored from an
    older copy: the box is asked for the rest again.
    """
    place, gap = log_place(db, box.vehicle, store_id)
    messages = []
    if place.up_to_seq > (acked_seq or 0):
        ack = Ack(box.vehicle, store_id, place.up_to_seq, place.digest)
        messages.append(Outgoing(build_topic(box.vehicle, Topic.ACK), authority.sign_ack(ack)))
    if gap or (acked_seq or 0) > place.up_to_seq:
        resend = Resend(box.vehicle, store_id, place.up_to_seq + 1)
        messages.append(Outgoing(build_topic(box.vehicle, Topic.RESEND), authority.sign_resend(resend)))
    return messages
