"""What is lent is read as it was, whenever training takes it back."""

import threading

import numpy as np
import pytest
import torch

from polyana.models import write_tensors
from polyana.train.lending import Lent


def read(lent, tensor):
    into = bytearray(tensor.nbytes)
    lent.copy(tensor, 0, memoryview(into))
    return np.frombuffer(into, np.float32).tolist()


def test_what_was_taken_back_is_read_as_it_was():
    one, two = torch.full((3,), 1.0), torch.full((2,), 2.0)
    lent = Lent([one, two], lambda: 1000)
    assert read(lent, one) == [1, 1, 1]
    lent.take_back()
    one.fill_(7)
    two.fill_(8)
    assert read(lent, one) == [1, 1, 1], "a second try after an error reads it again"
    assert read(lent, two) == [2, 2]


def test_what_was_given_back_is_not_copied():
    tensor = torch.full((3,), 1.0)
    lent = Lent([tensor], lambda: 1000)
    lent.give_back([tensor])
    lent.take_back()
    tensor.fill_(7)
    assert read(lent, tensor) == [7, 7, 7]


def test_without_memory_for_a_copy_training_waits_until_it_is_read():
    tensor = torch.full((3,), 1.0)
    lent = Lent([tensor], lambda: 11)
    back = threading.Event()
    thread = threading.Thread(target=lambda: (lent.take_back(), back.set()))
    thread.start()
    assert not back.wait(0.1)
    assert read(lent, tensor) == [1, 1, 1]
    lent.give_back([tensor])
    assert back.wait(10)
    thread.join()


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_file_holds_what_was_lent_though_training_goes_on_meanwhile(after, tmp_path):
    """Taken back and changed after so many pieces have been read."""
    tensors = {f"t{index}": torch.randn(1 << 19) for index in range(8)}
    wanted = {name: tensor.clone() for name, tensor in tensors.items()}
    lent, pieces = Lent(tensors.values(), lambda: 1 << 30), 0

    def copy(tensor, first, into):
        nonlocal pieces
        if pieces == after:
            lent.take_back()
            for each in tensors.values():
                each.zero_()
        pieces += 1
        lent.copy(tensor, first, into)

    digest = write_tensors(tmp_path / "ours", tensors, copy)
    assert digest == write_tensors(tmp_path / "wanted", wanted)
