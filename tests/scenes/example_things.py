"""What the examples of docstrings take for granted, by the room of the package."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml
from example_inside import ROOT
from example_judging import Judging, Lpot
from example_pruning import Pruning
from example_quantizing import Quantizing
from example_small import WHOLE, ExampleThings, Watched
from example_tuning import Tuning
from users_digits import DigitsData, halves, model
from users_things import Made, Things, trainer

from lpot_lightning import PruningCallback
from lpot_lightning.conf.reader import read_conf
from lpot_lightning.conf.schema import Conf
from lpot_lightning.deploy.calls import Signature
from lpot_lightning.deploy.origin import Call
from lpot_lightning.deploy.whole_graph import whole_graph
from lpot_lightning.judging.protocols import Monitor
from lpot_lightning.trainer.fit_validations import FitValidations
from lpot_lightning.trainer.session import Session


def things_of(made: Made, file: Path) -> Things:
    """Return what an example in a file of the package can name."""
    path = file.relative_to(ROOT.parent).with_suffix("")
    module = importlib.import_module(".".join(path.parts))
    kind = ROOMS.get(path.parts[1], ExampleThings)
    return kind(made, **vars(module))


class Confs(ExampleThings):
    """A conf with what has no effect, too."""

    def make_conf(self) -> Conf:
        asked = yaml.safe_load(WHOLE)
        asked["evaluation"]["accuracy"]["configs"] = {"num_of_instance": 1}
        return read_conf(asked)

    def make_metric(self) -> Any:
        return self.make_conf().evaluation.accuracy.metric


class Sentences(ExampleThings):
    """The files of BERT and of GLUE."""

    def write(self, name: str) -> None:
        super().write(name)
        if name == "models/bert":
            Path(name).mkdir(parents=True)
            Path(name, "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\ngood\nfilm")
        if name == "MRPC/dev.tsv":
            Path("MRPC").mkdir()
            Path(name).write_text("sentence\tlabel\nA good film\t1\n")


class Deploying(ExampleThings):
    """What is written to files."""

    def make_whole(self) -> Any:
        call = Call((halves(4, 2).tensors[0],))
        return whole_graph(
            self.made.result.model, "", lambda function: Signature.of("forward", function, call)
        )


class LightningInside(ExampleThings):
    """Parts of a fit."""

    def make_pruning(self) -> PruningCallback:
        self.write("pruning.yaml")
        return PruningCallback("pruning.yaml")


class Trainers(LightningInside):
    """A Trainer that validates."""

    def make_trainer(self) -> pl.Trainer:
        made = trainer(max_epochs=0, callbacks=[self.made.callback])
        made.fit(model(), datamodule=DigitsData())
        return made

    def make_validations(self) -> FitValidations:
        return FitValidations(lambda trainer: "val_acc")

    def make_monitor(self) -> Monitor:
        return Monitor("val_acc", True)

    def make_session(self) -> Session:
        self._bring_all("trainer")
        return Session(self.names["trainer"], model(), [])


ROOMS: dict[str, type[Things]] = {
    "callbacks": LightningInside,
    "conf": Confs,
    "data": Sentences,
    "deploy": Deploying,
    "judging": Judging,
    "lpot": Lpot,
    "module": Watched,
    "pruning": Pruning,
    "quantization": Quantizing,
    "recipe": Tuning,
    "runs": Watched,
    "trainer": Trainers,
    "tuning": Tuning,
}
