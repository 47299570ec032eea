"""A picture of a real report: a net with planted trouble, tuned, and shown by Chromium.

make pictures
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "benchmarks"))

from classifier import IMAGES, digits, quiet_trainer, say_nothing
from lightning.pytorch import seed_everything
from planted import CONFS, LitNet, merged

from lpot_lightning import quantize

WIDTH, HEIGHT = 1280, 1000


def chromium() -> str:
    """Return the browser.

    Raises:
        SystemExit: if there is none.
    """
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        sys.exit("`make pictures` needs Chromium, and there is none: `apt install chromium`")
    return found


def report(folder: Path) -> Path:
    """Tune the planted net, and return the page about it."""
    say_nothing()
    seed_everything(1, verbose=False)
    model = LitNet()
    data = digits(IMAGES, 0, train=True), digits(IMAGES, 1, train=False)
    quiet_trainer(4).fit(model, data[0])
    model.plant()
    conf = {
        "model": {"name": "planted", "framework": "pytorch_fx"},
        "tuning": {
            "accuracy_criterion": {"relative": 0.01},
            "workspace": {"path": str(folder / "lpot_workspace" / "planted")},
        },
    }
    more = merged(conf, CONFS["auto without repair"])  # which takes more trials
    return quantize(quiet_trainer(), model, *data, conf=more).report()


def photograph(browser: str, page: Path, picture: Path, folder: Path) -> None:
    """Write the first screen of a page, light, as a PNG."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    options += ["--blink-settings=preferredColorScheme=1", f"--window-size={WIDTH},{HEIGHT}"]
    options += [f"--user-data-dir={folder / 'profile'}", f"--screenshot={picture}"]
    subprocess.run([browser, *options, f"file://{page}"], check=True, capture_output=True)


def main() -> None:
    """Make the picture."""
    browser = chromium()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        photograph(browser, report(folder), HERE / "report.png", folder)


if __name__ == "__main__":
    main()
