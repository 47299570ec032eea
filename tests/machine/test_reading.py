"""Files are read as far as they are files."""

import os
import re
import socket

import pytest

from lpot_lightning.machine.reading import regular_bytes, without_tilde


def refused(path, words, most=100):
    with pytest.raises(OSError, match=re.escape(words)):
        regular_bytes(path, most)


def test_a_file_is_read_up_to_its_bound(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    (tmp_path / "link").symlink_to("file")
    assert regular_bytes(path, 100) == regular_bytes(tmp_path / "link", 100) == b"x" * 100
    refused(path, "it has 100 bytes; allowed: 99 bytes", most=99)


def test_a_hole_is_not_read(tmp_path):
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(40 << 30)
    refused(tmp_path / "hole", "it has 40 GiB; allowed: 16 MiB", most=16 << 20)


def test_what_does_not_fit_into_memory_is_told(tmp_path):
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 43)
    refused(tmp_path / "hole", "its 8 TiB do not fit into memory", most=1 << 50)


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    refused(tmp_path / "fifo", "it is a FIFO; allowed: a regular file")
    refused(tmp_path, "it is a folder; allowed: a regular file")
    refused("/dev/zero", "it is a device; allowed: a regular file")
    refused(tmp_path / "gone", "No such file")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
        refused(tmp_path / "socket", "No such device")


def test_a_user_who_is_not_there(tmp_path):
    assert without_tilde("~/a").is_absolute()
    with pytest.raises(OSError, match="no such user"):
        without_tilde("~nobody-of-this-name/a")
