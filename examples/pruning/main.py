"""The same from one LightningCLI YAML.

python examples/pruning/main.py fit --config examples/pruning/fit.yaml
"""

import sys
from pathlib import Path

from lpot_lightning import LPOTCLI

sys.path.append(str(Path(__file__).parents[1] / "digits"))
from digits import DigitsData, LitDigits  # noqa: E402

if __name__ == "__main__":
    LPOTCLI(LitDigits, DigitsData, save_config_callback=None)
