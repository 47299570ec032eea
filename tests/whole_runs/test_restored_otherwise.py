"""Models are restored into classes that name or make their parts in another way."""

import pytest
import torch
from lit_scenes import Late, Lit, conf, small_net, train_loader, trainer, val_loader
from qat_scenes import checkpoints, qat

from lpot_lightning import PruningCallback, load, load_from_checkpoint, quantize
from lpot_lightning.errors import ArtifactError

WEIGHTS = {"target_sparsity": 0.5, "start_epoch": 0, "end_epoch": 1, "pruners": [{}]}
PRUNING = {"approach": {"weight_compression": WEIGHTS}}
X = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))


class Compiled(Lit):
    """Compiles its net."""

    def __init__(self, lr=0.01):
        super().__init__(lr)
        self.net = torch.compile(self.net, backend="eager")


class Configured(Lit):
    """Makes its net late."""

    def __init__(self, lr=0.01):
        super().__init__(lr)
        self.net = None

    def configure_model(self):
        if self.net is None:
            self.net = small_net()


KINDS = [Lit, Compiled, Configured]


@pytest.fixture(params=KINDS)
def trained(request):
    return request.param


def test_int8(trained, workspace):
    given = trained()
    given.configure_model()
    values = Lit().state_dict().values()
    given.load_state_dict(dict(zip(given.state_dict(), values, strict=True)))
    result = quantize(trainer(), given, train_loader(), val_loader(), conf=conf(workspace))
    files = workspace / "best_configure.yaml", workspace / "best_model_weights.pt"
    for kind in KINDS:
        model = kind()
        drawn = torch.get_rng_state()
        assert torch.equal(load(*files, model)(X), result.model(X))
        assert torch.equal(torch.get_rng_state(), drawn)
        assert (model.net is None) == (kind is Configured)
        again = load_from_checkpoint(kind, workspace / "best_quantized.ckpt")
        assert torch.equal(again(X), result.model(X))


def test_pruned(trained, workspace):
    pruning = PruningCallback(conf(workspace, pruning=PRUNING))
    module = trained()
    trainer(pruning, max_epochs=2).fit(module, train_loader(), val_loader())
    files = workspace / "pruned_configure.yaml", workspace / "pruned_model_weights.pt"
    for kind in KINDS:
        torch.testing.assert_close(load(*files, kind())(X), module.eval()(X))


@pytest.mark.filterwarnings("ignore:.*compile.*")
def test_checkpoints_of_a_training_for_int8(trained, workspace):
    saved = checkpoints(workspace / "saved")
    one = trainer(saved, qat(workspace), max_epochs=1, enable_checkpointing=True)
    one.fit(trained(), train_loader(), val_loader())
    for form in ("int8", "fake_quant"):
        answers = [load_from_checkpoint(kind, saved.last_model_path, form)(X) for kind in KINDS]
        assert torch.equal(answers[0], answers[1])
        assert torch.equal(answers[0], answers[2])


def test_fp32_checkpoints_are_quantized_by_either_name(trained, workspace):
    saved = checkpoints(workspace / "saved")
    trainer(saved, max_epochs=1, enable_checkpointing=True).fit(trained(), train_loader())
    for kind in (Lit, Compiled):
        result = quantize(
            trainer(), kind(), train_loader(), val_loader(), conf=conf(workspace),
            ckpt_path=saved.last_model_path,
        )  # fmt: skip
        assert result.status == "met"


class Failing(Late):
    """Cannot make its net alone."""

    def configure_model(self):
        raise RuntimeError("no mesh")


def test_a_net_that_cannot_be_made_is_told(workspace):
    quantize(trainer(), Lit(), train_loader(), val_loader(), conf=conf(workspace))
    files = workspace / "best_configure.yaml", workspace / "best_model_weights.pt"
    with pytest.raises(ArtifactError, match=r"`Failing.configure_model` cannot .*no mesh.*call it"):
        load(*files, Failing())
