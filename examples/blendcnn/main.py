"""Train and quantize in one go, from one YAML.

python examples/blendcnn/make_mrpc.py MRPC/
python examples/blendcnn/main.py fit --config examples/blendcnn/fit.yaml
"""

import warnings

from blendcnn import LitBlendCNN
from mrpc import MRPCData

from lpot_lightning import LPOTCLI

if __name__ == "__main__":
    # torch rescales where the parts of an int8 `cat` differ, and says so once
    warnings.filterwarnings("ignore", message=".*inputs of this cat operator")
    LPOTCLI(LitBlendCNN, MRPCData, save_config_callback=None)
