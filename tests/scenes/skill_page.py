"""The programs of `SKILL.md`, laid out in a folder beside a module that they do not know."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lpot_lightning.commands.skill import skill

HERE = Path(__file__).parent / "strangers"
RECURRENT = '"gru": {"weight": {"dtype": ["int8"]}, "activation": {"dtype": ["fp32"]}}'
Run = Callable[..., subprocess.CompletedProcess[str]]


def programs() -> dict[str, str]:
    """Return each Python block of the page by the name in its first line."""
    blocks = re.findall(r"```python\n(.*?)```", skill(), re.DOTALL)
    return {re.match(r"# (\w+\.py)", one)[1]: one for one in blocks}


def commands() -> list[str]:
    """Return the lines of the blocks that are for a shell."""
    blocks = re.findall(r"```sh\n(.*?)```", skill(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@dataclass(frozen=True)
class Stranger:
    """A module that the page has not seen, and what is to be found out about it."""

    name: str
    monitor: str
    higher_is_better: bool
    example: str = "None"
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def lay_out(self, folder: Path) -> None:
        """Write the project, and the programs with the facts filled in."""
        shutil.copy(HERE / f"{self.name}.py", folder / "my_project.py")
        for name, text in programs().items():
            (folder / name).write_text(text)
        self.find_facts(folder, self.example)

    def find_facts(self, folder: Path, example: str = "None", more: str = "") -> None:
        """Fill the facts in."""
        facts = {
            'MONITOR = "val/f1"': f'MONITOR = "{self.monitor}"',
            "HIGHER_IS_BETTER = True": f"HIGHER_IS_BETTER = {self.higher_is_better}",
            "EXAMPLE = None": f"EXAMPLE = {example}",
        }
        text = programs()["facts.py"]
        for line, filled in facts.items():
            assert f"{line}\n" in text
            text = text.replace(f"{line}\n", f"{filled}\n")
        (folder / "facts.py").write_text(text + more)


STRANGERS = {
    "gated": Stranger("gated", "val/f1", True, inputs={"features": (2, 12)}),
    "words": Stranger("words", "loss/val", False, inputs={"words": (2, 12)}),
    "masks": Stranger("masks", "iou", True, inputs={"image": (2, 3, 16, 16)}),
}


def quantized(stranger: Stranger, folder: Path, run: Run) -> dict:
    """Train and quantize as the page says, and return what `show` tells of it."""
    stranger.lay_out(folder)
    path, status = run("train_it.py").stdout.splitlines()[-1].split()
    assert status in ("met", "not_met")
    shutil.copy(path, folder / "trained.ckpt")
    run("quantize_it.py")
    return shown(run)


def shown(run: Run) -> dict:
    return json.loads(run("-m", "lpot_lightning.commands", "show", "int8", "--json").stdout)


def restored(run: Run) -> list[float]:
    """Return the accuracies of the model that was restored in two ways."""
    numbers = re.findall(r"^([\d.e-]+)$", run("restore_it.py").stdout, re.MULTILINE)
    return [float(one) for one in numbers]


def exported(stranger: Stranger, folder: Path, run: Run) -> str:
    """Export as the page says, with what it says of models that are refused."""
    if stranger.name == "gated":
        assert "cannot be written as one graph" in run("export_it.py", check=False).stderr
        _without_a_branch(folder / "my_project.py")
        stranger.find_facts(folder, 'next(iter(val_loader()))["features"]')
    if stranger.name == "words":
        assert RECURRENT in skill()
        op_wise = f'\nCONF["quantization"] = {{"op_wise": {{{RECURRENT}}}}}\n'
        stranger.find_facts(folder, more=op_wise)
        run("quantize_it.py")
    return run("export_it.py").stdout


def _without_a_branch(path: Path) -> None:
    """Write the branch with `torch.where`; the layers stay as they are."""
    text, count = re.subn(
        r"if (x\..*) < 3.5:\n\s+return self.calm\(x\)\n\s+return self.wild\(x\)",
        r"return torch.where(\1 < 3.5, self.calm(x), self.wild(x))",
        path.read_text(),
    )
    assert count == 1
    path.write_text(text)
