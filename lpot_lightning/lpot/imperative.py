"""What LPOT's imperative classes share: a conf, a metric of the user's, loaders of data sets."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from lpot_lightning.conf.reader import named_dataset, read_conf, the_one_conf
from lpot_lightning.data.block import loader_of
from lpot_lightning.data.loader import dataloader_of
from lpot_lightning.data.meter import Meter, meter_of
from lpot_lightning.errors import ConfError, did_you_mean, quoted
from lpot_lightning.machine.audible import audible
from lpot_lightning.machine.signals import told_when_stopped
from lpot_lightning.runs.entering import entered
from lpot_lightning.runs.workspace import Workspace

_LOG = logging.getLogger(__name__)
MADE = {"dataloader": "loader of a data set", "dataset": "data set of LPOT's"}


@dataclass(frozen=True)
class MetricWithName:
    """A metric, its name and its options in one object, as LPOT 1.5 and 1.6 had it.

    Args:
        metric_cls: see ``Parts.metric``.
        name: see there.
        options: see there.
    """

    metric_cls: Any
    name: str
    options: Mapping[str, Any]


class Parts:
    """Reads a conf, takes a metric and makes loaders, as ``Quantization`` does.

    What is set under a name that it does not have is an error, but in a subclass of the user's.

    ``_meter`` is the metric that was given, ``None`` before. ``_alike`` are names that LPOT 1.5
    and 1.6 had for attributes, and ``_gone`` what took the place of others.
    """

    _meter: Meter | None = None
    _ready = False
    _alike: ClassVar[Mapping[str, str]] = {}
    _gone: ClassVar[Mapping[str, str]] = {
        "postprocess": "change outputs and labels in a `Metric` of your own, or in an `eval_func`",
        "strategy": "name it in the YAML, `tuning.strategy.name`",
    }

    def __init__(
        self,
        conf: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        conf_fname: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    ) -> None:
        self.conf = read_conf(the_one_conf(conf, conf_fname))
        self.model: Any = None
        self._set_up()
        self._ready = True

    def _set_up(self) -> None:
        """Check the conf, and give the attributes of a class their first values."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Both are methods: an assignment would hide them, and nobody would read what was assigned.
        name = self._alike.get(name, name)
        if name == "metric" and isinstance(value, MetricWithName):
            self.metric(value.name, value.metric_cls, **value.options)
        elif name == "metric":  # is set so in LPOT 1.6
            self.metric("metric", value)
        elif name in ("dataloader", "dataset"):
            raise ConfError(
                f"`{name}` is a method that makes a {MADE[name]}; loaders are set by the names of"
                " what they are for, such as `calib_dataloader` or `b_dataloader`"
            )
        else:
            self._check_known(name)
            super().__setattr__(name, read_conf(value) if name == "conf" else value)

    def __getattr__(self, name: str) -> Any:
        """Return what is known by another name in LPOT 1.5 and 1.6."""
        if name in self._alike:
            return getattr(self, self._alike[name])
        raise AttributeError(f"`{type(self).__name__}` has no `{name}`{self._hint(name)}")

    def _check_known(self, name: str) -> None:
        own = type(self).__module__.startswith(f"{__name__.partition('.')[0]}.")
        if own and self._ready and not name.startswith("_") and not hasattr(self, name):
            raise ConfError(
                f"`{type(self).__name__}` has no `{name}`, and nobody would read it"
                f"{self._hint(name)}"
            )

    def _hint(self, name: str) -> str:
        if name in self._gone:
            return f": {self._gone[name]}"
        public = [one for one in vars(self) if not one.startswith("_")]
        near = did_you_mean(name, [*public, "metric", *self._alike])
        return f".{near}" if near else f"; it has {quoted(public)}, `metric`"

    @staticmethod
    def dataset(name: str, **options: Any) -> Any:
        """Return a data set of LPOT's, as ``dataset`` of a ``dataloader`` in the YAML.

        Args:
            name: such as ``"dummy"`` or ``"ImageFolder"``.
            options: of it.

        Raises:
            LpotError: if it cannot be made.

        Example::

            quantization.dataloader(quantization.dataset("dummy", shape=[100, 3, 8, 8], label=True))
        """
        return loader_of(named_dataset(name, options), f"`dataset({name!r})`").dataset

    dataloader = staticmethod(dataloader_of)

    def metric(self, name: str, metric_cls: Any, **options: Any) -> None:
        """Judge by a metric of your own, in place of the YAML's, on the data to judge on.

        Args:
            name: how it is called in messages and files.
            metric_cls: a subclass of ``Metric``, or a metric of torchmetrics; or an object of it.
            options: arguments of the class.

        Raises:
            ConfError: if it is something else, or cannot be made with these arguments.

        Example::

            quantization.metric("accuracy", MulticlassAccuracy, num_classes=10)
        """
        self._meter = meter_of(name, metric_cls, options)


@contextmanager
def told(left: Callable[[], str]) -> Iterator[None]:
    """Let what the ``with`` says be heard, and when a signal ends it, what is ``left``."""

    def tell() -> None:
        _LOG.info("interrupted: %s; go on with the same call", left())

    with audible(logging.getLogger("lpot_lightning")), told_when_stopped(tell):
        yield


@contextmanager
def at_work(asked: Workspace) -> Iterator[Workspace]:
    """Keep others out of a workspace, and do what ``told`` does of what is left in it."""
    with (
        audible(logging.getLogger("lpot_lightning")),
        entered(asked, _LOG.info) as own,
        told(own.left),
    ):
        yield own
