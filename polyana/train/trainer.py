"""The training loop: one for every task.

Steps (train/step.py), and between them: evaluate, sample, save, stop. Every rank walks through all of it; only rank 0
writes. What a step computes follows from the position, the weights and the random state alone, all of which a save
holds; so a run that is killed and resumed takes the same steps.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch

from polyana.config import Quantity
from polyana.distributed import Strategy
from polyana.errors import Interrupted, TrainingFailed
from polyana.models import checkpoint_blocks, compile_blocks, count_parameters
from polyana.registry import PushQueue, Repository
from polyana.storage import retry_when_full
from polyana.tracking import (
    Console,
    Gauge,
    MetricLog,
    RunDirectory,
    SilentMetricLog,
    SystemSampler,
    as_text,
    show_metrics,
)
from polyana.train.checkpointing import choose_checkpointing
from polyana.train.config import SaveConfig, TrainConfig
from polyana.train.find_lr import find_lr, put_back
from polyana.train.loss_scale import first_scale, next_scale
from polyana.train.memory import KeptMemory
from polyana.train.optimizer import build_optimizer, optimizer_bytes
from polyana.train.plan import TrainingPlan
from polyana.train.precision import Precision
from polyana.train.saving import Save, Saving
from polyana.train.schedule import learning_rate
from polyana.train.signals import StopSignals
from polyana.train.state import Position, StateStore
from polyana.train.step import Measured, NotFinite, TrainingStep
from polyana.train.task import Task

__all__ = ["Trainer"]

_LOSS = "eval/loss"


class Trainer:
    """Trains one task to the end of its plan, from wherever the run's last save left it."""

    def __init__(
        self,
        task: Task,
        plan: TrainingPlan,
        config: TrainConfig,
        save: SaveConfig,
        precision: Precision,
        strategy: Strategy,
        run: RunDirectory,
        repository: Repository,
        console: Console,
        *,
        seed: int,
        evaluate_every: Quantity | None = None,
        sample_every: Quantity | None = None,
        histograms_every: Quantity | None = None,
        recipe_hash: str = "",
        pushing: PushQueue | None = None,
        describe: Callable[[Path, int, int, float, Mapping[str, float]], None] | None = None,
    ) -> None:
        """`seed`: of dropout. `evaluate_every`: besides what every save evaluates. `pushing`: what is told of saves.
        `describe` adds to a save's directory what is told of it: (directory, step, tokens, epoch, metrics)."""
        self.task, self.config, self.keep = task, config, save.keep
        self.run, self.repository, self.console = run, repository, console
        self.precision, self.seed, self.recipe_hash = precision, seed, recipe_hash
        self.plan, self.strategy, self.world = plan, strategy, strategy.world
        self._memory = KeptMemory(differing=config.packing != "concat")
        self.model = precision.prepare(task.model)
        self.checkpointing = choose_checkpointing(config, plan, task, strategy)
        if config.compile:
            compile_blocks(task.blocks)
        checkpoint_blocks(task.blocks[: self.checkpointing.recomputed])
        strategy.prepare(self.model, task.blocks)
        self.optimizer = build_optimizer(self.model, config)
        self.states = StateStore(run.state, strategy)
        saved = functools.partial(pushing.saved, every=save.push.every) if save.push and pushing else lambda _: None
        self.saving = Saving(task, run, repository, self.states, self.keep, recipe_hash, saved, console.say, describe)
        self.step = TrainingStep(task, plan, config, precision, strategy, self.optimizer, self.saving.take_back)
        self.position = Position()
        self._saves = self.plan.cadence(save.every)
        self._evaluations = self.plan.cadence(evaluate_every)
        self._samples = self.plan.cadence(sample_every)
        self._histograms = self.plan.cadence(histograms_every)
        self._histograms_next = False  # whether the next step measures them
        self._evaluated: tuple[int, dict[str, float]] = (-1, {})  # step, metrics

    def fit(self) -> Position:
        """Train to the end. Raises TrainingFailed when the loss is not finite and Interrupted after a stop signal; the
        saves made until then stay."""
        self.world.from_main(lambda: self.saving.check_total(self._size_of_save()[0]))
        self._seed()
        resumed = self.states.load(self.model, self.optimizer, self._arithmetic(), self.console.say)
        self.position = resumed or Position()
        if self.precision.dtype == torch.float16 and self.position.loss_scale is None:
            self.position.loss_scale = first_scale(self.plan.tokens / self.plan.steps)
        log = MetricLog if self.world.main else SilentMetricLog
        self.metrics = log(self.run.metrics, self.position.step, self.recipe_hash, self.console.say)
        self.system = SystemSampler(self.run.path)
        try:
            if resumed is not None:
                self.metrics.event(self.position.step, "resume", attempt=self.metrics.attempt)
                self.console.say(f"  going on after step {self.position.step} of {self.plan.steps}")
                if self.world.from_main(lambda: f"step-{self.position.step}" in self.repository.refs()):
                    self.world.from_main(self.saving.settle)  # what the last save may not have come to
                else:
                    self._save("made again from the saved state")  # somebody has deleted the commit
            with (
                StopSignals(self.console.say) as signals,
                self.system if self.world.main else nullcontext(),
                self.console.gauge(self.run.about()["stage"], self.plan.steps, self.position.step) as gauge,
            ):
                if resumed is None:
                    if self.config.find_lr:
                        self._find_lr(signals)
                        self._seed()
                    self.position.lowest_loss = self._evaluate().get(_LOSS)
                    self._sample()
                self._plan_histograms(self.world.agree(time.monotonic(), None)[0])
                while not self._finished():
                    self._step(gauge)
                    self._between_steps(signals)
            self._finish_save()
        except TrainingFailed as failure:
            self.metrics.event(self.position.step + 1, "failed", what=str(failure))
            self.states.wait()
            raise
        finally:
            self.saving.close()
            self.metrics.close()
            self.step.close()
        return self.position

    def _seed(self) -> None:
        torch.manual_seed(self.seed + self.world.rank)  # each rank drops out in its own way

    def _arithmetic(self) -> dict[str, str]:
        """What rounding depends on beside the processor."""
        precision = self.precision
        return {
            "threads": str(torch.get_num_threads()),
            "precision": str(precision.dtype).removeprefix("torch."),
            "device": precision.device.type,
            "processes": str(self.world.size),
            "compile": str(self.config.compile),
        }

    def _finished(self) -> bool:
        return self.position.step >= self.plan.steps or self.position.stopped_early

    # One step

    def _step(self, gauge: Gauge) -> None:
        position = self.position
        sequences = self.plan.batch_at(position.sequences)
        lr, scale = learning_rate(position.step, self.config, self.plan), position.loss_scale
        self._memory.before_step()
        measured = self._take(position.sequences, sequences, lr, self._histograms_next)
        self._memory.after_step()
        metrics = measured.metrics
        position.step += 1
        position.sequences += sequences
        position.tokens += measured.tokens
        position.seconds += measured.seconds
        metrics |= {"train/tokens": position.tokens, "train/epoch": position.sequences / self.plan.per_epoch}
        if measured.histograms:  # a long row: before the step's, for readers look for that at the end of the file
            self.metrics.histograms(position.step, measured.histograms)
        self.metrics.log(position.step, metrics | ({"train/loss_scale": scale} if scale is not None else {}))
        if system := self.system.take():
            self.metrics.log(position.step, system)
        speed = metrics["train/tokens_per_second"]
        gauge.show(position.step, f"loss {metrics['train/loss']:.4f}  lr {lr:.1e}  {speed:,.0f} tokens/s")

    def _take(self, first: int, sequences: int, lr: float, histograms: bool = False) -> Measured:
        """A step, which moves fp16's loss scale too. Raises TrainingFailed when something is not finite."""
        position = self.position
        try:
            measured = self.step.take(first, sequences, lr, position.loss_scale or 1.0, histograms)
        except NotFinite as trouble:
            raise self._failed(str(trouble)) from None
        if position.loss_scale is not None:
            before = position.loss_scale
            position.loss_scale, position.clean_steps = next_scale(before, position.clean_steps, measured.overflowed)
            if measured.overflowed:
                self.metrics.event(position.step + 1, "overflow", loss_scale=before)
                told = f"  step {position.step + 1:>6}  skip  gradients overflow in fp16; the loss scale is halved"
                self.console.say(told)
        return measured

    def _find_lr(self, signals: StopSignals) -> None:
        """A range test on the run's first batches; weights and optimizer are put back, so training is as without."""

        def step(number: int, lr: float) -> float:
            size = self.plan.batch_at(0)
            return self._take(number * size, size, lr).metrics["train/loss"]

        self.console.say("  range test: up to 100 steps with rising rates; then training begins anew")
        self._seed()
        with put_back(self.model, self.optimizer):
            test = find_lr(step, lambda: self.world.agree(0.0, signals.received)[1] is not None)
        self.world.from_main(
            lambda: retry_when_full(lambda: test.write(self.run.path, self.config.lr), self.run.path, self.console.say)
        )
        for line in test.lines(self.config.lr):
            self.console.say(f"  {line}")

    def _failed(self, what: str) -> TrainingFailed:
        self._finish_save()
        step = self.position.step + 1
        commits = [commit for commit in self.repository.commits() if commit.step < step]
        kept = f"the last good state is {self.run.name}@step-{commits[-1].step}" if commits else "nothing was saved yet"
        return TrainingFailed(
            f"step {step}: {what}. Look at it with `polyana show batch RECIPE --step {step}`; a lower `lr`, a longer "
            f"`warmup` or a smaller `clip` often helps. Training stopped; {kept}"
        )

    # Between steps

    def _between_steps(self, signals: StopSignals) -> None:
        (now, signal), step = self.world.agree(time.monotonic(), signals.received), self.position.step
        if self._evaluations.due(step, now):
            self._lose_patience(self._evaluate())
            self._heed()
        if self.world.size == 1 and (self.saving.finished or self.saving.paused):
            self._finish_save()  # of several processes all look at the next save
        saving = self._saves.due(step, now) or signal is not None
        self._plan_histograms(now)
        ending = self._finished()
        if self._samples.due(step, now) or ending:
            self._sample()
        if saving or ending:
            self._save("the end" if ending else f"step {step} of {self.plan.steps}")
        if signal is not None and not self._finished():
            self._finish_save()
            raise Interrupted(
                signal,
                f"stopped after step {step} of {self.plan.steps}; saved as {self.run.name}@step-{step}. "
                "The same command goes on from here",
            )

    def _plan_histograms(self, now: float) -> None:
        self._histograms_next = self._histograms.due(self.position.step + 1, now)

    def _evaluate(self) -> dict[str, float]:
        """Metrics at this step; measured once a step."""
        position = self.position
        if self._evaluated[0] == position.step:
            return self._evaluated[1]
        self.model.eval()
        began = time.perf_counter()
        metrics = self._predict() | self._answer()
        self._evaluated = position.step, metrics
        if not metrics:
            return metrics
        self.metrics.log(position.step, metrics)
        first, *more = show_metrics(metrics)
        self.console.say(f"  step {position.step:>6}  eval  {first}  ({time.perf_counter() - began:.1f} s)")
        for line in more:
            self.console.say(f"{'':21}{line}")
        return metrics

    def _predict(self) -> dict[str, float]:
        with torch.no_grad(), self.precision.autocast():  # FSDP2 does not go with inference mode
            return self.task.evaluate(self.strategy.sum_over)

    def _answer(self) -> dict[str, float]:
        """Every rank writes everything: FSDP2's weights are there for all or for none. Rank 0 has it scored, and the
        others wait as long as that takes."""
        with torch.no_grad():
            metrics = self.strategy.run(self.task.score_answers, self.run.path if self.world.main else None)
        keep = lambda: self.task.keep_answers(self.run.path, self.position.step)  # noqa: E731
        self.world.from_main(lambda: retry_when_full(keep, self.run.path, self.console.say))
        return metrics

    def _lose_patience(self, metrics: dict[str, float]) -> None:
        """Count evaluations without a new lowest loss, and end training when they are too many.

        Only those that `eval: every:` asks for count: when a save evaluates depends on clocks and signals.
        """
        position, patience = self.position, self.config.patience
        if patience is None or _LOSS not in metrics:
            return
        loss = metrics[_LOSS]
        if position.lowest_loss is None or loss < position.lowest_loss:
            position.lowest_loss, position.evaluations_since = loss, 0
            return
        position.evaluations_since += 1
        if position.evaluations_since >= patience:
            position.stopped_early = True
            self.metrics.event(position.step, "stop", why=f"{patience} evaluations without a lower {_LOSS}")
            self.console.say(f"  step {position.step:>6}  stop  {patience} evaluations without a lower {_LOSS}")

    def _heed(self) -> None:
        """Tell what the task has to say of the run; its word may end it."""
        step = self.position.step
        verdict = self.world.from_main(lambda: self.task.verdict(self.run.path, step))
        if verdict is None:
            return
        self.metrics.event(step, verdict.kind, what=verdict.text)
        self.metrics.log(step, {f"alarm/{verdict.kind}": 1.0})  # as a curve, for those who look at curves
        self.console.say(f"  step {step:>6}  {verdict.kind.replace('_', ' ')}  {verdict.text}")
        if verdict.stop:
            self.position.stopped_early = True
            self.metrics.event(step, "stop", why=verdict.kind)

    def _sample(self) -> None:
        self.model.eval()
        samples = self.strategy.run(self.task.sample)
        if not samples or not self.world.main:
            return
        step = self.position.step
        retry_when_full(lambda: self.run.write_samples(step, samples), self.run.path, self.console.say)
        first = samples[0]
        shown = " ".join(as_text(first).split())
        self.console.say(f"  step {step:>6}  says  {shown[:160]}")

    # Saving

    def _save(self, message: str) -> None:
        """Evaluate and begin a save, which is made while training goes on, once the one before it is whole."""
        metrics = self._evaluate()
        self._finish_save()
        self.world.from_main(lambda: self.saving.make_room(*self._size_of_save()))
        state = self.states.take(self.position, self.optimizer, self._arithmetic())
        weights = self.strategy.whole_weights(self.model)
        if self.world.main:
            epoch = self.position.sequences / self.plan.per_epoch
            self.saving.begin(Save(message, epoch, metrics, weights, state, self.metrics.sync))

    def _finish_save(self) -> None:
        """Wait until the save on its way is whole, and say so. Raises what went wrong with it."""
        self.states.wait()
        if saved := self.world.from_main(self.saving.wait):
            step = saved.commit.step
            self.metrics.event(step, "save", commit=saved.commit.id, seconds=round(saved.seconds, 3))
            star = "  best so far" if saved.commit.metrics and saved.best.step == step else ""
            self.console.say(f"  step {step:>6}  save{star}")

    def _size_of_save(self) -> tuple[int, int]:
        """Bytes a save may need: of the weights, four each, and of the optimizer's memory."""
        return 4 * count_parameters(self.model), optimizer_bytes(self.model, self.config.optimizer)
