"""Files of torch."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from file_scenes import Scaled, exported, scripted
from torch import nn
from torch.utils import _pytree as pytree

from lpot_lightning.deploy.running.torch_runtime import TorchRuntime
from lpot_lightning.errors import ArtifactError, ExportError

X, SCALE = torch.arange(20.0).view(5, 4), torch.tensor([1.0, 2.0, 3.0])


def test_a_program_by_flat_tensors(tmp_path):
    opened = TorchRuntime(exported(tmp_path / "model.pt2"), "pt2")
    wanted = Scaled().eval()(X, SCALE)
    found = opened(X, SCALE)
    assert opened.inputs == ("x", "scale")
    assert [torch.equal(*pair) for pair in zip(found, wanted.values(), strict=True)] == [True] * 2
    assert not any(one.requires_grad for one in found)
    assert (opened.int8_ops(), opened.int8_kinds()) == (0, {})


def test_shapes_that_a_program_does_not_take(tmp_path):
    opened = TorchRuntime(exported(tmp_path / "model.pt2"), "pt2")
    with pytest.raises(ExportError, match=r"model.pt2`: `x` is \[5, 3\]; allowed: \[\w+, 4\]$"):
        opened(X[:, :3], SCALE)


def test_a_script_by_flat_tensors(tmp_path):
    layer = nn.Linear(4, 3)
    opened = TorchRuntime(scripted(tmp_path / "model.ts", layer, X), "torchscript", threads=1)
    assert torch.equal(opened(X)[0], layer(X))
    assert len(opened.inputs) == 1
    assert opened.int8_ops() == 0


def test_what_a_script_says_is_told_in_one_sentence(tmp_path):
    path = scripted(tmp_path / "model.ts", nn.Linear(4, 3), X)
    with pytest.raises(ExportError) as caught:
        TorchRuntime(path, "torchscript")(X[:, :3])
    assert str(caught.value).startswith(f"`{path}` fails in torch 2.")
    assert "with [5, 3] (RuntimeError: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_threads_are_those_of_the_call_alone(tmp_path):
    seen = []

    class Counting(nn.Module):
        def forward(self, x):
            return x

    opened = TorchRuntime(scripted(tmp_path / "model.ts", Counting(), X), "torchscript", threads=3)
    opened._flat = lambda *_: seen.append(torch.get_num_threads())
    before = torch.get_num_threads()
    opened(X)
    assert (seen, torch.get_num_threads()) == ([3], before)


class Loader:
    """What loads a file that was compiled for two tensors."""

    def __init__(self, model):
        self.loader, self._model = self, model

    def get_call_spec(self):
        return [pytree.treespec_dumps(pytree.tree_structure(((X,), {"scale": SCALE})))]

    def run(self, flat):
        return list(self._model(*flat).values())


def test_what_is_compiled_is_called_by_flat_tensors(tmp_path, monkeypatch):
    path = exported(tmp_path / "model.aoti.pt2")
    model = Scaled().eval()
    monkeypatch.setattr("torch._inductor.aoti_load_package", lambda path: Loader(model))
    opened = TorchRuntime(path, "aoti")
    assert opened.inputs == ("input", "input_1")
    assert torch.equal(opened(X, SCALE)[0], model(X, SCALE)["scores"])
    assert (opened.int8_ops(), opened.int8_kinds()) == (None, {})
    with pytest.raises(
        ExportError, match=r"1 tensors \(\[5, 4\]\); allowed: 2, `input`, `input_1`"
    ):
        opened(X)


def test_what_is_compiled_and_grows_when_it_is_unpacked_is_not_given_to_torch(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("torch._inductor.aoti_load_package", pytest.fail)
    with zipfile.ZipFile(tmp_path / "model.aoti.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data/aotinductor/model/x.so", bytes(1 << 20))
    with pytest.raises(ArtifactError, match=r"x\.so` is compressed, which `torch.save` never does"):
        TorchRuntime(tmp_path / "model.aoti.pt2", "aoti")


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
def test_what_torch_compiles(tmp_path):
    program = torch.export.load(exported(tmp_path / "model.pt2"))
    path = str(tmp_path / "model.aoti.pt2")
    torch._inductor.aoti_compile_and_package(program, package_path=path)
    found = TorchRuntime(Path(path), "aoti")(X[:2], SCALE)
    torch.testing.assert_close(list(found), list(Scaled().eval()(X[:2], SCALE).values()))


def test_a_file_of_another_form(tmp_path):
    path = exported(tmp_path / "model.pt2")
    with pytest.raises(ArtifactError, match="model.ts` cannot be opened by torch 2"):
        TorchRuntime(path.rename(tmp_path / "model.ts"), "torchscript")
