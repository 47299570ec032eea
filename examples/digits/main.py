"""The same run from one YAML.

python examples/digits/main.py fit --config examples/digits/fit.yaml
"""

from digits import DigitsData, LitDigits
from lightning.pytorch.cli import LightningCLI

if __name__ == "__main__":
    LightningCLI(LitDigits, DigitsData, save_config_callback=None)
