"""One real step before training begins, so that an operation without a kernel shows in seconds and not after hours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from polyana.errors import Problem, UserError
from polyana.train.precision import Precision
from polyana.train.task import Task

__all__ = ["probe"]

_TOKENS = 32  # of the probe's one sequence; a multiple of 16, as fp8 needs; else a guess


def probe(task: Task, where: str) -> None:
    """Forward, loss and backward of a short sequence in the task's own model, device and precision. Changes nothing.

    `where`: the line of `precision`. Raises UserError with the operation that does not work in it and with what does;
    an error that comes in every precision is not one of precision, and passes as it is.
    """
    precision = task.precision
    try:
        _step(task, precision)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        instead = _what_works(task, precision)
        if instead is None:
            raise
        words = str(error).strip().splitlines()[0]
        raise UserError(
            Problem(
                where,
                f"`precision: {precision.format}`{_operation(task, precision)} this model does not work in "
                f"{precision.format} on {precision.device.type}: {words}. Write `precision: {instead}`, which works",
            )
        ) from error


def _step(task: Task, precision: Precision) -> None:
    model = precision.prepare(task.model)
    sequence = task.batch(0, 1)
    labelled = int(sequence.weight_N.ne(0).int().argmax())  # the first place that has a loss
    batch = sequence.window(max(0, labelled - _TOKENS // 2), _TOKENS)
    with _unchanged(model, precision.device), _computed_in(task, precision):
        model.train()
        with precision.autocast():
            output = task.loss(batch.to(precision.device))
        output.total.backward()  # type: ignore[no-untyped-call]


def _what_works(task: Task, precision: Precision) -> str | None:
    """The best other precision in which the step works, tried; None when there is none."""
    if precision.fp8:
        return "bf16"  # not tried: the model's layers are fp8's by now
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        if dtype != precision.dtype:
            try:
                _step(task, replace(precision, dtype=dtype))
            except Exception:
                continue
            return name
    return None


def _operation(task: Task, precision: Precision) -> str:
    """`: the operation aten::name of`, found by doing the step again and watching each operation; else `:`."""
    with _Watch() as watch:
        try:
            _step(task, precision)
        except Exception:
            return f": the operation `{watch.failed}` of" if watch.failed else ":"
    return ":"


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the operation that fails."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.failed = ""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            return function(*args, **(kwargs or {}))
        except Exception:
            self.failed = function.name()
            raise


@contextmanager
def _computed_in(task: Task, precision: Precision) -> Iterator[None]:
    before, task.precision = task.precision, precision
    try:
        yield
    finally:
        task.precision = before


@contextmanager
def _unchanged(model: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Leaves gradients, buffers, random numbers and the mode of the model as they were."""
    training = model.training
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    for parameter, _ in gradients:
        parameter.grad = None
    accelerator = (
        nullcontext()
        if device.type == "cpu"
        else torch.random.fork_rng(range(torch.accelerator.device_count()), device_type=device.type)
    )
    try:
        with torch.random.fork_rng(devices=[]), accelerator:
            yield
    finally:
        model.train(training)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
