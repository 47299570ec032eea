"""``python -m lpot_lightning.commands``: the command where no script is installed."""

from __future__ import annotations

import sys

from lpot_lightning.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
