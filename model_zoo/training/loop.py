"""The training loop, shared by every objective.

Everything random in step k is seeded from (seed, k) at its beginning and the learning rate is a function of k, so a
run needs no other memory than weights, optimiser state and k: killed and resumed, it ends with the same weights.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.data import resolve_model_data_config
from timm.layers import PatchDropout, build_sincos2d_pos_embed
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn

import model_zoo.architectures  # noqa: F401  (registers the shipped networks with timm)
from model_zoo.catalog import DECODER
from model_zoo.features import extract, knn_top1
from model_zoo.mae import save_decoder
from model_zoo.reference import step_name
from model_zoo.training.config import Stage, TrainConfig
from model_zoo.training.data import Source, open_source
from model_zoo.training.objective import Objective
from model_zoo.training.optimiser import optimiser_for
from model_zoo.training.outline import head_iou

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "model.safetensors"
POSITION_SCALE = 0.3  # of the sines that positions start from
NEAR_BLOCKS, NEAR_SCALE = 2, 1.5  # blocks that begin by attending near, and how sharply
WATCHED = 1500  # validation images behind the figures of a run
OUTLINED = 300  # of them, those behind the overlap of heads and objects
CONVOLUTIONAL = ("resnet", "hybrid")  # in names of networks that take neither patch dropout nor another size
DROPPING = 0.5  # any rate makes timm build the layer; the stage sets it


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        step, steps: done and in all.
        images: shown so far.
        size: side of the images now.
        loss: mean since the last report.
        rate: images a second since the last report.
        eta: seconds left, if a patch always costs what it cost since the last report.
        metrics: of the last batch; ``val_*`` on validation images when they were just taken.
        model: what would be exported now. It trains on: whoever wants to look into it copies it first.
    """

    step: int
    steps: int
    images: int
    size: int
    loss: float
    rate: float
    eta: float
    metrics: dict[str, float]
    model: nn.Module


class Normalise(nn.Module):
    """From [0, 1] to the range the model was made for."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Subtracts the mean and divides by the standard deviation."""
        return (images - self.mean) / self.std


def build_student(config: TrainConfig, classes: int) -> nn.Module:
    """The untrained network, its weights drawn from the configuration's seed."""
    torch.manual_seed(config.seed)
    arguments = dict(config.arguments)
    if not any(kind in config.architecture for kind in CONVOLUTIONAL):
        arguments |= {"dynamic_img_size": True, "drop_path_rate": config.drop_path, "patch_drop_rate": DROPPING}
    count = classes if config.objective in ("supervised", "distilled") else 0
    student = timm.create_model(config.architecture, num_classes=count, **arguments)
    if config.positions == "sincos":
        _start_from_sines(student, POSITION_SCALE)
    elif config.positions == "near":
        _start_from_sines(student, 1.0)
        _attend_near(student)
    if config.init:
        student.load_state_dict(_read(Path(config.init)))
    return student.to(memory_format=torch.channels_last)


@torch.no_grad()
def _start_from_sines(student: Any, scale: float) -> None:
    """Position embeddings of the patches from sines and cosines, row and column in half of the width each."""
    sines = build_sincos2d_pos_embed(list(student.patch_embed.grid_size), student.embed_dim)
    student.pos_embed[:, -len(sines) :] = scale * sines


@torch.no_grad()
def _attend_near(student: Any) -> None:
    """Queries and keys of the first blocks from one projection, so that tokens alike, near ones among them, attend.

    Reference:
        Trockman and Kolter 2023, "Mimetic initialization of self-attention layers", arXiv:2305.09828.
    """
    for block in student.blocks[:NEAR_BLOCKS]:
        width, attention = student.embed_dim, block.attn
        for head in range(attention.num_heads):
            rows = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
            basis = torch.linalg.qr(torch.randn(width, attention.head_dim))[0].T * NEAR_SCALE
            attention.qkv.weight[rows] = basis
            attention.qkv.weight[width:][rows] = basis


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"expected a safetensors file to start from, found none at {path}")
    return {name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()}


def build_objective(config: TrainConfig, source: Source, device: torch.device) -> Objective:
    """The objective around a fresh student."""
    student = build_student(config, len(source.classes))
    range_ = resolve_model_data_config(student)
    normalise = Normalise(range_["mean"], range_["std"])
    objective: Objective
    if config.objective == "supervised":
        from model_zoo.training.supervised import Supervised

        objective = Supervised(student, normalise, **config.options)
    elif config.objective == "distilled":
        from model_zoo.training.distilled import Distilled

        teacher, size = _load_teacher(config.teacher)
        objective = Distilled(student, normalise, teacher, size, **config.options)
    elif config.objective == "dino":
        from model_zoo.training.dino import Dino

        objective = Dino(student, normalise, **config.options)
    else:
        from model_zoo.training.mae import MaskedAutoencoder

        objective = MaskedAutoencoder(student, normalise, **config.options)
    return objective.to(device)


def _load_teacher(folder: str) -> tuple[nn.Module, int]:
    """The trained network of a run's folder, and the side of the images it was trained on last."""
    root = Path(folder)
    if not folder or not (root / WEIGHTS).is_file():
        raise ValueError(f"distillation needs a trained teacher's folder with {WEIGHTS}, got {folder!r}")
    card = json.loads((root / "config.json").read_text())
    weights = _read(root / WEIGHTS)
    counts = [len(value) for name, value in weights.items() if name.endswith(("fc.bias", "head.bias"))]
    teacher = timm.create_model(card["architecture"], num_classes=counts[0], **card["arguments"])
    teacher.load_state_dict(weights)
    return teacher, TrainConfig.from_json(card).stages[-1].size


def train(
    config: TrainConfig,
    out: Path | None = None,
    device: torch.device | str = "cpu",
    resume: bool = False,
    report_every: int = 20,
    validate_every: int = 0,
    checkpoint_seconds: float = 60.0,
    compile: bool = False,
) -> Iterator[Progress]:
    """Trains and reports; stop iterating to cancel between steps.

    Args:
        config: what to train.
        out: folder for checkpoint, snapshots and final weights; nothing is written without one.
        device: where.
        resume: go on from the checkpoint in ``out`` if there is one.
        report_every: steps between reports.
        validate_every: steps between figures on validation images (top-1, or k-NN of the features); 0 never.
        checkpoint_seconds: time between checkpoints.
        compile: run the student through torch.compile, which needs a C compiler on CPU.

    Yields:
        Progress, also at the last step.

    Raises:
        ValueError: if the checkpoint belongs to another configuration.
    """
    device = torch.device(device)
    correlations = {stage: _correlation(config, stage) for stage in config.stages}
    sources = {
        value: open_source(config.data, config.seed, value, config.photographs, config.positives)
        for value in set(correlations.values())
    }
    source = sources[correlations[config.stages[0]]]
    objective = build_objective(config, source, device)
    optimiser = optimiser_for(objective, config.optimiser, config.lr, config.weight_decay)
    scheduler = CosineLRScheduler(
        optimiser,
        t_initial=config.steps,
        lr_min=config.min_lr,
        warmup_t=round(config.warmup * config.steps),
        warmup_lr_init=config.min_lr,
        t_in_epochs=False,
    )
    averaged = config.ema_decay > 0 and config.objective != "dino"
    decoder = objective.decodes()
    kept = nn.ModuleList([objective.exported(), *([decoder] if decoder else [])])
    ema = ModelEmaV3(kept, decay=config.ema_decay, use_warmup=True) if averaged else None

    first = 0
    if resume and out and (out / CHECKPOINT).is_file():
        saved = torch.load(out / CHECKPOINT, map_location=device, weights_only=True)
        if json.loads(saved["config"]) != json.loads(json.dumps(config.to_json())):
            raise ValueError(f"{out / CHECKPOINT} was made with other settings; use them, or another --out")
        objective.load_state_dict(saved["objective"])
        optimiser.load_state_dict(saved["optimiser"])
        if ema and saved["ema"] is not None:
            ema.module.load_state_dict(saved["ema"])
        first = saved["step"]
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(json.dumps(config.to_json(), indent=2) + "\n")

    def exported() -> nn.Module:
        return ema.module[0] if ema else objective.exported()

    keep = {round(share * config.steps) for share in config.snapshots}
    if out and first == 0 and 0 in keep:
        save_weights(exported(), out / "snapshots" / f"{step_name(0)}.safetensors")
    if compile:
        objective.student.compile()
    saved_at = reported_at = time.monotonic()
    losses: list[float] = []
    for step in range(first, config.steps):
        torch.manual_seed((config.seed * 1_000_003 + step + 1) % 2**63)
        stage, difficulty, texture = config.stage_at(step)
        scheduler.step_update(step)
        objective.train()
        for module in objective.modules():
            if isinstance(module, PatchDropout):
                module.prob = stage.drop
        source = sources[correlations[stage]]
        views, labels = source.views(
            step, config.batch_size, stage.size, difficulty, objective.views, device, texture=texture
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            loss, metrics = objective(views, labels, step / config.steps)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in objective.parameters() if p.requires_grad], 1.0)
        optimiser.step()
        objective.after_step(step / config.steps)
        if ema:
            ema.update(kept, step=step)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss is {losses[-1]} at step {step}; lower the learning rate")
        done = step + 1
        last = done == config.steps
        if out and done in keep:
            save_weights(exported(), out / "snapshots" / f"{step_name(done)}.safetensors")
        now = time.monotonic()
        if out and (last or now - saved_at > checkpoint_seconds):
            _checkpoint(out / CHECKPOINT, objective, optimiser, ema, done, config)
            saved_at = now
        if last and out:
            save_weights(exported(), out / WEIGHTS)
            if decoder:
                save_decoder(ema.module[1] if ema else decoder, out / DECODER)
        validating = validate_every and (done % validate_every == 0 or last)
        if last or validating or done % report_every == 0:
            spent = max(now - reported_at, 1e-9)
            if validating:
                metrics = metrics | _validate(
                    config, exported(), source, stage.size, difficulty, texture, device, objective
                )
            rate = len(losses) * config.batch_size / spent
            yield Progress(
                step=done,
                steps=config.steps,
                images=done * config.batch_size,
                size=stage.size,
                loss=sum(losses) / len(losses),
                rate=rate,
                eta=_remaining_cost(config, done) / stage.cost / rate,
                metrics=metrics,
                model=exported(),
            )
            losses, reported_at = [], time.monotonic()


def _correlation(config: TrainConfig, stage: Stage) -> float:
    return config.surface_correlation if stage.surface_correlation is None else stage.surface_correlation


def _remaining_cost(config: TrainConfig, done: int) -> float:
    """What is still to be seen, in patches up to a factor."""
    cost, passed = 0.0, 0
    for stage, steps in zip(config.stages, config.stage_steps, strict=True):
        left = steps - min(steps, max(0, done - passed))
        cost += left * config.batch_size * stage.cost
        passed += steps
    return cost


@torch.no_grad()
def _validate(
    config: TrainConfig,
    model: nn.Module,
    source: Source,
    size: int,
    difficulty: float,
    texture: float,
    device: torch.device,
    objective: Objective,
) -> dict[str, float]:
    images, labels = source.validation(WATCHED, size, difficulty, device, texture)
    images = objective.normalise(images)
    was_training = model.training
    model.eval()
    try:
        if config.objective in ("supervised", "distilled"):
            count = min(512, len(images))
            logits = torch.cat([model(part) for part in images[:count].split(64)])
            return {"val_top1": (logits.argmax(1) == labels[:count]).float().mean().item()}
        code = extract(model, images)
        cut = len(labels) * 2 // 3
        figures = {}
        for name, features in code.items():
            figures[f"val_knn_{name}"] = knn_top1(features[:cut], labels[:cut], features[cut:], labels[cut:])
        scenes = source.masked(OUTLINED, _full_size(model), device)
        if scenes is None or "cls" not in code:
            return figures
        overlap = head_iou(model, objective.normalise(scenes[0]), scenes[1])
        return figures | {"val_iou": overlap.mean(0).max().item()}
    finally:
        model.train(was_training)


def _full_size(model: Any) -> int:
    """Side of the images that the model is made for."""
    return int(resolve_model_data_config(model)["input_size"][-1])


def save_weights(model: nn.Module, path: Path) -> None:
    """Writes the weights as float16 safetensors, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        name: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    partial = path.with_suffix(".partial")
    save_file(state, partial, metadata={"format": "pt"})
    partial.replace(path)


def _checkpoint(
    path: Path,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    ema: ModelEmaV3 | None,
    step: int,
    config: TrainConfig,
) -> None:
    state: dict[str, Any] = {
        "objective": objective.state_dict(),
        "optimiser": optimiser.state_dict(),
        "ema": ema.module.state_dict() if ema else None,
        "step": step,
        "config": json.dumps(config.to_json()),
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
