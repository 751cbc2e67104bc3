"""Self-tests of the engines.

An engine runs a convolution only after it has reproduced random and worst-case whole numbers of
that convolution on this machine.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ad.exact.engines import BYTE, Conv, Reference, exact_float32, finish

# (in, out, kernel, stride, groups) of the convolutions that an engine is tried on.
TRIALS = (
    (3, 8, 3, 2, 1),
    (16, 24, 1, 1, 1),
    (832, 16, 1, 1, 1),
    (64, 33, 3, 1, 1),
    (32, 16, 1, 2, 1),
    (32, 32, 3, 1, 4),
    (24, 24, 3, 2, 24),
    (40, 40, 5, 1, 40),
)
LARGER = 48  # pixels a side


def _trial(spec: tuple[int, ...], source: tuple[int, int], *, worst: bool) -> Conv:
    """Make a convolution whose weights are random, or of one sign a channel and the largest."""
    n_in, n_out, kernel, stride, groups = spec
    rng = np.random.default_rng(n_in * n_out * kernel)
    fan_in, most = n_in // groups * kernel**2, max(map(abs, source))
    peak = min(127, (2**24 - 1) // (fan_in * most))
    weight = rng.integers(-peak, peak + 1, (n_out, n_in // groups, kernel, kernel))
    if worst:
        weight[::2], weight[1::2] = peak, -peak
    largest = int(np.abs(weight[0]).sum()) * most
    room = 2**24 - 1 - largest if worst else largest // 4
    return Conv(
        name="trial",
        sources=("x",),
        target="y",
        weight=weight.astype(np.int8),
        bias=rng.integers(-room, room + 1, n_out).astype(np.int32),
        shift=rng.integers(1, largest.bit_length() - 5, n_out).astype(np.int16),
        stride=(stride, stride),
        padding=(kernel // 2, kernel // 2),
        groups=groups,
        low=BYTE[0] * int(rng.integers(2)),
    )


def _inputs(conv: Conv, source: tuple[int, int], larger: int) -> Tensor:
    """Make maps of both ends of the range, of random ends, and of random values."""
    rng = np.random.default_rng(0)
    low, high = source
    kernel = conv.weight.shape[2:]
    sides = [(kernel[i] - 1) * conv.dilation[i] + 1 + conv.stride[i] for i in (0, 1)]
    if kernel == (1, 1):  # for smaller maps the weights would be packed anew, at length
        sides = [8, 8]
    shape = (4, conv.weight.shape[1] * conv.groups, *(side + larger for side in sides))
    maps = rng.integers(low, high + 1, shape)
    maps[0], maps[1], maps[2] = high, low, rng.choice(source, shape[1:])
    dtype = torch.int8 if high <= BYTE[1] else torch.int16
    return torch.from_numpy(maps).to(dtype, memory_format=torch.channels_last)


def reproduces(
    engine: type, conv: Conv, source: tuple[int, int], device: str, *, larger: int = 0
) -> bool:
    """Tell whether an engine gives a convolution's exact sums and results on inputs of a range.

    On the smallest maps, or on ones whose sides have ``larger`` pixels more.
    """
    inputs = _inputs(conv, source, larger)
    sums = Reference(conv, source, "cpu").sums(inputs)
    try:
        ready, inputs = engine(conv, source, device), inputs.to(device)
        found, found_sums = ready(inputs).cpu(), ready.sums(inputs).cpu()
    except (AttributeError, RuntimeError, TypeError):
        return False  # this build of PyTorch has no such operator, or with another signature
    return torch.equal(found_sums.to(sums), sums) and torch.equal(
        found, finish(sums, conv.low, conv.high)
    )


def passes_trials(engine: type, source: tuple[int, int], device: str) -> bool:
    """Tell whether an engine is exact for random and worst-case weights of `TRIALS`.

    On small maps and on `LARGER` ones: libraries choose an algorithm by a map's size.
    """
    return all(
        reproduces(engine, _trial(spec, source, worst=worst), source, device, larger=larger)
        for spec in TRIALS
        for worst, larger in ((False, 0), (True, 0), (False, LARGER))
    )


def exact_engine(
    conv: Conv,
    source: tuple[int, int],
    device: str,
    candidates: Sequence[type],
    trusted: dict[tuple, bool],
) -> type:
    """Find the first engine that is exact in trials and on a convolution itself.

    Parameters
    ----------
    conv : Conv
    source : tuple of int
        Smallest and largest value of its input.
    device : str
    candidates : sequence of engine classes
        Best first.
    trusted : dict
        Outcomes of the trials so far; filled.

    Raises
    ------
    RuntimeError
        When none is exact.
    """
    with torch.inference_mode(), exact_float32():
        for engine in candidates:
            if not engine.takes(source, device):
                continue
            key = (engine, source)
            if key not in trusted:
                trusted[key] = passes_trials(engine, source, device)
            if trusted[key] and reproduces(engine, conv, source, device):
                return engine
    raise RuntimeError(
        f"no convolution on {device} reproduces the whole numbers of layer {conv.name} exactly; "
        f"set backbone.arithmetic: float32, or check this build of PyTorch {torch.__version__}"
    )
