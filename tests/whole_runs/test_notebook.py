"""A fit in the cells of a real notebook, and what is shown there."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("nbclient", reason="needs nbclient and ipykernel, of the extra `dev`")
pytest.importorskip("ipykernel", reason="needs nbclient and ipykernel, of the extra `dev`")

SCENES = Path(__file__).parents[1] / "scenes"
CELLS = (
    f"import sys, warnings; sys.path.insert(0, {str(SCENES)!r}); warnings.simplefilter('ignore')",
    """
from lit_scenes import Lit, conf, train_loader, trainer, val_loader
from lpot_lightning import QuantizationCallback
quantization = QuantizationCallback(conf("workspace"))
trainer(quantization, enable_progress_bar=True).fit(Lit(), train_loader(), val_loader())
""",
    "quantization.result",
    "print(quantization.result)",
)


@pytest.mark.filterwarnings("ignore")  # of the packages that start a kernel
def test_a_result_is_a_table_in_a_notebook():
    import nbformat
    from nbclient import NotebookClient

    cells = [nbformat.v4.new_code_cell(one) for one in CELLS]
    book = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(book, timeout=300, kernel_name="python3").execute()
    _, fit, shown, printed = book.cells
    (table,) = [one.data for one in shown.outputs if "data" in one]
    assert "<table" in table["text/html"]
    assert table["text/plain"].startswith("<TuningResult: int8 val_acc 1.0000")
    told = {one["name"]: one["text"] for one in fit.outputs if one["output_type"] == "stream"}
    assert "drop / allowed" in told["stdout"]
    assert "drop / allowed" not in told["stderr"]
    assert printed.outputs[0]["text"].count("\n") == 3
