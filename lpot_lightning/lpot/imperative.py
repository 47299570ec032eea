"""What LPOT's imperative classes share: a metric of the user's, loaders of data sets."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader

from lpot_lightning.data.loader import dataloader_of
from lpot_lightning.data.meter import Meter, meter_of
from lpot_lightning.errors import ConfError


class Parts:
    """Takes a metric and makes loaders, as ``Quantization`` does.

    ``_meter`` is the metric that was given, ``None`` before.
    """

    _meter: Meter | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "metric":  # as in LPOT 1.6; an assignment would only hide the method
            self.metric("metric", value)
        elif name == "dataloader":
            raise ConfError(
                "`dataloader` is a method that makes a loader of a data set; loaders are set by"
                " the names of what they are for, such as `calib_dataloader` or `b_dataloader`"
            )
        else:
            super().__setattr__(name, value)

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

    def dataloader(
        self,
        dataset: Any,
        batch_size: int = 1,
        collate_fn: Any = None,
        last_batch: str = "rollover",
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        shuffle: bool = False,
    ) -> DataLoader[Any]:
        """Return a loader of a data set, to be given as one of the dataloaders.

        Args:
            dataset: has ``__getitem__(index)`` and ``__len__()``, or ``__iter__()``, and gives
                ``(input, label)``.
            batch_size: samples of a batch.
            collate_fn: makes a batch of a list of samples; torch's where it is not given.
            last_batch: ``rollover`` keeps a last batch that is smaller, ``discard`` leaves it out.
            sampler: see ``torch.utils.data.DataLoader``; so are the others.
            batch_sampler: gives the numbers of each batch, in place of all that chooses samples.
            num_workers: processes that load; those of ``__iter__`` share its samples.
            pin_memory: for a later copy to a GPU.
            shuffle: whether the order is drawn, by ``tuning.random_seed``.

        Raises:
            ConfError: if something is of the wrong kind, or does not go together.
            DataError: if the data set is empty.

        Example::

            loader = quantization.dataloader([(image, 3), (other, 5)], batch_size=2)
            int8 = quantization(model, q_dataloader=loader, eval_dataloader=loader)
        """
        return dataloader_of(
            dataset,
            batch_size,
            collate_fn,
            last_batch,
            sampler,
            batch_sampler,
            num_workers,
            pin_memory,
            shuffle,
        )
