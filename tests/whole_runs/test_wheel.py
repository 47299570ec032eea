"""The wheel: what is in it, and that it alone does what its pages say, in a fresh environment."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path

import pytest
import yaml
from skill_page import STRANGERS, commands, exported, quantized, restored, shown

import lpot_lightning
from lpot_lightning.version import VERSION

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
ALONE = ["--no-deps", "--no-index"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it from a copy of the sources: what an earlier build has left stays out of it."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    left_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "lpot_lightning", folder / "lpot_lightning", ignore=left_out)
    asked = ["wheel", *ALONE, "--no-build-isolation", "--wheel-dir", str(folder / "dist"), "."]
    subprocess.run([*PIP, *asked], cwd=folder, check=True, capture_output=True, timeout=300)
    (made,) = (folder / "dist").iterdir()
    return made


def test_what_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        said = message_from_string(archive.read(_metadata(names)).decode())
        skill = "lpot_lightning/skills/lpot-lightning/SKILL.md"
        assert archive.read(skill) == (ROOT / skill).read_bytes()
        assert archive.read("lpot_lightning/llms.txt") == (ROOT / "llms.txt").read_bytes()
    sources = {path.relative_to(ROOT).as_posix() for path in _sources()}
    assert {name for name in names if name.startswith("lpot_lightning/")} == sources
    assert {name.split("/")[0] for name in names} == {"lpot_lightning", _metadata(names)[:-9]}
    assert f"{_metadata(names)[:-9]}/licenses/LICENSE" in names
    assert (said["Name"], said["Version"]) == ("lpot-lightning", VERSION)
    assert (said["License-Expression"], said["Requires-Python"]) == ("Apache-2.0", ">=3.11")
    assert said["Description-Content-Type"] == "text/markdown"
    assert str(said.get_payload()).strip() == (ROOT / "README.md").read_text().strip()


def _metadata(names: set[str]) -> str:
    return next(name for name in names if name.endswith(".dist-info/METADATA"))


def _sources() -> Iterator[Path]:
    """Yield the files of the package that are no leavings of Python."""
    for path in (ROOT / "lpot_lightning").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment that has the wheel, and all else of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    asked = ["--python", str(python), "install", *ALONE, str(wheel)]
    subprocess.run([*PIP, *asked], check=True, capture_output=True, timeout=300, env=_bare())
    (place,) = folder.glob("lib/python*/site-packages")
    # An editable install is found by files that are read in the first folder of packages only.
    (place / "others.pth").write_text(sysconfig.get_path("purelib"))
    return python


def _bare() -> dict[str, str]:
    """Return the variables of this process but for those that lead to other packages."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: one for name, one in os.environ.items() if name not in ours}


class Running:
    """Runs programs in the fresh environment, in the current folder."""

    def __init__(self, python: Path) -> None:
        self._python = python

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._done([str(self._python), *arguments], check)

    def line(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line of a shell."""
        program, *arguments = shlex.split(line)
        return self._done([str(self._python.parent / program), *arguments], check=True)

    def _done(self, asked: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=600, env=_bare())
        assert done.returncode == 0 or not check, done.stderr
        return done


@pytest.mark.soak
def test_it_is_the_wheel_that_is_imported(fresh: Path) -> None:
    found = Path(Running(fresh)("-c", "import lpot_lightning as it; print(it.__file__)").stdout)
    assert found.is_relative_to(fresh.parents[1])
    assert not found.is_relative_to(Path(lpot_lightning.__file__).parent)
    folder = Running(fresh).line("lpot-lightning skill --path").stdout.strip()
    assert Path(folder, "SKILL.md").is_file()


@pytest.mark.soak
@pytest.mark.parametrize("name", STRANGERS)
def test_with_it_alone_a_module_that_nobody_knows_is_quantized(name, fresh, tmp_path) -> None:
    run, stranger = Running(fresh), STRANGERS[name]
    found = quantized(stranger, tmp_path, run)
    assert found["result"]["status"] in ("met", "not_met")
    assert restored(run) == [found["result"]["accuracy"]] * 2
    assert "checked in" in exported(stranger, tmp_path, run)
    run("train_for_int8.py")
    assert shown(run)["result"]["monitor"] == stranger.monitor


@pytest.mark.soak
def test_the_lines_of_the_page_run_as_they_stand(fresh: Path, tmp_path: Path) -> None:
    run = Running(fresh)
    quantized(STRANGERS["masks"], tmp_path, run)
    conf = json.loads(run("-c", "import json, facts; print(json.dumps(facts.CONF))").stdout)
    Path("int8.yaml").write_text(yaml.safe_dump(conf))
    for line in commands():
        run.line(line)
    assert Path("model.onnx").is_file()
