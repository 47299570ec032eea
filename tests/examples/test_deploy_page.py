"""The programs of `docs/deploy.md`, each in a process of its own."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import threading
from http.server import HTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import torch
from deploy_scenes import answer, exported, int8_of, origin
from int8_scenes import Batch, seeded
from torch import nn

PAGE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()


def program(name):
    """Return the program of the page that begins with its name."""
    (found,) = re.findall(rf"```python\n(# {name}: .*?)```", PAGE, re.DOTALL)
    return found


def digits():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    return int8_of(seeded(lambda: net), Batch(pictures()), Batch(pictures(1)))


def pictures(seed=0):
    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_a_service_without_torch(tmp_path, monkeypatch):
    model = digits()
    exported(model, tmp_path / "model.onnx", origin(pictures()), check=False)
    monkeypatch.chdir(tmp_path)
    code = program("service.py")
    assert "torch" not in code
    (tmp_path / "scores_service.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    service = importlib.import_module("scores_service")
    with HTTPServer(("127.0.0.1", 0), service.Scores) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        body = json.dumps(pictures(7).tolist()).encode()
        with urlopen(Request(f"http://127.0.0.1:{server.server_port}", body)) as response:
            found = json.loads(response.read())
        server.shutdown()
    assert found == answer(model, pictures(7))[0].argmax(1).tolist()


@pytest.mark.parametrize("name", ["serve_pt2.py"])
def test_torch_alone(tmp_path, name):
    model = digits()
    exported(model, tmp_path / "model.pt2", origin(pictures()), check=False)
    code = program(name).replace("torch.rand(4, 1, 8, 8)", 'torch.load("images.pt")')
    torch.save(pictures(7), tmp_path / "images.pt")
    code += (
        'import sys\nassert "lpot_lightning" not in sys.modules\ntorch.save(scores, "scores.pt")'
    )
    run = [sys.executable, "-I", "-W", "ignore", "-c", code]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "scores.pt", weights_only=True)
    assert torch.equal(found, answer(model, pictures(7))[0])
