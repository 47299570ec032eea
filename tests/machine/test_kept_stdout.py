"""One text on stdout, whatever others write."""

import subprocess
import sys

import pytest

from lpot_lightning.machine.kept_stdout import kept_stdout

PROGRAM = """
import os, subprocess, sys
from lpot_lightning.machine.kept_stdout import kept_stdout

with kept_stdout() as write:
    print("from Python")
    os.write(1, b"from C\\n")
    subprocess.run([sys.executable, "-c", "print('from a process')"], check=True)
    write("ours\\n")
print("afterwards")
"""


def test_what_others_print_goes_to_stderr():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stdout == "ours\nafterwards\n"
    assert sorted(done.stderr.split("\n")) == ["", "from C", "from Python", "from a process"]


def test_a_stdout_that_is_no_file_works_too(capsys):
    with kept_stdout() as write:
        sys.stdout.write("from Python\n")
        write("ours\n")
    assert capsys.readouterr() == ("ours\n", "from Python\n")


def test_stdout_is_what_it_was_also_after_an_error(capfd):
    with pytest.raises(KeyError), kept_stdout():
        raise KeyError
    sys.stdout.write("again\n")
    sys.stdout.flush()
    assert capfd.readouterr().out == "again\n"
