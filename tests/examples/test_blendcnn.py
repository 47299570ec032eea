"""The walk-through of BlendCNN on MRPC, as a user types it."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from warm_python import python

ROOT = Path(__file__).parents[2]
HERE = ROOT / "examples" / "blendcnn"
Example = Callable[[str], ModuleType]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    """Return a function that imports a module of the example."""
    monkeypatch.syspath_prepend(HERE)
    level = logging.getLogger("lightning.pytorch.utilities.rank_zero").level
    yield import_module
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(level)
    for name in ("classify", "blendcnn", "mrpc", "make_mrpc"):
        sys.modules.pop(name, None)


@pytest.fixture
def mrpc(example: Example) -> ModuleType:
    """Return the module that reads MRPC."""
    return example("mrpc")


def said_by(folder: Path, *command: str) -> str:
    first = Path(python()).parent  # as a venv that is active has its `python`
    env = {**os.environ, "PATH": f"{first}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}
    done = subprocess.run(
        list(command), cwd=folder, capture_output=True, text=True, timeout=300, env=env
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a corpus, a trained model and its int8 model."""
    folder = tmp_path_factory.mktemp("blendcnn")
    said_by(folder, "python", str(HERE / "make_mrpc.py"), "MRPC/")
    config = "config/blendcnn/mrpc/quick.json"
    said = said_by(folder, "python", str(HERE / "classify.py"), "--model_config", config)
    assert re.search(r"val_acc 0\.9\d+; the model is models/model_final\.pt", said), said
    flags = ("--input_model=./models/", "--dataset_location=./MRPC/", "--output_model=./int8/")
    said = said_by(folder, str(HERE / "run_tuning.sh"), *flags)
    assert re.search(r"status +met", said), said
    return folder


def test_the_files_have_the_names_of_the_document(home: Path) -> None:
    assert {file.name for file in (home / "MRPC").iterdir()} == {
        "dev_ids.tsv",
        "dev.tsv",
        "test.tsv",
        "train.tsv",
    }
    state = torch.load(home / "models" / "model_final.pt", weights_only=True)
    assert {"word.weight", "classifier.bias"} <= set(state)
    for folder in ("int8", "lpot_workspace/pytorch/blendcnn"):
        names = {file.name for file in (home / folder).iterdir()}
        assert {"best_configure.yaml", "best_model_weights.pt"} <= names


def test_accuracy_is_kept_and_the_files_shrink(home: Path) -> None:
    told = json.loads((home / "lpot_workspace/pytorch/blendcnn/result.json").read_text())
    assert told["baseline"] > 0.9
    assert told["accuracy"] >= 0.99 * told["baseline"]
    assert told["size_ratio"] > 2
    assert not told["fp32_ops"]


def test_the_benchmark_of_the_document(home: Path) -> None:
    run = ("--int8=true", "--mode=benchmark", "--batch_size=32", "--iter=20")
    said = said_by(home, str(HERE / "run_benchmark.sh"), *run)
    assert re.search(r"batch size +32 +32", said), said
    assert re.search(r"speed-up +(\d+\.\d+x|about as fast)", said), said


def test_the_benchmark_of_fp32_alone(
    home: Path,
    example: Example,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(home)
    given = ["--int8=False", "--mode=benchmark", "--batch_size=16", "--input_model=models"]
    example("classify").main([*given, "--warmup=1", "--iter=3"])
    assert re.search(r"Latency: .* ms\nThroughput: \d+\.\d samples/sec", capsys.readouterr().out)


def test_accuracy_of_the_files_in_another_folder(
    home: Path,
    example: Example,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(home)
    told = json.loads(Path("lpot_workspace/pytorch/blendcnn/result.json").read_text())
    example("classify").main(["--int8=true", "--mode=accuracy", "--output_model=int8"])
    assert capsys.readouterr().out == f"Accuracy: {told['accuracy']:.4f}\n"
    given = "--input_model=models/model_final.pt"
    example("classify").main(["--int8", "False", "--mode=accuracy", given])
    assert capsys.readouterr().out == f"Accuracy: {told['baseline']:.4f}\n"


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (["--tune"], "--input_model: there is no `models/model_final.pt`; train first"),
        ([], "`MRPC` has no train.tsv or msr_paraphrase_train.txt: give the folder of GLUE's"),
        (["--model_config=other.json"], "--model_config: there is no `other.json`, here or in"),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path,
    example: Example,
    monkeypatch: pytest.MonkeyPatch,
    given: list[str],
    match: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=re.escape(match)):
        example("classify").main(given)


def test_an_int8_model_that_is_nowhere_is_said(
    home: Path, example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    with pytest.raises(SystemExit, match="there is no int8 model in `nowhere`: run run_tuning.sh"):
        example("classify").main(["--int8=true", "--output_model=nowhere"])


def test_training_and_quantizing_from_one_yaml(home: Path) -> None:
    pytest.importorskip("jsonargparse")
    run = ["fit", "--config", str(HERE / "fit.yaml"), "--trainer.max_epochs", "1"]
    said = said_by(home, "python", str(HERE / "main.py"), *run)
    assert re.search(r"status +(met|not_met)", said), said
    assert (home / "lpot_workspace/pytorch/blendcnn_fit/best_quantized.ckpt").is_file()
    found = re.findall(r"val_acc +(0\.\d+) \(int8 in torch (0\.\d+)\)", said)
    assert len(found) == 2  # in ONNX Runtime, and in OpenVINO
    assert all(float(file) > float(int8) - 0.01 for file, int8 in found)


ROWS = (
    "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
    '1\t702876\t702977\tHe said " no , twice .\tHe twice said no .\r\n'
    '0\t2108705\t2108831\tÉva won .\tÉva lost , " said he .\r\n'
)


@pytest.mark.parametrize(
    ("split", "name"),
    [
        ("train", "train.tsv"),
        ("dev", "dev.tsv"),
        ("train", "msr_paraphrase_train.txt"),
        ("dev", "msr_paraphrase_test.txt"),
    ],
)
def test_files_as_glue_and_microsoft_give_them(
    tmp_path: Path, mrpc: ModuleType, split: str, name: str
) -> None:
    (tmp_path / name).write_bytes(ROWS.encode())
    assert mrpc.read_pairs(tmp_path, split) == [
        ('He said " no , twice .', "He twice said no .", 1),
        ("Éva won .", 'Éva lost , " said he .', 0),
    ]
    assert mrpc.read_pairs(tmp_path / name, split) == mrpc.read_pairs(tmp_path, split)


def test_other_columns_are_told_with_their_line(tmp_path: Path, mrpc: ModuleType) -> None:
    (tmp_path / "dev.tsv").write_text("label\ttext\n1\tno pair\n")
    with pytest.raises(SystemExit, match=r"dev\.tsv, line 2: .*expected the columns of MRPC"):
        mrpc.read_pairs(tmp_path, "dev")


def test_words_are_numbered_by_frequency_and_long_pairs_are_cut(mrpc: ModuleType) -> None:
    pairs = [("The cat sat .", "The cat , the cat .", 1)]
    vocabulary = mrpc.Vocabulary.of(pairs, 7)
    assert vocabulary.words == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cat", "the", "."]
    ids, segments, mask, labels = mrpc.tensors_of(pairs, vocabulary, 14).tensors
    assert ids.tolist() == [[2, 5, 4, 1, 6, 3, 5, 4, 1, 5, 4, 6, 3, 0]]
    assert segments.tolist() == [[0] * 6 + [1] * 7 + [0]]
    assert mask.tolist() == [[1] * 13 + [0]]
    assert labels.tolist() == [1]
    assert mrpc.tensors_of(pairs, vocabulary, 9).tensors[0].tolist() == [
        [2, 5, 4, 1, 3, 5, 4, 1, 3]
    ]


def test_a_vocabulary_comes_back_from_its_file(tmp_path: Path, mrpc: ModuleType) -> None:
    vocabulary = mrpc.Vocabulary.of([("a b", "a c", 0)], 100)
    vocabulary.write(tmp_path / "vocab.txt")
    assert mrpc.Vocabulary.read(tmp_path / "vocab.txt").words == vocabulary.words


def test_the_corpus_is_always_the_same_and_has_the_shares_of_mrpc(
    tmp_path: Path, example: Example, mrpc: ModuleType
) -> None:
    make_mrpc = example("make_mrpc")
    for name in ("one", "two"):
        make_mrpc.write(tmp_path / name, train=300, dev=50)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    pairs = mrpc.read_pairs(tmp_path / "one", "train")
    assert len(pairs) == 300
    assert 0.6 < sum(label for *_, label in pairs) / 300 < 0.74
    assert all(one != two for one, two, _ in pairs)


def test_the_readme_shows_the_commands_of_the_scripts() -> None:
    text = (HERE / "README.md").read_text()
    for line in (
        "python classify.py --model_config config/blendcnn/mrpc/train.json",
        "./run_tuning.sh --input_model=",
        "./run_benchmark.sh --int8=true --mode=benchmark --batch_size=32",
        "./run_benchmark.sh --int8=False --mode=benchmark --batch_size=32 --input_model=",
    ):
        assert line in text
