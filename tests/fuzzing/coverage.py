"""One target under atheris, in a process of its own: `python -m tests.fuzzing.coverage TARGET WORK [OPTION ...]`.

It has to be: atheris marks the branches of modules while they are imported, and libFuzzer ends the process. A fault of
ours is written to `WORK/crashes` once for each place where it came up, and the search goes on. `WORK/corpus` keeps
what took a new path, so that the next run goes on from there. The options are libFuzzer's.
"""

import atexit
import hashlib
import json
import logging
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import atheris

INSTRUMENTED = ["homeplate", "homeplate_custodian", "tuf", "securesystemslib", "tomllib", "tests.fuzzing.planted"]

with atheris.instrument_imports(include=INSTRUMENTED):
    import tomllib  # noqa: F401 - what reads the configuration, or it would be imported later

    from tests.fuzzing.planted import planted
    from tests.fuzzing.targets import parsers

OURS = ("/node/homeplate", "/tests/fuzzing/")


def main() -> None:
    """Fuzz until libFuzzer's limits are reached; it then ends the process."""
    name, work, *options = sys.argv[1:]
    logging.disable()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = planted() if name == "planted" else parsers(folder)[name]
    corpus, crashes = Path(work) / "corpus", Path(work) / "crashes"
    for made in (corpus, crashes):
        made.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds:
        (corpus / f"seed-{hashlib.sha256(seed).hexdigest()[:16]}").write_bytes(seed)

    def run(data: bytes) -> None:
        try:
            target.run(data)
        except Exception as error:
            _keep(error, data, crashes)

    limits = [f"-max_len={target.most_bytes}", "-timeout=30", "-rss_limit_mb=3072", "-print_final_stats=1"]
    atheris.Setup([name, *limits, f"-artifact_prefix={crashes}/", *options, str(corpus)], run)
    atheris.Fuzz()


def _keep(error: Exception, data: bytes, crashes: Path) -> None:
    """Write an input that brought a fault up, and what it was, unless the same one is there."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if any(folder in frame.filename for folder in OURS)]
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in own]
    kind = type(error).__name__
    name = hashlib.sha256(json.dumps([kind, places[-1:]]).encode()).hexdigest()[:16]
    if not (crashes / f"{name}.json").exists():
        (crashes / f"{name}.input").write_bytes(data)
        (crashes / f"{name}.json").write_text(json.dumps({"error": kind, "says": str(error)[:300], "at": places}))


if __name__ == "__main__":
    main()
