"""Good files of data sets, checkpoints and exports, as small as can be."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import torch
from make import trainer
from museum_models import Exhibit, shown
from PIL import Image

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "good", "bad"]


def idx(*sizes: int, content: bytes | None = None) -> bytes:
    """Return an idx file of bytes of these sizes."""
    count = 1
    for size in sizes:
        count *= size
    head = struct.pack(f">{1 + len(sizes)}I", 0x0800 + len(sizes), *sizes)
    return head + (bytes(count) if content is None else content)


def data(root: Path) -> None:
    """Write two samples of each data set."""
    for name in ("one", "two"):
        (root / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name / "1.png")
    (root / "t10k-images-idx3-ubyte").write_bytes(idx(2, 28, 28))
    (root / "t10k-labels-idx1-ubyte").write_bytes(idx(2))
    (root / "test_batch.bin").write_bytes(bytes(2 * 3073))
    (root / "vocab.txt").write_text("\n".join(WORDS))
    (root / "dev.tsv").write_text("sentence\tlabel\na good b\t1\nbad c\t0\n")


def fit(root: Path) -> None:
    """Write a checkpoint of a plain fit, and a conf."""
    root.mkdir(parents=True)
    one, module = trainer(epochs=0), Exhibit()
    one.strategy.connect(module)
    one.save_checkpoint(root / "some.ckpt")
    text = "model:\n  name: exhibit\n  framework: pytorch_fx\ntuning:\n  random_seed: 9527\n"
    (root / "conf.yaml").write_text(text)


def exports(root: Path) -> None:
    """Write the model in each form that is not compiled."""
    root.mkdir(parents=True)
    model, x = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4)).eval(), shown()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model, x), root / "model.ts")
        program = torch.export.export(model, (x,))
        torch.export.save(program, root / "model.pt2")
    _onnx(root)


def _onnx(root: Path) -> None:
    import numpy as np
    import openvino
    from onnx import TensorProto, helper, numpy_helper, save

    held = [
        numpy_helper.from_array(np.ones((64, 4), np.float32), "weight"),
        numpy_helper.from_array(np.array([0, -1], np.int64), "flat"),
    ]
    nodes = [
        helper.make_node("Reshape", ["images", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weight"], ["scores"]),
    ]
    taken = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 8, 8])
    given = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph(nodes, "good", [taken], [given], held)
    opset = [helper.make_opsetid("", 21)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=10), root / "model.onnx")
    read = openvino.Core().read_model(root / "model.onnx")
    openvino.save_model(read, root / "model.xml", compress_to_fp16=False)
