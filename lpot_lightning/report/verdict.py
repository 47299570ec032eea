"""What was asked, whether it is met, and what to do where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, floor, log10

from lpot_lightning.recipe import Rung
from lpot_lightning.report.facts import Facts, PruningFacts, RunState, TuningFacts
from lpot_lightning.report.markup import Content, Markup, code, shortened, tag, words
from lpot_lightning.report.numbers import accuracies, change_of_size, counted, drop, goal
from lpot_lightning.timing.ratio import Ratio, is_clear
from lpot_lightning.tuning.score import Criterion

_PTQ = "post_training_static_quant"


def header(facts: Facts) -> Markup:
    """Return the top of the page: the verdict in words, the figures, what to do next."""
    word, kind = _word(facts)
    tuning, pruning = facts.tuning, facts.pruning
    sentence = _tuned(facts.state, tuning) if tuning else _pruned(pruning) if pruning else None
    return tag(
        "header",
        tag("p", "lpot_lightning report", class_="kicker"),
        tag("h1", shortened(facts.title)),
        tag("p", tag("span", word, class_=f"state {kind}"), " ", sentence, class_="verdict"),
        tag("ul", _figures(facts), class_="figures"),
        _next(facts),
        [tag("p", one, class_="note") for one in facts.notes],
    )


def _word(facts: Facts) -> tuple[str, str]:
    """Return the verdict in a word, and how it looks."""
    if facts.state is RunState.FAILED:
        return "Failed", "missed"
    if facts.state is not RunState.ENDED:
        return facts.state.value.capitalize(), "open"
    met = (
        facts.tuning.status == "met" if facts.tuning else bool(facts.pruning and facts.pruning.met)
    )
    return ("Met", "met") if met else ("Not met", "missed")


def _tuned(state: RunState, tuning: TuningFacts) -> Content:
    if tuning.accuracy is None or tuning.baseline is None:
        yet = "" if state is RunState.FAILED else " yet"
        how = "failed" if _all_failed(tuning) else "over"
        return f"No int8 model{yet}: {counted(len(tuning.trials), 'trial')} {how}."
    so_far = (
        "" if state is RunState.ENDED else f" so far, after {counted(len(tuning.trials), 'trial')}"
    )
    compared = _compared(tuning.accuracy, tuning.baseline, tuning.criterion)
    int8, fp32 = accuracies(tuning.accuracy, tuning.baseline)
    return (
        "int8 ", code(tuning.monitor), f" is {int8}{so_far}; fp32 is {fp32}: {compared}",
    )  # fmt: skip


def _pruned(pruning: PruningFacts) -> Content:
    if pruning.accuracy is None or pruning.baseline is None:
        return "No pruned model is judged yet."
    compared = _compared(pruning.accuracy, pruning.baseline, pruning.criterion)
    target = "" if pruning.reached else " The target sparsity was not reached."
    pruned, dense = accuracies(pruning.accuracy, pruning.baseline)
    return (
        "pruned ", code(pruning.monitor), f" is {pruned}; dense it was {dense}:",
        f" {compared}{target}",
    )  # fmt: skip


def _compared(found: float, baseline: float, criterion: Criterion | None) -> str:
    """Return what was lost, and what was allowed."""
    if criterion is None or (criterion.relative and not baseline):
        return "how much may be lost is not known."
    lost = criterion.drop(found, baseline)
    shown, asked = (one.lstrip("-") for one in (drop(lost, criterion), goal(lost, criterion)))
    said = f"{shown} {'worse' if lost > 0 else 'better'}" if lost else "nothing lost"
    if criterion.goal < 0:
        return f"{said}, and {asked} better was asked for."
    return f"{said}, and {asked} worse is allowed."


def _figures(facts: Facts) -> Iterator[Markup]:
    """Yield the figures that people look for first."""
    tuning, pruning = facts.tuning, facts.pruning
    if tuning is not None:
        if tuning.speed is not None:
            yield _figure(*_speed(tuning.speed), "speed-up over fp32")
        if tuning.size_ratio is not None:
            times, change = change_of_size(tuning.size_ratio)
            yield _figure(f"{times}×", change, "size")
        if tuning.ops and tuning.accuracy is not None:
            int8 = sum(one.rung.is_int8 for one in tuning.ops)
            rest = f"of {counted(len(tuning.ops), 'op')}"
            yield _figure(str(int8), rest, "int8")
        yield _figure(str(len(tuning.trials)), _passes(tuning), "trials")
    if pruning is not None:
        zero = "became zero, then channels were cut" if pruning.cut else "are zero"
        yield _figure(f"{pruning.sparsity:.1%}", f"of the pruned weights {zero}", "sparsity")
        before, after = pruning.parameters
        if after != before:
            yield _figure(f"{after / before:.1%}", "of the parameters are left", "after the cut")
        if pruning.speed is not None and tuning is None:
            yield _figure(*_speed(pruning.speed), "speed-up over dense")


def _figure(value: str, rest: str, title: str) -> Markup:
    return tag(
        "li",
        tag("span", title, class_="title"),
        tag("span", value, class_="value"),
        tag("span", rest, class_="rest"),
    )


def _speed(speed: Ratio) -> tuple[str, str]:
    if speed.spread is None:
        return f"{speed.middle:.2f}×", "how sure is not known"
    low, high = speed.spread
    claim = f"{speed.middle:.2f}×" if is_clear(speed.spread) else "about the same"
    return claim, f"{low:.2f}× to {high:.2f}×"


def _passes(tuning: TuningFacts) -> str:
    if tuning.evaluations is None:
        return "over"
    return f"{tuning.evaluations:.1f} validation passes"


def _next(facts: Facts) -> Markup | None:
    """Return what a user can do, where there is something to do."""
    told = [words(one) for one in _advice(facts)]
    if not told:
        return None
    return tag("div", tag("h2", "What to do next"), tag("ul", [tag("li", one) for one in told]),
               class_="next")  # fmt: skip


def _advice(facts: Facts) -> Iterator[str]:
    tuning, pruning = facts.tuning, facts.pruning
    if facts.state is not RunState.ENDED and tuning is not None and _all_failed(tuning):
        yield from _after_failures(tuning)
    elif pruning is not None and pruning.accuracy is None:
        if facts.state in (RunState.FAILED, RunState.STOPPED):
            yield "Fit again with a checkpoint as `ckpt_path`: what it had pruned stays pruned."
    elif facts.state is RunState.FAILED:
        yield (
            "Mend what the error says, and start the same run again: it goes on after its last"
            " finished trial."
        )
    elif facts.state in (RunState.STOPPED, RunState.NOT_ENDED):
        yield "Start the same run again: it goes on after its last finished trial."
    if tuning is not None and facts.state is RunState.ENDED:
        if tuning.status != "met":
            yield from _for_accuracy(tuning)
        if tuning.speed is not None and tuning.speed.spread and tuning.speed.spread[1] < 1:
            small = (
                "; `tuning.objective: modelsize` looks for a small model in place of a fast one"
                if tuning.objective == "performance"
                else ""
            )
            yield f"int8 is slower than fp32 here. Larger batches and wider layers win most{small}."
    if pruning is not None and not pruning.met:
        yield from _for_pruning(pruning)


def _all_failed(tuning: TuningFacts) -> bool:
    return bool(tuning.trials) and all(one.score.failed for one in tuning.trials)


def _after_failures(tuning: TuningFacts) -> Iterator[str]:
    """Yield what to look at: a run that goes on counts its failed trials, and tries none again."""
    reasons = dict.fromkeys(str(one.score.failure) for one in tuning.trials)
    yield (
        f"No trial could be judged ({shortened('; '.join(reasons), 300)}): look at what the"
        " validation does with the outputs of an int8 model. The same run would not try these"
        " again: to try anew give it another `tuning.workspace.path`, or move `history.jsonl` away."
    )


def _for_accuracy(tuning: TuningFacts) -> Iterator[str]:
    about, criterion = tuning.about, tuning.criterion
    if tuning.status == "budget_exhausted":
        now = f" ({about.most} now)" if about is not None and about.most else ""
        yield (
            f"Trials ran out. Raise `tuning.exit_policy.max_trials`{now} or `timeout`, and start"
            " the same run again: it goes on where this one ended."
        )
    if about is not None and about.approach == _PTQ:
        yield (
            "Train with the rounding of int8: `QATCallback` in place of `QuantizationCallback`,"
            " with `quantization.approach: quant_aware_training`."
        )
    if any(one.damage for one in tuning.ops if one.rung is not Rung.FP32):
        yield "The ops at the top of the table of ops hurt most: what helps each is said there."
    if criterion is not None and tuning.accuracy is not None and tuning.baseline:
        lost = criterion.drop(tuning.accuracy, tuning.baseline)
        kind = "relative" if criterion.relative else "absolute"
        if lost > 0 and not (criterion.relative and float(_rounded_up(lost)) >= 1):
            yield (
                f"Or allow more: the best model has lost {drop(lost, criterion)}, so"
                f" `tuning.accuracy_criterion.{kind}: {_rounded_up(lost)}` accepts it."
            )


def _rounded_up(lost: float) -> str:
    """Return a goal of two digits that accepts what was lost."""
    unit = 10.0 ** (floor(log10(lost)) - 1)
    return f"{ceil(lost / unit + 1e-9) * unit:.10g}"


def _for_pruning(pruning: PruningFacts) -> Iterator[str]:
    criterion, accuracy, baseline = pruning.criterion, pruning.accuracy, pruning.baseline
    if criterion is None or accuracy is None or baseline is None:
        return  # it is not judged yet
    if not pruning.reached:
        yield (
            "Train longer, or let `end_epoch` or `end_step` be earlier: the target was not reached."
        )
    if not criterion.accepts(accuracy, baseline):
        yield (
            "Train longer after the target is reached, or lower `target_sparsity`: the accuracy"
            " is below what is allowed."
        )
    emptied = [one.name for one in pruning.layers if one.sparsity == 1 and one.target != 1]
    if emptied:
        yield "Some parameters are all zero: `prune_domain: local` spreads the zeros."
