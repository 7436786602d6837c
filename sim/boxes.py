"""Makes a folder the data of a car's box, as a technician and the town hall do it: a request, and its answer."""

from __future__ import annotations

from pathlib import Path

from cloud_sync.documents import decode_box_request
from cloud_sync.endpoint.authority import Authority
from cloud_sync.endpoint.messages import Box
from cloud_sync.provisioning import PROVISIONING, Provisioning, load_provisioning, make_keys, take_answer


def give(authority: Authority, vehicle: str, folder: Path, now_s: int) -> tuple[Box, Provisioning]:
    """Have the box of ``folder`` make its keys and the commune answer; return the two sides of it.

    ``folder`` is made if it is not there. What is in it afterwards, ``amibox run`` starts with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    request = decode_box_request(make_keys(folder).request)
    data = authority.answer(vehicle, request, now_s)
    take_answer(folder, data, lambda answer: answer.roots == authority.roots)
    return Box(vehicle, request.signing_public, request.agreement_public), load_provisioning(folder / PROVISIONING)
