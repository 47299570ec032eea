"""``python -m lpot_lightning.console``: the command line by the name that it had in 0.1."""

from __future__ import annotations

import sys

from lpot_lightning.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
