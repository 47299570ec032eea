"""The same from two YAMLs: train in fp32, then go on with the rounding of int8.

python examples/qat/main.py fit --config examples/qat/fp32.yaml
python examples/qat/main.py fit --config examples/qat/fit.yaml
"""

from automaton import DigitsData, LitAutomaton
from lightning.pytorch.cli import LightningCLI

if __name__ == "__main__":
    LightningCLI(LitAutomaton, DigitsData, save_config_callback=None)
