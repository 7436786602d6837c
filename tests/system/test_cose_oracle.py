"""Our envelopes as another implementation sees them: ``cwt``, in its own environment (it wants an older cbor2)."""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path

import pytest

from cloud_sync.documents import DocumentType, cbor, cose
from cloud_sync.documents.kinds import BOX_TYPES, SEALED_TYPES
from sim.fuzz.world import opener, sealed_for
from tests.document_rig import BOX, CASES, CLOUD, ROOT

ORACLE = """
import json, sys
import cbor2
from cwt import COSE, COSEKey

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def opened(job, car):
    data = bytes.fromhex(job["data"])
    if job["open"]:
        key = COSEKey.from_pem(job["open"]["pem"], alg="ECDH-ES+HKDF-256", kid=bytes.fromhex(job["open"]["kid"]))
        body = list(cbor2.loads(data).value)
        recipient = body[3][0]
        point = recipient[1][-1]
        # It reads no compressed points: y is written out (the even one), outside of what is protected.
        x = int.from_bytes(point[-2], "big")
        y = pow((x**3 - 3 * x + B) % P, (P + 1) // 4, P)
        point[-3] = (y if y % 2 == 0 else P - y).to_bytes(32, "big")
        recipient[1][4] = key.kid
        context = [3, [None] * 3, [None] * 3, [256, recipient[0]]]
        aad = bytes([job["type"]]) + car.encode()
        data = COSE.new().decode(cbor2.dumps(cbor2.CBORTag(96, body)), key, context=context, external_aad=aad)
    key = COSEKey.from_pem(job["sign"]["pem"], alg=job["alg"], kid=bytes.fromhex(job["sign"]["kid"]))
    # It goes by the key's algorithm and does not look at what the header says.
    return COSE.new().decode(data, key), cbor2.loads(cbor2.loads(data).value[0])[1]


answers = []
for job in json.load(sys.stdin):
    payload, algorithm = opened(job, job["car"])
    answer = {"payload": payload.hex(), "algorithm": algorithm, "refused": 0}
    whole = bytes.fromhex(job["data"])
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for bad, car in ((flipped, job["car"]), (whole, "hede-2" if job["open"] else None)):
        if car is None:
            continue
        try:
            opened({**job, "data": bad.hex()}, car)
        except Exception:
            answer["refused"] += 1
    answers.append(answer)
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oracle") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "cwt==3.3.0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return python


def test_another_implementation_opens_and_verifies_every_document(oracle: Path) -> None:
    jobs, payloads = [], []
    for kind, case in CASES.items():
        data = case.data
        signer = ROOT if kind is DocumentType.KEY_SET else BOX if kind in BOX_TYPES else CLOUD
        reader, car = opener(kind), sealed_for(kind)
        key = {"pem": reader.to_pem().decode(), "kid": reader.kid.hex()}
        jobs.append(
            {
                "type": int(kind),
                "car": car,
                "data": data.hex(),
                "alg": "ES256" if kind in BOX_TYPES else "EdDSA",
                "sign": {"pem": signer.to_pem().decode(), "kid": signer.kid.hex()},
                "open": key if kind in SEALED_TYPES else None,
            }
        )
        payloads.append(cose.open_document(data, kind, car, reader).payload)
    done = subprocess.run(
        [oracle, "-I", "-c", ORACLE], input=json.dumps(jobs), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert [bytes.fromhex(answer["payload"]) for answer in answers] == payloads
    assert [answer["refused"] for answer in answers] == [2 if kind in SEALED_TYPES else 1 for kind in CASES]
    # RFC 9053: ES256 is -7, EdDSA -8.
    assert [answer["algorithm"] for answer in answers] == [-7 if kind in BOX_TYPES else -8 for kind in CASES]
    assert all(cbor.dumps(cbor.loads(payload)) == payload for payload in payloads)
