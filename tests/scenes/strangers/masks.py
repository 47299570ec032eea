"""Two outputs in a dict, two optimizers by hand, and no ``example_input_array``."""

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import BinaryJaccardIndex

SIDE = 16


def pictures(count, seed):
    dice = torch.Generator().manual_seed(seed)
    masks = (F.avg_pool2d(torch.randn(count, 1, SIDE, SIDE, generator=dice), 5, 1, 2) > 0).float()
    noise = torch.randn(count, 3, SIDE, SIDE, generator=dice)
    return TensorDataset(masks + 0.3 * noise, masks)


def train_loader():
    return DataLoader(pictures(96, 0), batch_size=12, shuffle=True)


def val_loader():
    return DataLoader(pictures(48, 1), batch_size=12)


def block(inputs, outputs):
    layers = nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.SiLU()
    return nn.Sequential(*layers)


class MyModel(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.down, self.deep = block(3, 8), block(8, 16)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.mask, self.size = nn.Conv2d(16, 1, 1), nn.Linear(16, 1)
        self.iou = BinaryJaccardIndex()

    def forward(self, image):
        wide = self.down(image)
        deep = self.deep(F.max_pool2d(wide, 2))
        mask = self.mask(torch.cat([wide, self.up(deep)], dim=1))
        return {"mask": mask, "size": self.size(deep.mean((2, 3)))}

    def training_step(self, batch, batch_idx):
        image, wanted = batch
        losses = self._mask_loss, self._size_loss
        for optimizer, loss_of in zip(self.optimizers(), losses, strict=True):
            optimizer.zero_grad()
            self.manual_backward(loss_of(self(image), wanted))
            optimizer.step()

    def _mask_loss(self, found, wanted):
        return F.binary_cross_entropy_with_logits(found["mask"], wanted)

    def _size_loss(self, found, wanted):
        return F.mse_loss(found["size"], wanted.mean((1, 2, 3))[:, None])

    def validation_step(self, batch, batch_idx):
        image, wanted = batch
        self.iou(self(image)["mask"].sigmoid(), wanted.int())

    def on_validation_epoch_end(self):
        self.log("iou", self.iou)

    def configure_optimizers(self):
        own = [*self.size.parameters()]
        rest = [one for name, one in self.named_parameters() if not name.startswith("size")]
        return torch.optim.Adam(rest, lr=0.01), torch.optim.SGD(own, lr=0.01)
