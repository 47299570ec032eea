"""A file is there as a whole or not at all."""

import errno
import os
import stat

import pytest

from lpot_lightning.errors import ArtifactError
from lpot_lightning.machine.files import (
    TEMPORARY,
    expanded,
    open_folder,
    remove_file,
    rename_aside,
    replace_file,
    sha256,
    shown,
    write_file,
)


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


def test_a_file_is_written_and_written_over(tmp_path):
    for content in (b"one", b"", b"two"):
        write_file(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_its_mode_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "file", b"")
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_content_is_on_disk_before_the_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *a: done.append("fsync") or sync(*a))
    monkeypatch.setattr(os, "replace", lambda *a: done.append("replace") or replace(*a))
    write_file(tmp_path / "file", b"content")
    assert done == ["fsync", "replace", "fsync"]


def test_a_folder_that_is_made_lasts_as_its_files_do(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("lpot_lightning.machine.files.sync_folder", synced.append)
    open_folder(tmp_path / "above" / "folder")
    assert set(synced) == {tmp_path, tmp_path / "above"}
    open_folder(tmp_path / "above" / "folder")
    assert len(synced) == 2


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_what_goes_wrong_leaves_the_older_file_alone(tmp_path, monkeypatch, call, error):
    write_file(tmp_path / "file", b"older")
    monkeypatch.setattr(os, call, failing(error))
    with pytest.raises((ArtifactError, KeyboardInterrupt)):
        write_file(tmp_path / "file", b"newer")
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_error_names_file_and_cause(tmp_path):
    path = tmp_path / "gone" / "file"
    with pytest.raises(ArtifactError, match=f"cannot write `{path}`: No such file or directory"):
        write_file(path, b"")
    with pytest.raises(FileNotFoundError):
        replace_file(path, b"")


def test_a_folder_in_the_place_of_the_file_is_an_error(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(ArtifactError, match="cannot write"):
        write_file(tmp_path / "file", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_cannot_be_removed_is_named(tmp_path):
    remove_file(tmp_path / "file")
    (tmp_path / "file").mkdir()
    with pytest.raises(ArtifactError, match=f"cannot remove `{tmp_path / 'file'}`: "):
        remove_file(tmp_path / "file")


def test_opening_a_folder_makes_it_and_sweeps_it(tmp_path):
    folder = tmp_path / "a" / "b"
    open_folder(folder)
    (folder / f"{TEMPORARY}left_0ve").write_bytes(b"")
    (folder / "kept").write_bytes(b"")
    open_folder(folder)
    assert [path.name for path in folder.iterdir()] == ["kept"]


def test_what_only_looks_unfinished_is_left(tmp_path):
    kept = [f"{TEMPORARY}notes.txt", f"{TEMPORARY}", f"{TEMPORARY}left_0ve.bak", "x.lpot-left_0ve"]
    for name in kept:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / f"{TEMPORARY}a_folder").mkdir()
    (tmp_path / f"{TEMPORARY}a_0_link").symlink_to(tmp_path / kept[0])
    open_folder(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(kept) + 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("file", "it is a file, and no folder"),
        ("fifo", "it is a FIFO, and no folder"),
        ("dangling", "it is a link to `gone`, which is no folder"),
        ("file/inside", "Not a directory"),
        ("null\0", "null"),
    ],
)
def test_what_is_no_folder_is_named(tmp_path, name, words):
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("gone")
    with pytest.raises(ArtifactError, match=rf"cannot write to the workspace .*{words}.*; give"):
        open_folder(tmp_path / name)


def test_a_file_is_set_aside_under_the_next_free_name(tmp_path):
    (tmp_path / "a.1.yaml").symlink_to("gone")
    for number in (2, 3):
        (tmp_path / "a.yaml").write_text(str(number))
        assert rename_aside(tmp_path / "a.yaml") == tmp_path / f"a.{number}.yaml"
    with pytest.raises(ArtifactError, match="cannot rename"):
        rename_aside(tmp_path / "a.yaml")


def test_a_folder_that_cannot_be_opened_names_the_key_to_change(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"cannot write to the workspace .*workspace\.path"):
        open_folder(tmp_path / "file" / "folder")


def test_sha256_is_the_known_one():
    assert sha256(b"").startswith("e3b0c44298fc1c149afbf4c8996fb924")


@pytest.mark.parametrize("path", [b"a", 3, None, ["a"], 0.5, object()])
def test_what_is_no_path_is_told(path):
    with pytest.raises(ArtifactError, match=f"a path is a `{type(path).__name__}`; allowed: a tex"):
        expanded(path)


def test_a_path_that_is_too_long_is_not_repeated():
    with pytest.raises(
        ArtifactError, match="cannot open `xxx.*…xxx.*`: File name too long"
    ) as told:
        expanded("x" * 5000)
    assert len(str(told.value)) < 200


def test_a_path_is_shown_as_seen_from_here(tmp_path):
    assert shown(tmp_path / "ws" / "net") == "ws/net"
    assert shown(tmp_path.parent / "elsewhere") == str(tmp_path.parent / "elsewhere")
