"""The data sets that a YAML names."""

from __future__ import annotations

from collections.abc import Callable

from lpot_lightning.data.bert import bert
from lpot_lightning.data.cifar import cifar10, cifar100
from lpot_lightning.data.dummy import dummy, dummy_v2
from lpot_lightning.data.image_folder import image_folder
from lpot_lightning.data.mnist import fashion_mnist, mnist
from lpot_lightning.data.source import SampleSource

DATASETS: dict[str, Callable[..., SampleSource]] = {
    "CIFAR10": cifar10,
    "CIFAR100": cifar100,
    "FashionMNIST": fashion_mnist,
    "ImageFolder": image_folder,
    "MNIST": mnist,
    "bert": bert,
    "dummy": dummy,
    "dummy_v2": dummy_v2,
}
"""LPOT's data sets for PyTorch; each takes the options of the YAML. What is missing is in
`lpot_lightning.conf.buildable`."""
