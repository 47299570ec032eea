"""Reports of real runs: their numbers are those of the files, and a real browser shows them."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from qat_scenes import ConvLit, qat, train_images, trained, val_images
from qat_scenes import checkpoints as qat_checkpoints
from report_scenes import CHROMIUM, HOSTILE, Opened, facts, large, tuning
from small_run import NO_REPAIR, Agreement, net, run
from sparse_scenes import checkpoints, pruned, pruning

from lpot_lightning.commands.main import main
from lpot_lightning.deploy.exported import Exported
from lpot_lightning.recipe import Rung
from lpot_lightning.report.facts import OpFacts
from lpot_lightning.report.page import page
from lpot_lightning.runs.tuning_result import read_result
from lpot_lightning.tuning.history import look_at

BASIC = {"name": "basic"}
"""A strategy that takes several trials, whatever the CPU can do."""
BY_ANOTHER = pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: `apt install chromium`")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> Path:
    """Return the workspace of a run in which an op had to fall back."""
    folder = tmp_path_factory.mktemp("tuned")
    run(net(fragile=True), folder=folder, quantization=NO_REPAIR)
    return folder


def sections(text: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', text)


def rows(text: str, section: str) -> list[list[str]]:
    """Return the cells of a section's first table: what they are sorted by, else their text."""
    (part,) = re.findall(rf'<section id="{section}".*?</section>', text, re.DOTALL)
    body = part.partition("<tbody>")[2].partition("</tbody>")[0]
    return [
        [_value(*one) for one in re.findall(r"<td([^>]*)>(.*?)</td>", row, re.DOTALL)]
        for row in re.findall(r"<tr.*?>(.*?)</tr>", body, re.DOTALL)
    ]


def column(text: str, section: str, name: str) -> list[str]:
    """Return the cells below a head of the first table of a section."""
    (part,) = re.findall(rf'<section id="{section}".*?</section>', text, re.DOTALL)
    heads = re.findall(r"<th .*?>(.*?)</th>", part.partition("</thead>")[0], re.DOTALL)
    place = [re.sub(r"<[^>]+>", "", one) for one in heads].index(name)
    return [row[place] for row in rows(text, section)]


def _value(attributes: str, inside: str) -> str:
    by = re.search(r'data-v="(.*?)"', attributes)
    return unescape(by[1] if by else re.sub(r"<[^>]+>", "", inside))


def report_in(workspace: Path) -> str:
    return (workspace / "report.html").read_text()


def test_numbers_are_those_of_the_history_and_of_the_result(tuned):
    text, result = report_in(tuned), read_result(tuned / "result.json")
    told = [float(one) for one in column(text, "trials", "accuracy")]
    assert told == [one.score.accuracy for one in look_at(tuned / "history.jsonl").trials]
    assert told == [one.score.accuracy for one in result.trials]
    damages = {one.op: one.damage for one in result.sensitivities}
    assert {row[0]: float(row[3]) for row in rows(text, "ops")} == damages
    became = {row[0]: row[1] for row in rows(text, "ops")}
    assert became == dict(result.rungs)
    assert set(became.values()) - {"int8"}  # fp32, or bf16 where the CPU has it


def test_a_run_that_goes_on_says_so_after_each_trial(tmp_path):
    told: list[tuple[bool, int]] = []

    def look(trial: Any) -> None:
        path = tmp_path / "report.html"
        text = path.read_text()
        told.append(("Going on" in text, len(rows(text, "trials")) if trial.number > 1 else 0))

    asked = {"quantization": NO_REPAIR, "strategy": BASIC, "on_trial": look}
    run(net(fragile=True), folder=tmp_path, **asked)
    assert len(told) > 2
    assert told == [(True, number) for number in range(len(told))]
    assert "Going on" not in report_in(tmp_path)


def test_a_run_that_fails_is_told_to_be_stopped(tmp_path):
    runner = Agreement(net(fragile=True))
    asked = iter((True, True, False))

    def spoil(right: float) -> float:
        if next(asked):
            return right
        raise KeyboardInterrupt

    runner._spoil = spoil
    with pytest.raises(KeyboardInterrupt):
        run(net(fragile=True), runner, folder=tmp_path, strategy=BASIC)
    text = report_in(tmp_path)
    assert "Stopped" in text
    assert len(rows(text, "trials")) == 2


def test_the_files_of_a_killed_run_make_a_report(tuned, tmp_path, capsys):
    for name in ("history.jsonl", "best_configure.yaml", "best_model_weights.pt"):
        (tmp_path / name).write_bytes((tuned / name).read_bytes())
    (tmp_path / "best_model_weights.previous.pt").write_bytes(b"before")
    torn = (tmp_path / "history.jsonl").read_bytes()[:-9]
    (tmp_path / "history.jsonl").write_bytes(torn)
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip().endswith("report.html")
    text = report_in(tmp_path)
    assert "Not ended" in text
    assert "The last line of the history is not written to its end" in text
    known = look_at(tmp_path / "history.jsonl")
    assert len(rows(text, "trials")) == len(known.trials)
    assert "best_model_weights.previous.pt" in [row[0] for row in rows(text, "files")]
    assert "random seed" in text


def test_the_command_says_what_the_run_has_said(tuned, tmp_path, capsys):
    out = tmp_path / "other.html"
    assert main(["report", str(tuned), "--output", str(out)]) == 0
    mine, theirs = report_in(tuned), out.read_text()
    assert sections(mine) == sections(theirs)
    for name in ("trials", "ops"):
        assert rows(mine, name) == rows(theirs, name)


def test_a_training_for_int8_shows_losses_and_what_was_frozen(tmp_path):
    callback = qat(tmp_path, monitor="val_acc")
    one, _ = trained(callback, max_epochs=4)
    log, text = callback.result.training, report_in(tmp_path)
    assert [epoch.epoch for epoch in log.epochs] == [0, 1, 2, 3]
    assert [epoch.batches for epoch in log.epochs] == [6] * 4
    assert log.epochs[-1].accuracy == float(one.callback_metrics["val_acc"])
    assert log.epochs[-1].loss < log.epochs[0].loss
    assert [(part.what, part.epoch) for part in log.frozen] == [
        ("statistics of BatchNorm", 2),
        ("ranges of activations", 3),
    ]
    assert "training" in sections(text)
    assert "The ranges of activations are frozen from epoch 3, step 18 on." in text
    assert read_result(tmp_path / "result.json").training == log


@BY_ANOTHER
def test_a_training_that_goes_on_keeps_what_was_noted(tmp_path):
    first, second = (qat(tmp_path / name, monitor="val_acc") for name in ("one", "two"))
    trained(first, None, qat_checkpoints(tmp_path / "saved"), max_epochs=2)
    trained(second, max_epochs=4, ckpt_path=tmp_path / "saved/last.ckpt")
    before, after = first.result.training.epochs, second.result.training.epochs
    assert [(one.epoch, one.batches) for one in after] == [(n, 6) for n in range(4)]
    assert after[:2] == before


@BY_ANOTHER
def test_a_pruning_that_goes_on_keeps_what_was_noted(tmp_path):
    kinds = [pruning(tmp_path / name, end_epoch=3, monitor="val_acc") for name in "abc"]
    pruned(kinds[0])
    pruned(kinds[1], None, checkpoints(tmp_path / "saved", save_top_k=-1, filename="{epoch}"))
    pruned(kinds[2], ckpt_path=tmp_path / "saved/epoch=1.ckpt")
    whole, resumed = (one.result.training.sparsity for one in (kinds[0], kinds[2]))
    assert [one.at for one in whole] == [1, 2, 3]
    assert resumed == whole


class Looking(Callback):
    """Takes the page at the start of each epoch, and ends the fit with ``error`` in the third."""

    def __init__(self, workspace: Path, error: BaseException | None = None) -> None:
        self.path, self.error, self.pages = workspace / "report.html", error, []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int):
        if batch_idx == 0:
            self.pages.append(self.path.read_text())
        if self.error is not None and len(self.pages) == 3:
            raise self.error


def test_a_pruning_that_goes_on_says_so_in_each_epoch(tmp_path):
    looking = Looking(tmp_path)
    pruned(pruning(tmp_path, monitor="val_acc"), None, looking)
    told = [re.search(r"([\d.]+)% of the weights that were to be", one)[1] for one in looking.pages]
    assert all("Going on" in one and "is judged yet" in one for one in looking.pages)
    assert told[:3] == sorted(set(told[:3]), key=float)
    assert "val_acc" in looking.pages[-1]
    assert "Going on" not in report_in(tmp_path)


@pytest.mark.parametrize(
    ("error", "ended", "word", "said"),
    [
        (OSError("no disk"), OSError, "Failed", "The run ended in an error: OSError: no disk"),
        (KeyboardInterrupt(), SystemExit, "Stopped", "Fit again with a checkpoint"),
    ],
    ids=["error", "Ctrl-C"],
)
def test_a_pruning_that_does_not_come_to_its_end_says_why(tmp_path, error, ended, word, said):
    with pytest.raises(ended):
        pruned(pruning(tmp_path, monitor="val_acc"), None, Looking(tmp_path, error))
    text = report_in(tmp_path)
    assert f">{word}<" in text
    assert said in text
    assert "last finished trial" not in text


def test_the_page_of_an_earlier_run_stays_until_a_pruning_has_its_result(tmp_path):
    pruned(pruning(tmp_path, monitor="val_acc"))
    before, looking = report_in(tmp_path), Looking(tmp_path, OSError("no disk"))
    with pytest.raises(OSError, match="no disk"):
        pruned(pruning(tmp_path, monitor="val_acc"), None, looking)
    assert report_in(tmp_path) == before


def test_a_pruning_shows_how_each_layer_got_sparse_and_what_was_cut(tmp_path):
    callback = pruning(tmp_path, {"pattern": "channel"}, monitor="val_acc", end_epoch=3)
    pruned(callback, ConvLit(), data=(train_images(), val_images()))
    result, text = callback.result, report_in(tmp_path)
    assert "pruning" in sections(text)
    told = {row[0]: float(row[4]) for row in rows(text, "pruning")}
    assert told == {one.name: one.sparsity for one in result.layers}
    assert [one.at for one in result.training.sparsity] == [1, 2, 3]
    assert result.training.sparsity[-1].layers == told
    before, after = result.cut["net.0.weight"]
    assert (before[0], after[0]) == (8, result.model.net[0].weight.shape[0])
    assert "What was cut" in text
    assert json.loads((tmp_path / "pruning_result.json").read_text())["cut"]


def test_a_quantization_of_a_pruned_model_tells_of_both(tmp_path):
    callback, ptq = pruning(tmp_path, monitor="val_acc"), _quantizing(tmp_path)
    pruned(callback, None, ptq)
    text = report_in(tmp_path)
    assert {"trials", "ops", "pruning"} <= set(sections(text))
    assert callback.result.report() == tmp_path / "report.html"
    assert report_in(tmp_path) == text
    told = {"form": "onnx", "target": "onnxruntime", "bytes": 7, "int8_ops": 0}
    one = Exported(path=tmp_path / "pruned.onnx", inputs={}, outputs=(), **told)
    callback.result.note_exports([one])
    assert {"trials", "ops", "pruning"} <= set(sections(report_in(tmp_path)))
    assert main(["report", str(tmp_path)]) == 0
    assert "pruned.onnx" in report_in(tmp_path)


def _quantizing(workspace: Path) -> Any:
    from lit_scenes import conf

    from lpot_lightning import QuantizationCallback

    asked = {"calibration": {"sampling_size": 64}}
    return QuantizationCallback(conf(workspace, quantization=asked), monitor="val_acc")


@browser
def test_a_real_browser_shows_it_and_has_nothing_to_complain_of(tuned, tmp_path):
    shown = Opened(tuned / "report.html", tmp_path, "--dump-dom")
    assert shown.said == []
    result = read_result(tuned / "result.json")
    trials = [float(one) for one in column(shown.dom, "trials", "accuracy")]
    assert trials == [one.score.accuracy for one in result.trials]
    assert "<button" in shown.dom  # heads of tables, by the script
    assert 'aria-label="trial 1: ' in shown.dom


@browser
def test_no_name_runs_in_a_real_browser(tmp_path):
    ops = tuple(OpFacts(name=one, rung=Rung.STATIC, why=one, damage=1.0) for one in HOSTILE)
    reasons = {f"{one} x": one for one in HOSTILE}
    found = facts(tuning(ops=ops, monitor=HOSTILE[2], excluded=reasons), title=HOSTILE[2])
    path = tmp_path / "hostile.html"
    path.write_bytes(page(found))
    shown = Opened(path, tmp_path, "--dump-dom")
    assert shown.said == []
    assert "<title>run</title>" not in shown.dom
    assert len(rows(shown.dom, "ops")) == len(HOSTILE)


@browser
def test_what_is_smuggled_in_is_stopped_by_the_policy(tmp_path):
    text = page(facts()).decode()
    path = tmp_path / "smuggled.html"
    path.write_text(text.replace("<main>", "<main><script>document.title='run'</script>"))
    shown = Opened(path, tmp_path, "--dump-dom")
    assert "<title>run</title>" not in shown.dom
    assert any("Content Security Policy" in line for line in shown.said)


@browser
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(width, tmp_path):
    path, outer = tmp_path / "large.html", tmp_path / "outer.html"
    path.write_bytes(page(large(ops=60, trials=20)))
    outer.write_text(
        f"<iframe src='large.html' style='border:0;width:{width}px;height:900px'></iframe>"
        "<script>onload=()=>{const d=document.querySelector('iframe').contentDocument;"
        "document.title=d.documentElement.scrollWidth}</script>"
    )
    shown = Opened(outer, tmp_path, "--dump-dom", "--allow-file-access-from-files")
    assert f"<title>{width}</title>" in shown.dom


@browser
def test_heads_sort_and_marks_tell_what_they_are(tmp_path):
    (tmp_path / "inner.html").write_bytes(page(facts()))
    (tmp_path / "outer.html").write_text(
        "<iframe src='inner.html' width=1280 height=900></iframe><script>onload=()=>{"
        "const d=document.querySelector('iframe').contentDocument;"
        "const first=()=>d.querySelector('.ops tbody code').textContent;"
        "const names=[first()], head=d.querySelector('.ops th button');"
        "for(let n=0;n<2;n++){head.click();names.push(first())}"
        "const mark=d.querySelector('.tip');"
        "mark.dispatchEvent(new PointerEvent('pointerover',{bubbles:true}));"
        "const tip=d.querySelector('#tip');"
        "document.title=[...names,head.parentNode.ariaSort,tip.hidden,tip.textContent].join('|')"
        "}</script>"
    )
    shown = Opened(
        tmp_path / "outer.html", tmp_path, "--dump-dom", "--allow-file-access-from-files"
    )
    (told,) = re.findall(r"<title>(.*?)</title>", shown.dom.partition("<iframe")[0])
    assert told.split("|") == [
        *("net.head", "net.conv", "net.head", "descending"),
        *("false", "trial 2 is taken"),
    ]
