"""LPOT's benchmark: how fast a model is, and how much faster int8."""

from __future__ import annotations

from typing import Any, ClassVar

from lpot_lightning.conf.benchmarking import check_for_judging, check_for_timing
from lpot_lightning.lpot.benchmark_call import benchmark_given
from lpot_lightning.lpot.benchmark_given import MODES, BenchmarkGiven
from lpot_lightning.lpot.given import first_given
from lpot_lightning.lpot.imperative import Parts, told
from lpot_lightning.timing.result import BenchmarkResult

NOTHING_WRITTEN = "the benchmark is not finished, and nothing was written"


class Benchmark(Parts):
    """Measure how fast a model is: latency, throughput, and int8 against fp32.

    ``evaluation.performance`` of the conf says how. ``warmup`` calls are not measured. An
    ``iteration`` counts all calls, those included, and batches are taken again where there are
    fewer; ``-1`` measures each batch once, after the warm-up, and a ``b_func`` 20 times. What is
    timed is ``model(input)`` on the CPU, not the reading of data.

    ``configs`` with ``num_of_instance`` or ``cores_per_instance`` measures in that many processes
    at the same time, each on its own cores, and sums them up. The script is not run again in them;
    where the model's class is defined in the script itself, that has to be imported there, and
    needs its ``if __name__ == "__main__":``.

    Data come from the YAML, or from code, which comes first: ``evaluation.performance.dataloader``,
    else ``evaluation.accuracy.dataloader``. The accuracy is that of a ``b_func``, or of a metric,
    ``evaluation.accuracy.metric`` or one given by ``metric``, on ``b_dataloader`` or the data of
    ``evaluation.accuracy``. ``deploy.yaml``, which a quantization leaves in its workspace, carries
    those sections, so that it is all that is needed besides a model.

    Args:
        conf: LPOT's user YAML: a path, a mapping or an OmegaConf object.
        conf_fname: the same under LPOT's name.

    Attributes:
        model: an ``nn.Module``, fp32 or int8; an exported file, such as ``int8.onnx``; or the
            folder of a workspace, whose int8 model is restored, with ``fp32`` beside it.
        fp32: the model to compare with, in interleaved runs, or an exported file.
        files: exported files that take turns with them: a path, several, or a mapping of names to
            paths. What runs a file is named in the table.
        b_dataloader: gives batches ``(input, label)``, or inputs, in place of those of the YAML.
        b_func: takes a model in eval mode and runs what is to be timed, in place of
            ``b_dataloader``; a number that it returns is the accuracy.
        result: the ``BenchmarkResult`` of the last call; ``None`` before, and after one that
            failed.

    Raises:
        ConfError: if the conf asks for what cannot be done.

    Example::

        benchmark = Benchmark("deploy.yaml")
        result = benchmark(int8, loader, fp32=model)
        print(result.table())
        result.speedup, result.throughput, result.latency.p99
    """

    _data: ClassVar[str] = "`b_dataloader`"
    """What the loader is called, for people."""

    def _set_up(self) -> None:
        self.fp32: Any = None
        self.files: Any = None
        self.b_dataloader: Any = None
        self.b_func: Any = None
        self.result: BenchmarkResult | None = None

    def __call__(
        self,
        model: Any = None,
        b_dataloader: Any = None,
        b_func: Any = None,
        *,
        fp32: Any = None,
        files: Any = None,
        mode: str = "performance",
    ) -> BenchmarkResult:
        """Measure, and return what was found.

        What is given here comes before the attributes. The models, random numbers and the number
        of threads are as before afterwards.

        Args:
            model: see the attribute; so are the others. A ``mode`` alone may stand in its place, as
                in LPOT 1.6.
            b_dataloader: see the attribute.
            b_func: see the attribute.
            fp32: see the attribute.
            files: see the attribute.
            mode: ``"performance"``, which times; or ``"accuracy"`` to measure that alone, by a
                ``b_func``, else by the metric.

        Raises:
            LpotError: of the kind that says what is wrong.
            SystemExit: with 130 for Ctrl-C and 143 for SIGTERM.

        Example::

            Benchmark(conf)(model, mode="accuracy").accuracy
        """
        if isinstance(model, str) and model in MODES and self.model is not None:
            model, mode = None, model  # as LPOT 1.5 and 1.6 are called
        own_data = b_dataloader is not None or b_func is not None
        given = BenchmarkGiven(
            model=first_given(model, self.model),
            fp32=first_given(fp32, self.fp32),
            files=first_given(files, self.files),
            b_dataloader=b_dataloader if own_data else self.b_dataloader,
            b_func=b_func if own_data else self.b_func,
            mode=mode,
            metric=self._meter,
            origin=self._data,
        ).checked()
        self.result = None
        if mode == "accuracy":
            check_for_judging(self.conf, given.names)
        else:
            check_for_timing(self.conf, given.data)
        with told(lambda: NOTHING_WRITTEN):
            self.result = benchmark_given(given, self.conf)
        return self.result
