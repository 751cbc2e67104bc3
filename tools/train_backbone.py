"""Train the embedded backbone: teach a small network to copy an ImageNet network's maps.

The student learns to reproduce the teacher's maps of layer2 and layer3 on images that
``synthetic_images`` draws.  No photograph is used here.  Example::

    python -m tools.train_backbone --teacher hub

An interrupted run continues with the same command and ``--resume``, on the same trajectory.
Everything random is a function of (seed, step), so a checkpoint holds no generator state.  Each
batch is split into shards, one thread each: the result does not depend on the number of threads,
and a busy machine slows the run down without stalling it at every operation.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from ad.backbone import Backbone, load_backbone
from ad.determinism import (
    available_cores,
    one_thread_per_operation,
    resolve_device,
    seeded_torch,
    set_determinism,
)
from ad.files import atomic_path, read_csv, write_csv
from tools.synthetic_images import draw_image

LAYERS = ("layer2", "layer3")
CANVAS = 256  # side of a drawn image, pixels
# Seeds of images that no training step sees, whatever --seed is.
HELD_OUT_SEED, STATISTICS_SEED = 2_000_000_011, 2_000_000_033
TRAIN_SEED_LIMIT = 2_000_000_000
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)  # ImageNet's, as at use
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
LOG_HEADER = (
    "step",
    "side",
    "batch",
    "learning_rate",
    "train_loss",
    "held_out_loss",
    "held_out_layer2",
    "held_out_layer3",
    "minutes",
)


@dataclass(frozen=True)
class Settings:
    """All that decides the trajectory; two runs with equal settings give equal weights."""

    student: str = "resnet10t"
    teacher_name: str = "resnet18"
    steps: int = 6000
    learning_rate: float = 2e-3
    warmup: int = 100  # steps of linear warm-up
    weight_decay: float = 0.02
    side: int = 128  # pixels
    batch: int = 32
    late_side: int = 224  # pixels, as in the study; in the last part and for held-out images
    late_batch: int = 11
    late_fraction: float = 0.3
    pool: int = 768  # drawn images kept in memory
    fresh: int = 4  # images drawn anew each step
    average_decay: float = 0.999
    held_out: int = 96  # images
    statistics: int = 192  # images for teacher statistics and final batch-norm statistics
    shards: int = 2  # parts of a batch that run side by side, with their own batch statistics
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if not 0 <= self.seed < TRAIN_SEED_LIMIT:
            raise ValueError(f"seed={self.seed} should be in 0..{TRAIN_SEED_LIMIT - 1}")
        if self.pool < max(self.batch, self.late_batch, self.fresh):
            raise ValueError(f"pool={self.pool} is smaller than a batch or fresh={self.fresh}")
        if max(self.side, self.late_side) > CANVAS:
            raise ValueError(f"side={self.side}, late_side={self.late_side} exceed {CANVAS}")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision={self.precision!r} is neither float32 nor bfloat16")

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then cosine to zero at the last step."""
        warm = min(1.0, (step + 1) / max(self.warmup, 1))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def side_and_batch_at(self, step: int) -> tuple[int, int]:
        """Small crops first; crops of the study's size in the last part."""
        if step < (1 - self.late_fraction) * self.steps:
            return self.side, self.batch
        return self.late_side, self.late_batch


class ImagePool:
    """A ring of drawn images; each step replaces the oldest few.

    Its content at a step is a function of the seed and the step alone.
    """

    def __init__(self, settings: Settings, step: int, workers: ThreadPoolExecutor) -> None:
        self.settings = settings
        self.images = np.empty((settings.pool, CANVAS, CANVAS, 3), np.uint8)
        first = step * settings.fresh
        list(workers.map(self.draw, range(first, first + settings.pool)))

    def draw(self, number: int) -> None:
        """Draw one image into its place."""
        image = draw_image(number, seed=self.settings.seed, size=CANVAS)
        self.images[number % self.settings.pool] = image

    def due_after(self, step: int) -> range:
        """Numbers of the images that come in after ``step``."""
        first = step * self.settings.fresh + self.settings.pool
        return range(first, first + self.settings.fresh)


def random_view(rng: np.random.Generator, image: np.ndarray, side: int) -> np.ndarray:
    """Cut, scale, flip, transpose and recolour one image; (side, side, 3) uint8."""
    full = image.shape[0]
    cut = int(np.exp(rng.uniform(np.log(0.8 * side), np.log(full))))
    top, left = rng.integers(0, full - cut + 1, 2)
    view = image[top : top + cut, left : left + cut]
    if cut != side:
        method = cv2.INTER_AREA if cut > side else cv2.INTER_LINEAR
        view = cv2.resize(view, (side, side), interpolation=method)
    if rng.random() < 0.5:
        view = view[::-1]
    if rng.random() < 0.5:
        view = view[:, ::-1]
    if rng.random() < 0.5:
        view = view.transpose(1, 0, 2)
    if rng.random() < 0.5:
        view = view[:, :, rng.permutation(3)]
    if rng.random() < 0.5:
        gain, offset = rng.uniform(0.6, 1.4, 3), rng.uniform(-30, 30)
        table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)
        view = np.stack([table[view[..., c], c] for c in range(3)], axis=-1)
    return view


def training_batch(pool: ImagePool, settings: Settings, step: int) -> np.ndarray:
    """Cut one batch from the pool; (batch, side, side, 3) uint8, a function of (seed, step)."""
    side, batch = settings.side_and_batch_at(step)
    rng = np.random.default_rng([settings.seed, step, 1])
    chosen = rng.choice(settings.pool, batch, replace=False)
    views = np.stack([random_view(rng, pool.images[i], side) for i in chosen])
    for i in range(batch):
        other = views[rng.integers(batch)]
        action = rng.random()
        if action < 0.15:  # paste a piece of another view
            h, w = rng.integers(side // 5, side, 2)
            y, x = rng.integers(0, side - h), rng.integers(0, side - w)
            views[i, y : y + h, x : x + w] = other[y : y + h, x : x + w]
        elif action < 0.25:  # double exposure
            share = rng.uniform(0.1, 0.5)
            views[i] = cv2.addWeighted(np.ascontiguousarray(views[i]), 1 - share, other, share, 0)
    return views


def to_input(images: np.ndarray, device: str) -> Tensor:
    """(n, h, w, 3) uint8 to normalised (n, 3, h, w) float32; channels last in memory."""
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255
    return (pixels - MEAN.to(device)) / STD.to(device)


def fixed_images(n: int, workers: ThreadPoolExecutor, *, seed: int, side: int) -> np.ndarray:
    """Draw the first ``n`` images of a sequence, cut to the centre; (n, side, side, 3) uint8."""
    margin = (CANVAS - side) // 2
    images = list(workers.map(lambda i: draw_image(i, seed=seed, size=CANVAS), range(n)))
    return np.stack(images)[:, margin : margin + side, margin : margin + side]


def chunks(images: np.ndarray) -> list[np.ndarray]:
    """Split images into groups of 16, to bound the memory of a forward pass."""
    return np.split(images, range(16, len(images), 16))


class Distillation:
    """Teacher, student, its moving average and the optimiser; one step at a time.

    Parameters
    ----------
    settings : Settings
    teacher : Backbone
        Returns the maps of ``LAYERS``.
    device : str
        ``"cpu"`` or ``"cuda"``.
    workers : ThreadPoolExecutor
        Threads for shards and drawing; their number changes the speed only.
    """

    def __init__(
        self, settings: Settings, teacher: Backbone, device: str, workers: ThreadPoolExecutor
    ) -> None:
        self.settings = settings
        self.workers = workers
        self.device = device
        self.step = 0
        self.teacher = teacher
        self.teacher.model.to(device=device, memory_format=torch.channels_last)
        self.student = self._new_student(settings.seed).train()
        for norm in _norms(self.student):
            # Training uses batch statistics alone: running ones would be a race of the shards.
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = norm.num_batches_tracked = None
        self.average = {k: p.detach().clone() for k, p in self.student.named_parameters()}
        decayed = [p for p in self.student.parameters() if p.ndim > 1]
        plain = [p for p in self.student.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            fused=True,
        )
        side = settings.late_side
        self.held_out, self.statistics = (
            fixed_images(n, workers, seed=seed, side=side)
            for n, seed in (
                (settings.held_out, HELD_OUT_SEED),
                (settings.statistics, STATISTICS_SEED),
            )
        )
        self.deviations = self._teacher_deviations()

    def _new_student(self, seed: int) -> nn.Module:
        with seeded_torch(seed):
            student = timm.create_model(
                self.settings.student, features_only=True, out_indices=(2, 3)
            )
        return student.to(device=self.device, memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        enabled = self.settings.precision == "bfloat16"
        # The cache of cast weights would be shared by the shards' threads.
        return torch.autocast(self.device, torch.bfloat16, enabled=enabled, cache_enabled=False)

    def _targets(self, inputs: Tensor) -> list[Tensor]:
        with torch.no_grad(), self._autocast():
            return self.teacher(inputs)

    def _teacher_deviations(self) -> list[Tensor]:
        """Measure each teacher channel's deviation on drawn images; (1, c, 1, 1) a layer."""
        sums, squares, count = [0.0, 0.0], [0.0, 0.0], [0, 0]
        for chunk in chunks(self.statistics):
            for i, values in enumerate(self._targets(to_input(chunk, self.device))):
                values = values.double()
                sums[i] = sums[i] + values.sum((0, 2, 3), keepdim=True)
                squares[i] = squares[i] + values.square().sum((0, 2, 3), keepdim=True)
                count[i] += values[:, 0].numel()
        deviations = []
        for first, second, n in zip(sums, squares, count, strict=True):
            deviation = (second / n - (first / n).square()).clamp_min(0).sqrt()
            deviation = deviation.clamp_min(0.1 * deviation.median())  # near-silent channels
            deviations.append(deviation.float())
        return deviations

    def _losses(self, maps: Sequence[Tensor], targets: Sequence[Tensor]) -> list[Tensor]:
        """Smooth L1 per layer between maps, in units of the teacher's channel deviation."""
        return [
            functional.smooth_l1_loss(values.float() / deviation, target.float() / deviation)
            for values, target, deviation in zip(maps, targets, self.deviations, strict=True)
        ]

    def _shard_gradients(self, images: np.ndarray) -> tuple[float, tuple[Tensor, ...]]:
        inputs = to_input(images, self.device)
        targets = self._targets(inputs)
        with self._autocast():
            maps = self.student(inputs)
        loss = sum(self._losses(maps, targets))
        return float(loss.detach()), torch.autograd.grad(loss, list(self.student.parameters()))

    def train_step(self, images: np.ndarray) -> float:
        """One update on (n, h, w, 3) uint8 images; returns the loss, the sum over layers."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate_at(self.step)
        shards = np.array_split(images, self.settings.shards)
        results = list(self.workers.map(self._shard_gradients, shards))
        shares = [len(shard) / len(images) for shard in shards]
        for i, parameter in enumerate(self.student.parameters()):
            # The fused optimiser walks memory, so every tensor needs its parameter's strides.
            mean = sum(w * g[i] for w, (_, g) in zip(shares, results, strict=True))
            parameter.grad = torch.empty_like(parameter).copy_(mean)
        self.optimiser.step()
        self.step += 1
        # A short memory at first, so that the random start is forgotten.
        decay = min(self.settings.average_decay, self.step / (self.step + 10))
        with torch.no_grad():
            averages = list(self.average.values())
            torch._foreach_lerp_(averages, list(self.student.parameters()), 1 - decay)
        return sum(w * loss for w, (loss, _) in zip(shares, results, strict=True))

    def averaged_student(self) -> nn.Module:
        """Return the averaged weights with batch-norm statistics estimated anew for them."""
        network = self._new_student(self.settings.seed)
        with torch.no_grad():
            for key, parameter in network.named_parameters():
                parameter.copy_(self.average[key])
        for norm in _norms(network):
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average over the batches below
        network.train()
        with torch.no_grad():
            for chunk in chunks(self.statistics):
                network(to_input(chunk, self.device))
        return network.eval()

    def held_out_losses(self, network: nn.Module) -> list[float]:
        """Mean loss per layer on the held-out drawn images, in float32, at the study's size."""

        def weighed(chunk: np.ndarray) -> np.ndarray:
            with torch.no_grad():  # a thread's own switch
                inputs = to_input(chunk, self.device)
                losses = self._losses(network(inputs), self.teacher(inputs))
            return len(chunk) * np.array([float(loss) for loss in losses])

        total = sum(self.workers.map(weighed, chunks(self.held_out)))
        return (total / len(self.held_out)).tolist()

    def save(self, path: Path) -> None:
        """Write one checkpoint file; the settings and the step stand in its header as JSON."""
        tensors = {f"student.{k}": v for k, v in self.student.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for key, parameter in self.student.named_parameters():
            for name, value in self.optimiser.state[parameter].items():
                tensors[f"optimiser.{name}.{key}"] = value
        state = {"step": self.step, "settings": asdict(self.settings)}
        write_safetensors(path, tensors, {"state": json.dumps(state)})

    def load(self, path: Path) -> None:
        """Continue from a checkpoint of the same settings."""
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["state"])
        own = asdict(self.settings)
        if header["settings"] != own:
            differing = {k: (header["settings"].get(k), v) for k, v in own.items()}
            differing = {k: v for k, v in differing.items() if v[0] != v[1]}
            raise ValueError(f"{path.name} was made with other settings (its, now): {differing}")
        tensors = load_file(path, device=self.device)
        self.step = header["step"]
        self.student.load_state_dict(
            {k: tensors[f"student.{k}"] for k in self.student.state_dict()}
        )
        for key, parameter in self.student.named_parameters():
            self.average[key].copy_(tensors[f"average.{key}"])
            state = {"step": tensors[f"optimiser.step.{key}"]}
            for name in ("exp_avg", "exp_avg_sq"):
                saved = tensors[f"optimiser.{name}.{key}"]
                state[name] = torch.empty_like(parameter.detach()).copy_(saved)
            self.optimiser.state[parameter] = state

    def start_from(self, path: Path) -> None:
        """Take exported weights as the start of a further cycle."""
        state = {k: v.float() for k, v in load_file(path, device=self.device).items()}
        with torch.no_grad():
            for key, parameter in self.student.named_parameters():
                parameter.copy_(state[key])
                self.average[key].copy_(state[key])


def _norms(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors atomically; equal content gives equal bytes."""
    content = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata)
    # The library writes metadata in no fixed order; sorted, the header keeps its length.
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
    if len(text) != length:
        raise ValueError(f"{path.name}: header of {len(text)} bytes should have {length}")
    with atomic_path(path) as partial:
        partial.write_bytes(content[:8] + text + content[8 + length :])


def export(network: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write a student in half precision under timm's key names.

    Raises
    ------
    ValueError
        When a value does not fit half precision.
    """
    tensors = {}
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        tensors[key] = value.half()
        if not torch.isfinite(tensors[key]).all():
            raise ValueError(f"{key}: values up to {float(value.abs().max()):g} exceed float16")
    write_safetensors(path, tensors, metadata)


def describe(settings: Settings, teacher: Backbone, step: int, losses: Sequence[float]) -> dict:
    """Metadata of the exported file; strings only, as safetensors asks."""
    return {
        "architecture": f"timm {settings.student}, up to {LAYERS[-1]}",
        "teacher": f"timm {settings.teacher_name}: {teacher.weights_source}",
        "training_images": "drawn by tools/synthetic_images.py; no photograph",
        "steps": str(step),
        "seed": str(settings.seed),
        "held_out_loss": f"{sum(losses):.4f}",
        "licence": "MIT; distilled from BSD-3-Clause weights",
        "timm": timm.__version__,
    }


def train(
    settings: Settings,
    teacher: Backbone,
    *,
    work: Path,
    weights: Path,
    log: Path,
    device: str = "cpu",
    threads: int = 1,
    resume: bool = False,
    start_from: Path | None = None,
    stop_at: int | None = None,
    log_every: int = 250,
    export_minutes: float = 10.0,
    quiet: bool = False,
) -> Distillation:
    """Run or continue a training; returns its final state.

    Parameters
    ----------
    settings : Settings
    teacher : Backbone
    work : path
        Folder of the checkpoint, ``checkpoint.safetensors``.
    weights, log : path
        The exported network and the table of losses.
    device : str
    threads : int
        Changes the speed, not the result.
    resume : bool
        Continue from the checkpoint in ``work``.
    start_from : path, optional
        Exported weights to start from instead of random ones.
    stop_at : int, optional
        Stop after this step with a checkpoint, without an end to the schedule.
    log_every : int
        Steps between lines of the log; each comes with a checkpoint and a held-out loss.
    export_minutes : float
        Least time between exports before the last.
    quiet : bool
        No progress bar.
    """
    with (
        one_thread_per_operation(),
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as workers,
    ):
        run = Distillation(settings, teacher, device, workers)
        checkpoint = work / "checkpoint.safetensors"
        rows: list[list] = []
        if resume:
            run.load(checkpoint)
            rows = [list(r.values()) for r in read_csv(log) if int(r["step"]) <= run.step]
        elif start_from is not None:
            run.start_from(start_from)
        earlier = float(rows[-1][-1]) if rows else 0.0
        pool = ImagePool(settings, run.step, workers)
        began = last_export = time.monotonic()
        recent: list[float] = []
        end = min(settings.steps, stop_at or settings.steps)
        progress = tqdm(total=settings.steps, initial=run.step, disable=quiet, mininterval=5)
        while run.step < end:
            step, rate = run.step, settings.learning_rate_at(run.step)
            images = training_batch(pool, settings, step)
            drawing = [workers.submit(pool.draw, number) for number in pool.due_after(step)]
            recent.append(run.train_step(images))
            for future in drawing:
                future.result()
            if not math.isfinite(recent[-1]):
                raise ValueError(f"step {step}: loss is {recent[-1]}; lower learning_rate={rate:g}")
            progress.update()
            progress.set_postfix(loss=f"{recent[-1]:.3f}", refresh=False)
            if run.step % log_every and run.step != end:
                continue
            network = run.averaged_student()
            losses = run.held_out_losses(network)
            minutes = earlier + (time.monotonic() - began) / 60
            rows.append(
                [run.step, images.shape[1], len(images), f"{rate:.3e}"]
                + [f"{v:.4f}" for v in (np.mean(recent), sum(losses), *losses)]
                + [f"{minutes:.1f}"]
            )
            recent.clear()
            write_csv(log, LOG_HEADER, rows)
            run.save(checkpoint)
            if run.step == settings.steps or time.monotonic() - last_export > 60 * export_minutes:
                export(network, weights, describe(settings, teacher, run.step, losses))
                last_export = time.monotonic()
            progress.write(f"step {run.step}: held-out loss {sum(losses):.4f}")
        progress.close()
    return run


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; every field of ``Settings`` is an option."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", required=True, help="'hub' or a .safetensors file")
    parser.add_argument("--work", type=Path, default=Path("build/backbone"))
    parser.add_argument("--weights", type=Path, default=Path("build/backbone/student.safetensors"))
    parser.add_argument("--log", type=Path, default=Path("build/backbone/log.csv"))
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--resume", action="store_true", help="continue from --work's checkpoint")
    parser.add_argument("--start-from", type=Path, help="exported weights to start from")
    parser.add_argument("--stop-at", type=int, help="stop after this step, to be resumed")
    parser.add_argument("--log-every", type=int, default=250, help="steps")
    parser.add_argument("--export-minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=available_cores(), help="speed only")
    for field in fields(Settings):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(field.default), default=field.default)
    return parser.parse_args(arguments)


def main() -> None:
    """Train as the command line says."""
    options = parse()
    settings = Settings(**{f.name: getattr(options, f.name) for f in fields(Settings)})
    set_determinism(settings.seed, options.threads)
    teacher = load_backbone(settings.teacher_name, weights=options.teacher, layers=LAYERS)
    train(
        settings,
        teacher,
        work=options.work,
        weights=options.weights,
        log=options.log,
        device=resolve_device(options.device),
        threads=options.threads,
        resume=options.resume,
        start_from=options.start_from,
        stop_at=options.stop_at,
        log_every=options.log_every,
        export_minutes=options.export_minutes,
    )


if __name__ == "__main__":
    main()
