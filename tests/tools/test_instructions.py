"""Counting instructions and proving equal reading: archives, consoles, tables. No test starts an emulator."""

import io
import json
import shutil
import stat
import subprocess
import sys

import pytest

from homeplate.domain.geometry import Box
from tools import instructions, no_vnni
from tools.comparing import EngineError
from tools.emulated import guest, machine
from tools.emulated.machine import Task


def unpacked(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Read an archive as man 5 cpio says."""
    files, at = {}, 0
    while True:
        assert archive[at : at + 6] == b"070701"
        assert at % 4 == 0
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name_end = at + 110 + fields[11]
        name = archive[at + 110 : name_end - 1].decode()
        begin = name_end + -name_end % 4
        content = archive[begin : begin + fields[6]]
        at = begin + fields[6] + -fields[6] % 4
        if name == "TRAILER!!!":
            return files
        files[name] = fields[1], content


def packed(entries) -> bytes:
    out = io.BytesIO()
    machine.archive(out, entries)
    return out.getvalue()


def test_a_folder_goes_into_an_archive_and_comes_out(tmp_path):
    (tmp_path / "etc/left").mkdir(parents=True)
    (tmp_path / "etc/left/out").write_bytes(b"no")
    (tmp_path / "etc/odd").write_bytes(b"12345")
    (tmp_path / "etc/odd").chmod(0o755)
    (tmp_path / "link").symlink_to("etc/odd")
    files = unpacked(packed(machine.entries_of(tmp_path, "in/", without=["etc/left"])))
    assert sorted(files) == ["in/etc", "in/etc/odd", "in/link"]
    assert files["in/etc/odd"] == (stat.S_IFREG | 0o755, b"12345")
    assert files["in/link"][1] == b"etc/odd"
    assert stat.S_ISLNK(files["in/link"][0])
    assert stat.S_ISDIR(files["in/etc"][0])


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_reads_our_archives(tmp_path):
    archive = packed(machine.task_entries([], {"a/b/c.bin": b"xyz"}))
    subprocess.run(["cpio", "-id", "--quiet"], input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / "task/a/b/c.bin").read_bytes() == b"xyz"
    assert (tmp_path / "init").stat().st_mode & 0o111


def test_every_folder_comes_before_what_is_in_it():
    paths = [path for path, _, _ in machine.task_entries([Task(name="n", words=["-V"])], {"a/b/c": b"", "a/d": b""})]
    for place, path in enumerate(paths):
        if "/" in path:
            assert path.rsplit("/", 1)[0] in paths[:place]


def test_what_a_task_prints_comes_back_under_its_name(capfd):
    words = [sys.executable, "-c", "import sys; print(sys.stdin.read().upper()); print('two')"]
    guest.run("one", words, "given", {})
    guest.run("bad", [sys.executable, "-c", "raise SystemExit(3)"], "", {})
    console = "booting\r\n" + capfd.readouterr().out.replace("\n", "\r\n")
    one, bad = (Task(name=name, words=[]) for name in ("one", "bad"))
    assert machine.answers(console, [one]) == {"one": ["GIVEN", "two"]}
    with pytest.raises(EngineError, match=r"bad did not end well[\s\S]*@@bad 3"):
        machine.answers(console, [one, bad])


def test_the_first_picture_warms_up_and_the_least_of_its_counts_counts():
    pictures = {"pictures/a.jpg": b"", "pictures/b.jpg": b""}
    asked = [json.loads(line)["path"] for line in instructions.questions(pictures).splitlines()]
    assert asked == ["/task/pictures/a.jpg"] * instructions.REPEATS + ["/task/pictures/b.jpg"]
    lines = [
        json.dumps({"image": image, "milliseconds": count, "plates": [{}] * (2 if image.endswith("b.jpg") else 1)})
        for image, count in zip(asked, [9.0, 5.5, 6.0, 7.0], strict=True)
    ]
    assert instructions.whole_pictures(lines) == {"pictures": (5_500_000, 7_000_000), "plates": (1, 2)}


def counts(detector, reader, *pictures):
    return instructions.Counts(detector=detector, reader=reader, pictures=pictures, plates=(1,) * len(pictures))


def test_the_page_and_the_last_line_say_the_same_ratios():
    million = 10**6
    peer = counts(700 * million, 70 * million, 800 * million, 800 * million)
    measured = {
        "cortex-a72": (counts(150 * million, 40 * million, 190 * million, 210 * million), peer),
        "cortex-a76": (counts(60 * million, 18 * million, 80 * million, 90 * million), peer),
    }
    page = instructions.report(measured, {"numpy": "2"}, "detector abc")
    assert "| cortex-a72 (Raspberry Pi 4) | a whole picture | 200.0 | 800.0 | 0.250 |" in page
    assert "cortex-a72 0.250 (the floor is met), cortex-a76 0.106 (the goal is met)" in page
    others = {"cortex-a72": {"lean.onnx": 70 * million}, "cortex-a76": {}}
    assert "| cortex-a72 | lean.onnx | 70.0 | 120.0 | 0.150 |" in instructions.estimates(measured, others)
    last = instructions.last_line(measured, others, "detector abc")
    assert last["ratios"] == {"cortex-a72": 0.25, "cortex-a76": 0.1062}
    assert json.loads(json.dumps(last))["instructions"]["cortex-a76"]["homeplate"]["plates"] == [1, 1]


@pytest.mark.parametrize(("ratio", "said"), [(0.26, "missed"), (0.25, "floor is met"), (0.125, "goal is met")])
def test_a_bar_counts_as_reached_where_it_is_touched(ratio, said):
    assert said in instructions.verdict(ratio)


def test_pictures_are_spread_over_the_set(tmp_path):
    rows = [{"path": f"eval/{n}.jpg"} for n in range(10)]
    (tmp_path / "eval").mkdir()
    for row in rows:
        (tmp_path / row["path"]).write_bytes(row["path"].encode())
    (tmp_path / f"eval_{instructions.TIMED}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert list(instructions.chosen(tmp_path, 3)) == ["pictures/0.jpg", "pictures/3.jpg", "pictures/6.jpg"]


@pytest.mark.parametrize("missing", ["program", "machine"])
def test_what_is_missing_is_named(missing, tmp_path, monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda name: None if missing == "program" else f"/bin/{name}")
    wanted = {"program": "apt-get install qemu-system-arm", "machine": "--setup makes one"}[missing]
    with pytest.raises(EngineError, match=wanted):
        machine.ready(tmp_path, setup=False)


def box(left, width=40.0, top=10.0):
    return Box(left=left, top=top, right=left + width, bottom=top + 20)


def test_a_box_is_matched_once():
    assert no_vnni.matched([box(0), box(1)], [box(0)], 0.5) == 1
    assert no_vnni.matched([box(0), box(100)], [box(100), box(0)], 0.9) == 2
    assert no_vnni.matched([box(0)], [box(30)], 0.5) == 0
    assert no_vnni.matched([], [box(0)], 0.5) == 0


def test_differences_are_counted_against_the_truth_and_against_the_other_processor():
    truth = no_vnni.Material(
        plates={f"p{n}": b"" for n in range(4)},
        texts=["AA1", "BB2", "CC3", "DD4"],
        scenes={"s0": b"", "s1": b""},
        boxes=[[box(0)], [box(0), box(100)]],
    )
    here = no_vnni.Reads(texts=["AA1", "BB2", "XX", "YY"], boxes=[[box(0)], [box(0), box(200)]])
    there = no_vnni.Reads(texts=["AA1", "BB8", "CC3", "YZ"], boxes=[[box(0.5)], [box(0)]])
    one = no_vnni.compare(truth, here, there)
    assert (one.plates, one.right, one.texts_different, one.only_here, one.only_there) == (4, 2, 3, 1, 1)
    assert (one.scenes, one.labelled, one.found, one.false, one.scenes_different) == (2, 3, 2, 1, 1)
    same = no_vnni.compare(truth, here, here)
    assert (same.texts_different, same.scenes_different, same.p) == (0, 0, 1.0)
    assert "| there | 2/4 | 3 | 1 / 1 (1) | 2/3 | 1 | 1/2 |" in no_vnni.table({"there": one}, "here")


def test_answers_become_texts_and_boxes():
    plate = {"text": "AA1", "box": [1.0, 2.0, 3.0, 4.0]}
    reads = no_vnni.reads_of([{"plates": [plate]}, {"plates": []}, {"plates": [plate, plate]}], 1)
    assert reads.texts == ["AA1"]
    assert reads.boxes == [[], [Box(left=1.0, top=2.0, right=3.0, bottom=4.0)] * 2]


def test_fp32_graphs_stand_in_for_the_int8_ones_where_the_manifest_names_them(tmp_path):
    models, folder = tmp_path / "models", tmp_path / "fp32"
    models.mkdir()
    folder.mkdir()
    plain = {"file": "x_fp32.onnx", "sha256": "f" * 64, "bytes": 4}
    entry = {"file": "x.onnx", "sha256": "0" * 64, "bytes": 1, "input": "kept"}
    (models / "x_fp32.onnx").write_bytes(b"fp32")
    write = (models / "manifest.json").write_text
    write(json.dumps({"detector": entry, "reader": entry}))
    assert not no_vnni.fp32_models(models, folder)
    write(json.dumps({"detector": {**entry, "fp32": plain}, "reader": {**entry, "fp32": plain}}))
    assert no_vnni.fp32_models(models, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["reader"] == {"input": "kept", **plain}
    assert (folder / "x_fp32.onnx").read_bytes() == b"fp32"


@pytest.mark.parametrize("tool", [instructions, no_vnni])
def test_without_what_it_needs_it_says_so_and_measures_nothing(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    words = ["--data", str(tmp_path), *(["--peer", str(tmp_path)] if tool is instructions else [])]
    monkeypatch.setattr(sys, "argv", ["tool", *words])
    assert tool.main() == 0
    assert "missing" in json.loads(capsys.readouterr().out)["skipped"]
