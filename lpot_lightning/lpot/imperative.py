"""What LPOT's imperative classes share: a conf, a metric of the user's, loaders of data sets."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lpot_lightning.conf.reader import read_conf, the_one_conf
from lpot_lightning.data.loader import dataloader_of
from lpot_lightning.data.meter import Meter, meter_of
from lpot_lightning.errors import ConfError
from lpot_lightning.machine.audible import audible
from lpot_lightning.machine.signals import told_when_stopped
from lpot_lightning.runs.entering import entered
from lpot_lightning.runs.workspace import Workspace

_LOG = logging.getLogger(__name__)


class Parts:
    """Reads a conf, takes a metric and makes loaders, as ``Quantization`` does.

    ``_meter`` is the metric that was given, ``None`` before.
    """

    _meter: Meter | None = None

    def __init__(
        self,
        conf: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        conf_fname: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    ) -> None:
        self.conf = read_conf(the_one_conf(conf, conf_fname))
        self.model: Any = None
        self._set_up()

    def _set_up(self) -> None:
        """Check the conf, and give the attributes of a class their first values."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Both are methods: an assignment would hide them, and nobody would read what was assigned.
        if name == "metric":  # is set so in LPOT 1.6
            self.metric("metric", value)
        elif name == "dataloader":
            raise ConfError(
                "`dataloader` is a method that makes a loader of a data set; loaders are set by"
                " the names of what they are for, such as `calib_dataloader` or `b_dataloader`"
            )
        else:
            super().__setattr__(name, value)

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
