"""Seeds, threads, hashes and the fingerprint of a run."""

import getpass
import hashlib
import json
import os
import random
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from ad import determinism
from ad.determinism import (
    available_cores,
    one_thread_per_operation,
    resolve_device,
    seeded_torch,
    set_determinism,
    sha256_array,
)
from ad.environment import cpu_model, fingerprint
from ad.parallel import chunk_map


def draws() -> tuple[list[float], list[float], list[float]]:
    return (
        [random.random() for _ in range(3)],
        np.random.random(3).tolist(),  # noqa: NPY002 - the global generator is what is tested
        torch.rand(3).tolist(),
    )


# Seeds


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_a_seed_gives_equal_draws_of_every_generator(seed: int):
    set_determinism(seed, 1)
    first = draws()
    draws()
    set_determinism(seed, 1)
    assert draws() == first
    set_determinism(seed ^ 1, 1)
    assert all(one != other for one, other in zip(draws(), first, strict=True))


def test_operations_that_cannot_be_deterministic_are_refused():
    set_determinism(0, 1)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_seeded_torch_leaves_the_generator_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded_torch(1):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded_torch(1):
        assert torch.equal(torch.rand(3), inside)
    torch.manual_seed(5)
    with pytest.raises(RuntimeError), seeded_torch(2):
        raise RuntimeError
    assert torch.equal(torch.rand(3), expected)


# Threads


def test_threads_are_those_asked_for_or_by_default_every_core_of_this_process(monkeypatch):
    assert 1 <= available_cores() <= os.cpu_count()
    monkeypatch.setattr(determinism, "available_cores", lambda: 3)
    for asked, expected in ((2, 2), (None, 3)):
        assert set_determinism(0, asked) == torch.get_num_threads() == expected


def blas_threads() -> list[int]:
    return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]


def test_one_thread_inside_and_the_old_number_after_an_error_too():
    torch.set_num_threads(3)
    blas_before = blas_threads()
    with pytest.raises(KeyboardInterrupt), one_thread_per_operation() as before:
        assert (before, torch.get_num_threads(), set(blas_threads())) == (3, 1, {1})
        raise KeyboardInterrupt
    assert (torch.get_num_threads(), blas_threads()) == (3, blas_before)


def test_chunks_run_on_many_threads_each_operation_on_one():
    torch.set_num_threads(2)
    meet = threading.Barrier(2, timeout=10)  # passes only if two chunks run at the same time

    def chunk(number: int) -> tuple[int, int]:
        meet.wait()
        return number, torch.get_num_threads()

    with chunk_map() as run:
        results = list(run(chunk, range(6)))
    assert results == [(number, 1) for number in range(6)]
    assert torch.get_num_threads() == 2


def test_chunks_wait_for_their_reader():
    started = []
    with chunk_map(2) as run:
        results = run(lambda number: started.append(number), range(100))
        next(results)
    assert len(started) <= 5  # the first, and a queue of two for each thread


# Hashes


def test_an_arrays_hash_is_that_of_dtype_shape_and_values():
    array = np.array([[1, -2], [3, 4]], dtype="<i4")
    expected = hashlib.sha256(b"<i4(2, 2)" + struct.pack("<4i", 1, -2, 3, 4)).hexdigest()
    assert sha256_array(array) == expected
    assert sha256_array(np.asfortranarray(array)) == expected
    assert sha256_array(array.T.copy().T) == expected
    assert sha256_array(array[::-1][::-1]) == expected
    others = [array.T, array.ravel(), array.astype("<i8"), array.astype("<f4"), array + 1]
    assert len({expected, *map(sha256_array, others)}) == 6


def test_the_hash_of_an_empty_array():
    empty = sha256_array(np.zeros((0, 3), dtype="<f4"))
    assert empty == hashlib.sha256(b"<f4(0, 3)").hexdigest()


# The fingerprint


def test_the_fingerprint_is_plain_and_names_nobody():
    found = fingerprint(threads=2, device="cpu")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["threads"], found["numpy"], found["cpu"]) == (2, np.__version__, cpu_model())
    text = json.dumps(found)
    for name in {socket.gethostname(), str(Path.home()), str(Path.cwd())} - {"localhost", "/"}:
        assert name not in text
    assert getpass.getuser() not in found.values()


# The device


@pytest.mark.parametrize(("there", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_the_gpu_where_there_is_one(monkeypatch, there: bool, expected: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert resolve_device("auto") == expected
    assert resolve_device("cpu") == "cpu"


def test_a_gpu_that_is_not_there(monkeypatch, one_line: Callable):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with one_line(ValueError, "runtime.device=cuda", "no GPU", "auto or cpu"):
        resolve_device("cuda")


def test_cores_are_no_more_than_openmp_is_told(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = available_cores()
    for said, expected in (("1", 1), ("1,4", 1), ("999", cores), ("", cores), ("x", cores)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert available_cores() == expected
