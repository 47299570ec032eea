"""The command line, by the name that scripts of 0.1 know."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["lpot_lightning.console", "lpot_lightning.commands"])
def test_a_yaml_is_checked(module, write):
    path = write("model: {name: net, framework: pytorch}\n")
    command = [sys.executable, "-m", module, "check", path]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.startswith("# valid; for QuantizationCallback, Quantization, Benchmark\n")
