"""Times the hot list: `python -m tools.bench_hotlist [--entries N]`. One thread; the last line is JSON.

The list is as large as a node takes: random plates over several lists, purposes, states and days, sealed to a node's
key as the custodian seals it. Loading is opening the seal and reading the list; matching is one passage's look-up.
"""

import argparse
import gc
import json
import os
import random
import resource
import time

from homeplate.domain.agency import KemKind
from homeplate.domain.hotlist import HotListEntry, HotListPurpose, HotListTerms, PlateKind, code_of
from homeplate.domain.plate import ALPHABET, PlateText
from homeplate.domain.record import DAY_SECONDS
from homeplate.policy.hotlist import match
from homeplate.sealing.keys import generate_sealing_key
from homeplate.sealing.seal import open_hot_list, seal_hot_list
from homeplate.trust.hotlist import encode_hot_list, parse_hot_list
from homeplate.trust.metadata import MAX_TARGET_BYTES

NOW_S = 1_790_000_000
LOOKS = 20_000
REPEATS = 5


def entries(count: int, rng: random.Random) -> list[HotListEntry]:
    terms = [
        HotListTerms(list_name=name, purpose=purpose, state=state, kind=PlateKind.PASSENGER, expires_s=NOW_S + day)
        for name in ("state", "county")
        for purpose in HotListPurpose
        for state in ("US-CA", "US-NV", "US-OR")
        for day in range(DAY_SECONDS, 30 * DAY_SECONDS, DAY_SECONDS)
    ]
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts["".join(rng.choices(ALPHABET, k=rng.choice((6, 7, 7, 7))))] = None
    return [HotListEntry(text=PlateText(text), terms=rng.choice(terms)) for text in texts]


def seconds(work) -> tuple[float, object]:
    gc.collect()
    start = time.perf_counter()
    done = work()
    return time.perf_counter() - start, done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    count = parser.parse_args().entries
    rng = random.Random(20260101)
    listed = entries(count, rng)
    key = generate_sealing_key(KemKind.X25519)
    write_s, plain = seconds(lambda: encode_hot_list(listed, issued_s=NOW_S, expires_s=NOW_S + 7 * DAY_SECONDS))
    seal_s, sealed = seconds(lambda: seal_hot_list(plain, key.public_bytes))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loads = [seconds(lambda: parse_hot_list(open_hot_list(sealed, key), NOW_S)) for _ in range(REPEATS)]
    hot_list = loads[-1][1]
    wanted = [entry.text for entry in rng.sample(listed, LOOKS)]
    strangers = [PlateText("".join(rng.choices(ALPHABET, k=7))) for _ in range(LOOKS)]
    known = {code_of(entry.text) for entry in listed}
    found = [match(text, "unknown", hot_list, NOW_S) for text in wanted]
    assert len(hot_list) == count
    assert all(hit is not None and hit.kind == "exact" for hit in found)
    strange = [match(text, "unknown", hot_list, NOW_S) for text in strangers]
    assert all(
        (hit is not None and hit.kind == "exact") == (code_of(text) in known)
        for text, hit in zip(strangers, strange, strict=True)
    )
    looks_s = {
        name: min(
            seconds(lambda texts=texts: [match(text, "unknown", hot_list, NOW_S) for text in texts])[0]
            for _ in range(3)
        )
        for name, texts in (("listed", wanted), ("not_listed", strangers))
    }
    figures = {
        "entries": count,
        "sealed_bytes": len(sealed),
        "fits_a_bundle": len(sealed) <= MAX_TARGET_BYTES,
        "columns_bytes": sum(
            column.nbytes for column in (hot_list.codes, hot_list.owners, hot_list.folded, hot_list.folded_places)
        ),
        "peak_more_mib": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024, 1),
        "write_s": round(write_s, 2),
        "seal_s": round(seal_s, 3),
        "load_s_median": round(sorted(spent for spent, _ in loads)[REPEATS // 2], 3),
        "load_s_worst": round(max(spent for spent, _ in loads), 3),
        **{f"match_us_{name}": round(spent / LOOKS * 1e6, 2) for name, spent in looks_s.items()},
        "near_among_strangers": sum(hit is not None and hit.kind == "near" for hit in strange),
        "strangers": LOOKS,
        "cores": os.cpu_count(),
    }
    print(json.dumps(figures))
    return 0 if figures["fits_a_bundle"] and figures["load_s_worst"] < 1 else 1


if __name__ == "__main__":
    raise SystemExit(main())
