"""The inbox: what is a candidate, who waits for a verdict, and that one service alone looks after it."""

import os
import threading

import msgspec
import pytest

from homeplate.errors import StoreError, TrustError
from homeplate.trust.files import write_durably
from homeplate.trust.inbox import (
    answer,
    await_answer,
    candidates,
    files_of,
    hand_in,
    is_handed_in,
    is_served,
    serving,
    withdraw,
)
from homeplate.trust.packed import pack
from tests.trust.saying import says

NAME = "install-0123456789abcdef"
NO_ANSWER = "the bundle service did not answer in time; `homeplate ledger show bundle` says what it does"


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def test_candidates_are_folders_and_bundles_whose_name_does_not_begin_with_a_dot_in_order(inbox, tmp_path):
    for name in ("b", ".hidden", "two words", "a" * 129, "é"):
        (inbox / name).mkdir()
    for name in ("c.bundle", "a.bundle", ".d.bundle", "note.txt"):
        (inbox / name).touch()
    (inbox / "link").symlink_to(inbox / "b")
    (inbox / ("a" * 128)).mkdir()
    assert [path.name for path in candidates(inbox)] == ["a.bundle", "a" * 128, "b", "c.bundle", "link"]
    assert candidates(tmp_path / "nowhere") == []
    (tmp_path / "file").touch()
    with says(f"the inbox {tmp_path / 'file'} cannot be read: Not a directory; check its owner", kind=StoreError):
        candidates(tmp_path / "file")


def test_a_candidate_is_a_folder_or_a_packed_one_and_never_a_link(inbox):
    (inbox / "folder").mkdir()
    (inbox / "folder" / "1.root.json").write_bytes(b"root")
    assert files_of(inbox / "folder").read("1.root.json", 9) == b"root"
    (inbox / "x.bundle").write_bytes(pack(inbox / "folder"))
    assert files_of(inbox / "x.bundle").read("1.root.json", 9) == b"root"
    (inbox / "link").symlink_to(inbox / "folder")
    (inbox / "link.bundle").symlink_to(inbox / "x.bundle")
    message = f"{inbox / 'link'} is no folder; copy the folder that the custodian published"
    with says(message, "unreadable"):
        files_of(inbox / "link")
    with pytest.raises(TrustError, match="symbolic"):
        files_of(inbox / "link.bundle")
    (inbox / "f.bundle").mkdir()
    (inbox / "f.bundle" / "1.root.json").write_bytes(b"other")
    assert files_of(inbox / "f.bundle").read("1.root.json", 9) == b"other"


def test_what_is_handed_in_appears_whole_and_readable_by_the_service(inbox, monkeypatch):
    seen, real = [], os.rename
    monkeypatch.setattr(os, "rename", lambda one, other: (seen.append(sorted(os.listdir(inbox))), real(one, other)))  # noqa: PTH208
    old = os.umask(0o077)
    try:
        hand_in(inbox, b"packed", NAME)
    finally:
        os.umask(old)
    assert seen == [[f".{NAME}.part"]]
    assert [path.name for path in inbox.iterdir()] == [f"{NAME}.bundle"]
    assert (inbox / f"{NAME}.bundle").read_bytes() == b"packed"
    assert (inbox / f"{NAME}.bundle").stat().st_mode & 0o777 == 0o644
    withdraw(inbox, NAME)
    withdraw(inbox, NAME)
    assert list(inbox.iterdir()) == []


def test_what_cannot_be_handed_in_says_as_whom_to_run(inbox):
    (inbox / f"{NAME}.bundle").mkdir()
    message = f"the inbox {inbox} cannot be written: Is a directory; run this as root or as the service's user"
    with says(message, "not-written"):
        hand_in(inbox, b"packed", NAME)
    withdraw(inbox, NAME)  # what cannot be taken back is the service's to judge


@pytest.mark.parametrize(
    ("name", "waits"),
    [
        (f"{NAME}.bundle", True),
        (f"{NAME}0.bundle", False),
        ("install-0123456789abcdeF.bundle", False),
        ("arrived-0123456789abcdef.bundle", False),
        (NAME, False),
    ],
)
def test_a_person_waits_for_what_was_handed_in_under_such_a_name(inbox, name, waits):
    assert not is_handed_in(inbox / name)
    (inbox / name).touch()
    assert is_handed_in(inbox / name) is waits


def test_another_users_file_is_nobodys_who_waits(inbox):
    if os.geteuid() != 0:
        pytest.skip("giving a file away needs root")
    path = inbox / f"{NAME}.bundle"
    path.touch()
    os.chown(path, 54_321, -1)
    assert not is_handed_in(path)


def test_who_waits_hears_the_version_or_the_refusal_and_the_answer_is_taken_away(inbox):
    candidate = inbox / f"{NAME}.bundle"
    answer(candidate, 7)
    assert [path.name for path in inbox.iterdir()] == [f".{NAME}.answer"]
    assert await_answer(inbox, NAME) == 7
    assert list(inbox.iterdir()) == []
    answer(candidate, "expired: it is over")
    with says("expired: it is over"):
        await_answer(inbox, NAME)
    assert list(inbox.iterdir()) == []
    answer(candidate, "x" * 5000)
    with says("x" * 4096):
        await_answer(inbox, NAME)


def test_an_answer_that_comes_later_is_waited_for(inbox):
    thread = threading.Timer(0.15, answer, (inbox / f"{NAME}.bundle", 3))
    thread.start()
    assert await_answer(inbox, NAME) == 3
    thread.join()


def test_no_answer_and_a_wrong_one_are_told_apart(inbox):
    with says(NO_ANSWER, "no-answer"):
        await_answer(inbox, NAME, wait_s=0.01)
    path = inbox / f".{NAME}.answer"
    for data in (b"", b"7", b'{"version":"7"}', msgspec.json.encode({"version": 1, "more": 2})):
        write_durably(path, data)
        with says(f"{path} is no answer; see `homeplate ledger show bundle`", "no-answer"):
            await_answer(inbox, NAME)
    write_durably(path, b'{"version":5}'.ljust(16 * 1024))
    assert await_answer(inbox, NAME) == 5
    write_durably(path, b'{"version":5}'.ljust(16 * 1024 + 1))
    with pytest.raises(TrustError, match="larger than the 16384 bytes"):
        await_answer(inbox, NAME)


def test_one_service_looks_after_an_inbox_and_others_can_tell(inbox, tmp_path):
    assert not is_served(inbox)
    assert not is_served(tmp_path / "nowhere")
    with serving(inbox):
        assert is_served(inbox)
        message = f"another bundle service looks after {inbox}; a node has one"
        with says(message, kind=StoreError), serving(inbox):
            pass
        assert is_served(inbox)
    assert not is_served(inbox)
    (tmp_path / "file").touch()
    message = f"the inbox {tmp_path / 'file'} cannot be opened: Not a directory; check its owner"
    with says(message, kind=StoreError):
        is_served(tmp_path / "file")
    with says(message, kind=StoreError), serving(tmp_path / "file"):
        pass


def test_a_service_that_starts_removes_what_an_interrupted_command_left_and_nothing_else(inbox):
    left = [f".{NAME}.part", f".{NAME}.answer", f"..{NAME}.part.new", f"..{NAME}.answer.new", f".{NAME}.part.new"]
    kept = [f"{NAME}.bundle", ".new", f".{NAME}0.part", f".{NAME}.other", "...install-0123456789abcdef.part"]
    for name in (*left, *kept):
        (inbox / name).touch()
    with serving(inbox):
        assert sorted(path.name for path in inbox.iterdir()) == sorted(kept)


def test_looking_whether_an_inbox_is_served_leaves_no_file_open(inbox):
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        is_served(inbox)
        with serving(inbox):
            is_served(inbox)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
