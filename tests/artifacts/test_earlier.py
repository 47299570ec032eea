"""What another run has left in a workspace is still there, whole."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from plain_scenes import corners, quantization
from plain_scenes import net as conv_net
from small_run import net, run

from lpot_lightning import load
from lpot_lightning.artifacts.earlier import INT8, forget_besides, keep_earlier
from lpot_lightning.artifacts.storage import to_bytes
from lpot_lightning.errors import ArtifactError


def fill(folder: Path, text: str, names=INT8) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).unlink(missing_ok=True)  # as one who writes another file does
        (folder / name).write_text(text)


def texts(folder: Path) -> set[str]:
    return {(folder / name).read_text() for name in INT8 if (folder / name).exists()}


def test_each_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    for number, text in enumerate(("one", "two", "three"), 1):
        fill(tmp_path, text)
        assert keep_earlier(tmp_path) == tmp_path / "earlier" / str(number)
    assert [texts(tmp_path / "earlier" / str(n)) for n in (1, 2, 3)] == [
        {"one"},
        {"two"},
        {"three"},
    ]
    assert texts(tmp_path) == {"three"}


def test_what_is_kept_already_is_not_kept_again(tmp_path: Path) -> None:
    fill(tmp_path, "one")
    assert keep_earlier(tmp_path) == keep_earlier(tmp_path) == tmp_path / "earlier" / "1"
    fill(tmp_path, "two", ["history.jsonl"])  # of a run that was killed before it had a model
    kept = keep_earlier(tmp_path)
    assert [one.name for one in kept.iterdir()] == ["history.jsonl"]


def test_what_two_runs_wrote_alike_is_of_both(tmp_path: Path) -> None:
    fill(tmp_path, "one")
    keep_earlier(tmp_path)
    fill(tmp_path, "two", INT8[:-1])
    fill(tmp_path, "one", INT8[-1:])  # the `deploy.yaml` of another run of one YAML
    kept = keep_earlier(tmp_path)
    assert {one.name for one in kept.iterdir()} == set(INT8)


def test_a_history_that_goes_on_is_another_file_than_the_one_that_is_kept(tmp_path: Path) -> None:
    fill(tmp_path, "one")
    kept = keep_earlier(tmp_path)
    with (tmp_path / "history.jsonl").open("a") as history:
        history.write(" more")
    assert texts(kept) == {"one"}


def test_without_a_model_or_a_history_there_is_nothing_to_keep(tmp_path: Path) -> None:
    fill(tmp_path, "of LPOT", ["deploy.yaml"])
    assert keep_earlier(tmp_path) is None
    assert not (tmp_path / "earlier").exists()


def test_a_file_system_without_links_has_copies(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    fill(tmp_path, "one")
    assert texts(keep_earlier(tmp_path)) == {"one"}
    assert keep_earlier(tmp_path) == tmp_path / "earlier" / "1"


def test_what_cannot_be_kept_is_told_and_nothing_is_half_there(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    fill(tmp_path, "one")
    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(ArtifactError, match="no space left; nothing of them was changed"):
        keep_earlier(tmp_path)
    monkeypatch.undo()
    assert texts(tmp_path) == {"one"}
    assert keep_earlier(tmp_path) == tmp_path / "earlier" / "1"
    assert [one.name for one in (tmp_path / "earlier").iterdir()] == ["1"]


def test_only_what_is_kept_is_forgotten(tmp_path: Path) -> None:
    fill(tmp_path, "one")
    forget_besides(tmp_path)
    assert texts(tmp_path) == {"one"}
    keep_earlier(tmp_path)
    fill(tmp_path, "two", ["result.json"])
    forget_besides(tmp_path)
    assert (tmp_path / "result.json").read_text() == "two"
    assert not (tmp_path / "deploy.yaml").exists()


def test_the_model_of_another_training_still_loads(workspace: Path) -> None:
    one, two = conv_net(), conv_net()
    with torch.no_grad():
        next(two.parameters()).mul_(1.5)
    images, _ = corners(8, 0).tensors
    folders = {workspace / "earlier" / "1": one, workspace: two}
    answers = [quantization(workspace)(model)(images) for model in folders.values()]
    for (folder, model), answer in zip(folders.items(), answers, strict=True):
        again = load(folder / "best_configure.yaml", folder / "best_model_weights.pt", model)
        assert torch.equal(again(images), answer)


def test_what_a_kill_between_two_files_has_left_still_loads(workspace: Path, monkeypatch) -> None:
    one, two = conv_net(), conv_net()
    with torch.no_grad():
        next(two.parameters()).mul_(1.5)
    images, _ = corners(8, 0).tensors
    answer = quantization(workspace)(one)(images)
    weights = workspace / "best_model_weights.pt"
    weights.rename(workspace / "best_model_weights.previous.pt")
    weights.write_bytes(to_bytes({"a": torch.ones(1)}))  # a better model, half of it on disk
    quantization(workspace)(two)
    kept = workspace / "earlier" / "1"
    again = load(kept / "best_configure.yaml", kept / "best_model_weights.pt", one)
    assert torch.equal(again(images), answer)


def test_the_copy_of_a_history_is_on_disk_before_the_history_goes(tmp_path, monkeypatch) -> None:
    run(net(), folder=tmp_path)
    done: list[str] = []
    sync = lambda path: done.append(path.name)  # noqa: E731
    monkeypatch.setattr("lpot_lightning.artifacts.earlier.sync_file", sync)
    monkeypatch.setattr(
        "lpot_lightning.runs.run_history.remove_file",
        lambda path: (done.append("removed"), path.unlink()),
    )
    run(net(), folder=tmp_path, random_seed=3)
    assert done == ["history.jsonl", "removed"]


def test_it_is_told_with_what_differs(tmp_path: Path) -> None:
    said: list[str] = []
    run(net(), folder=tmp_path)
    run(net(), folder=tmp_path, said=said, random_seed=3)
    kept = tmp_path / "earlier" / "1"
    assert f"what another run has left is kept as `{kept}`: different are config" in said
    (tmp_path / "history.jsonl").unlink()
    run(net(), folder=tmp_path, said=said)
    assert f"the model of another run is kept as `{kept}`: it has no history here" in said


def test_what_goes_on_moves_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        run(net(), folder=tmp_path)
    assert not (tmp_path / "earlier").exists()
