"""The same run from one YAML, and quantizing and timing what was trained.

python examples/digits/main.py fit --config examples/digits/fit.yaml
python examples/digits/main.py quantize --config examples/digits/run.yaml --ckpt_path some.ckpt
python examples/digits/main.py benchmark --config examples/digits/run.yaml --ckpt_path some.ckpt
"""

from digits import DigitsData, LitDigits

from lpot_lightning import LPOTCLI

if __name__ == "__main__":
    LPOTCLI(LitDigits, DigitsData, save_config_callback=None)
