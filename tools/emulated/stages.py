"""Counts what each stage of the node costs where it runs: `python -m tools.emulated.stages CLIP`, one line of JSON.

In the emulated machine a nanosecond is an instruction. One thread. The clip goes through the node's own pipeline, which
times its stages itself; each passage is then sealed, staged, put in the ledger and released, as capture does it.
"""

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from homeplate.capture.crop import encode_crop
from homeplate.domain.agency import KemKind
from homeplate.domain.passage import Frame, Passage
from homeplate.domain.record import RECORD_ID_BYTES, Disposition, HitKind, Part, RecordId, StorageClass
from homeplate.domain.source import SourceKind, SourceSettings
from homeplate.pipeline import Pipeline
from homeplate.sealing.envelope import encode
from homeplate.sealing.facts import CropReference, encode_facts, facts_of, pad_crop
from homeplate.sealing.keys import generate_sealing_key, generate_signing_key
from homeplate.sealing.seal import seal
from homeplate.sealing.slots import SlotStore
from homeplate.store.ledger import MerkleLog
from homeplate.store.spool import FileSpool
from homeplate.vision import open_models
from homeplate.vision.image import plate_crop
from homeplate.vision.motion import MotionGate

NOW_S, DAY_S = 1_800_000_000, 86_400
NS = 1_000_000_000
DISPOSITION = Disposition(
    rule="everything", recipient="example-pd", parts=frozenset({Part.FACTS, Part.CROP}), storage=StorageClass.OUTGOING,
    keep_until_s=NOW_S + DAY_S, retention_s=DAY_S, hit=HitKind.NONE, purpose="measurement",
)  # fmt: skip


class Standing:
    """Implements `ports.Clock`: the emulated machine's own time is a count."""

    def now_ns(self) -> int:
        """Return the one time that there is."""
        return NOW_S * NS

    def least_ns(self) -> int:
        """Return the same."""
        return NOW_S * NS


class Keeping:
    """Seals and keeps passages in a folder, and counts."""

    def __init__(self, folder: Path) -> None:
        self.count: Counter[str] = Counter()
        folder.mkdir()
        self._to = generate_sealing_key(KemKind.X25519).sealing_key(not_before_s=0, not_after_s=NOW_S + 2 * DAY_S)
        self._key = generate_signing_key()
        self._slots = SlotStore(folder / "disk.slots", folder / "memory.slots")
        self._spool, self._ledger = FileSpool(folder / "spool"), MerkleLog(folder / "capture.log", Standing())

    def keep(self, passage: Passage, sequence: int) -> None:
        """Seal a passage's crop and facts, and put both in the spool and the ledger."""
        begun = time.perf_counter_ns()
        ids = [RecordId(os.urandom(RECORD_ID_BYTES)) for _ in range(2)]
        assert passage.crop is not None
        jpeg = encode_crop(passage.crop)
        facts = encode_facts(facts_of(passage, DISPOSITION, sequence=sequence, crop=CropReference.of(ids[1], jpeg)))
        blobs = [self._sealed(*one) for one in zip(ids, (Part.FACTS, Part.CROP), (facts, pad_crop(jpeg)), strict=True)]
        sealed = time.perf_counter_ns()
        for record_id, blob in zip(ids, blobs, strict=True):
            self._spool.stage(record_id, blob, StorageClass.OUTGOING)
        self._ledger.append("capture.sealed", records=",".join(map(str, ids)))
        self._spool.release(ids)
        self.count.update(seal=sealed - begun, store=time.perf_counter_ns() - sealed)

    def _sealed(self, record_id: RecordId, part: Part, plaintext: bytes) -> bytes:
        sealed = seal(
            part=part, plaintext=plaintext, record_id=record_id, node=bytes(16), recipient=self._to,
            keep_until_s=DISPOSITION.keep_until_s, signing_key=self._key,
        )  # fmt: skip
        slot = self._slots.slot_for(DISPOSITION.rule, DISPOSITION.keep_until_s, DISPOSITION.retention_s)
        return self._slots.wrap(slot, record_id, encode(sealed))


def main() -> None:
    """Take the clip through all stages."""
    clip = Path(sys.argv[1])
    cv2.setNumThreads(1)
    detector, reader = open_models(Path("models"), threads=1)
    detector.detect(np.zeros((720, 1280, 3), np.uint8))  # the first run of a network sets it up
    reader.read([np.zeros((40, 80, 3), np.uint8)])
    pipeline = Pipeline(
        settings=SourceSettings(name="lane", kind=SourceKind.VIDEO, path=clip), detector=detector, reader=reader,
        gate=MotionGate(), crop=plate_crop, perf_ns=time.perf_counter_ns, home="US-CA",
    )  # fmt: skip
    keeping, number = Keeping(Path("/tmp/kept")), 0  # noqa: S108 - the guest's own
    passages: list[Passage] = []
    shown = cv2.VideoCapture(str(clip))
    while (got := shown.read())[0]:
        at = number * NS // 15
        image = np.asarray(got[1], np.uint8)
        frame = Frame(source="lane", index=number, stream_ns=at, captured_ns=NOW_S * NS + at, image=image)
        passages += pipeline.process(frame)
        number += 1
    passages += pipeline.flush()
    for sequence, passage in enumerate(passages, start=1):
        keeping.keep(passage, sequence)
    count = pipeline.counters
    spent = {str(stage): spent for stage, spent in count.stage_ns.items()} | keeping.count
    looked = count.frames - count.dropped["no_motion"]
    print(json.dumps({"frames": number, "looked_at": looked, "plates": count.detections,
                      "passages": len(passages), "instructions": spent}))  # fmt: skip


if __name__ == "__main__":
    main()
