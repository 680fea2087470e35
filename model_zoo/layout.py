"""Where in a native timm model the canonical points lie. The only place that knows timm's module names."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from torch import nn

Kind = Literal["global", "window", "class", "pool"]

AFTER_ATTENTION = {
    "Block": "norm2",
    "EvaBlock": "norm2",
    "LayerScaleBlock": "norm2",
    "SwinTransformerBlock": "norm2",
    "TransformerBlock2d": "norm2",
    "ResPostBlock": "mlp",
    "EvaBlockPostNorm": "mlp",
    "SwinTransformerV2Block": "mlp",
    "ParallelThingsBlock": "ffns.0",
}
"""Blocks that add their attention before their MLP begins, and the submodule that is given the stream in between."""


@dataclass(frozen=True)
class AttentionLayer:
    """One attention layer as the probes see it.

    Attributes:
        name: module path in the native model.
        heads: attention heads.
        grid: patches down and across among the keys.
        prefix: prefix tokens among the keys, before the patches.
        kind: ``global`` (every token asks every token), ``window`` (Swin: patches ask their window), ``class``
            (CaiT: only CLS asks) or ``pool`` (SigLIP: a learned query pools the tokens).
        window: window height and width, patches; (0, 0) where there is none.
        shift: how far the windows are rolled, patches.
        cls: whether the first prefix token is a CLS token; not so in models with registers alone.
        is_distribution: whether a row is non-negative and sums to one; not so where heads are mixed after the softmax.
    """

    name: str
    heads: int
    grid: tuple[int, int]
    prefix: int
    kind: Kind = "global"
    window: tuple[int, int] = (0, 0)
    shift: tuple[int, int] = (0, 0)
    cls: bool = True
    is_distribution: bool = True

    @property
    def keys(self) -> int:
        """Tokens that can be attended to."""
        return self.prefix + self.grid[0] * self.grid[1]

    @property
    def queries(self) -> int:
        """Tokens that ask."""
        return 1 if self.kind in ("class", "pool") else self.keys

    @property
    def has_cls(self) -> bool:
        """Whether query row 0 is the CLS token, or the one query that pools in its stead."""
        return self.kind in ("class", "pool") or (self.cls and self.prefix > 0)

    @property
    def reach(self) -> int:
        """Tokens that one query can attend to: those of its window, or all keys."""
        return self.window[0] * self.window[1] if self.kind == "window" else self.keys

    def shared_by(self, query: str) -> int:
        """Tokens among which the attention of a query, or of the mean of all, is shared out.

        Args:
            query: ``mean`` for the mean over all patches, which reaches every window; else one query's.
        """
        return self.keys if query == "mean" else self.reach


@dataclass(frozen=True)
class Tap:
    """Where an activation is read: the output of a module, or its first input.

    Attributes:
        module: module path.
        side: which end of it.
        prefix: prefix tokens before the patches at this point.
        grid: patches down and across of a three-dimensional activation; (0, 0) where the activation has none.
        channels_last: whether a four-dimensional activation is (batch, height, width, channels).
    """

    module: str
    side: Literal["in", "out"]
    prefix: int
    grid: tuple[int, int] = (0, 0)
    channels_last: bool = False


@dataclass(frozen=True)
class Block:
    """One residual block, or attention that pools what the last block gave, as a lesion sees it.

    Attributes:
        name: module path.
        branches: what the block adds to the residual stream, one part after the other: name of the part
            (``attention`` and ``mlp``; of a residual convolution ``block``) and path of the module that gives it.
        heads: attention heads whose outputs lie side by side before they are projected; 0 where they do not.
        projection: path of the module that projects them.
    """

    name: str
    branches: tuple[tuple[str, str], ...] = ()
    heads: int = 0
    projection: str = ""


@dataclass(frozen=True)
class Layout:
    """What `describe` finds; see `model_zoo.adapter.ModelSpec` for the fields."""

    patch: int
    grid: tuple[int, int]
    prefix: tuple[str, ...]
    layers: tuple[AttentionLayer, ...]
    taps: dict[str, Tap]
    no_attention: str | None
    interrupted: bool = False
    blocks: tuple[Block, ...] = ()


def describe(model: nn.Module, input_size: tuple[int, int]) -> Layout:
    """Find patches, prefix tokens, attention layers and readable points of a timm model.

    The order of ``layers`` is the order in which they run. Facets (``query.L``, ``key.L``, ``value.L``) are read from
    the attention call itself and listed for layers with global attention that runs fused.
    """
    patch = _patch(model)
    grid = (input_size[0] // patch, input_size[1] // patch) if patch else (0, 0)
    prefix = _prefix(model)
    layers = tuple(_attention_layers(model, grid, prefix))
    reason = None if layers else _no_attention(model)
    taps = _taps(model, layers, len(prefix), grid)
    interrupted = _interrupted(model, layers)
    return Layout(patch, grid, prefix, layers, taps, reason, interrupted, _separable(model, layers))


def _no_attention(model: nn.Module) -> str:
    if any("attention" in type(m).__name__.lower() or hasattr(m, "num_heads") for m in model.modules()):
        return "this model does not attend over one sequence of patches, so its rows are no maps that could be compared"
    return "this model is a convolutional network: it has no attention"


def _patch(model: nn.Module) -> int:
    embed: Any = getattr(model, "patch_embed", None) or getattr(model, "pixel_embed", None)
    size = getattr(embed, "patch_size", None)
    if size is None:
        return _cell(model)
    if isinstance(size, tuple) and size[0] != size[1]:
        return 0
    if hasattr(embed, "feat_ratio"):  # counts a convolutional stem, too
        return int(embed.feat_ratio(as_scalar=True))
    return int(size[0] if isinstance(size, tuple) else size)


def _cell(model: Any) -> int:
    """Side of a cell of the first map that a CoAtNet attends over, pixels of the input; 0 in other families."""
    if type(model).__name__ != "MaxxVit":
        return 0
    stages = zip(model.stages, model.feature_info[1:], strict=True)
    return next((int(info["reduction"]) for stage, info in stages if any(map(_over_the_map, stage.blocks))), 0)


def _over_the_map(block: Any) -> bool:
    """Whether a block of a CoAtNet attends from every cell of its map to every other, with a table of positions."""
    return type(block).__name__ == "TransformerBlock2d" and hasattr(block.attn.rel_pos, "window_size")


def _prefix(model: nn.Module) -> tuple[str, ...]:
    count = int(getattr(model, "num_prefix_tokens", 0) or 0)
    names = [n for n, attribute in (("cls", "cls_token"), ("dist", "dist_token")) if _has(model, attribute)]
    names = names[:count]
    return (*names, *(f"reg{i + 1}" for i in range(count - len(names))))


def _has(model: nn.Module, attribute: str) -> bool:
    return getattr(model, attribute, None) is not None


def _attention_layers(model: Any, grid: tuple[int, int], names: tuple[str, ...]) -> Iterator[AttentionLayer]:
    prefix, cls = len(names), "cls" in names
    for name, module in model.named_modules():
        kind = type(module).__name__
        heads = int(getattr(module, "num_heads", 0) or 0)
        if kind == "WindowAttention" and heads:
            block: Any = model.get_submodule(name.rpartition(".")[0])
            if not hasattr(block, "input_resolution"):
                continue
            size, window, shift = (_pair(v) for v in (block.input_resolution, block.window_size, block.shift_size))
            yield AttentionLayer(name, heads, size, 0, "window", window, shift)
        elif kind == "Attention2d":
            if _over_the_map(block := model.get_submodule(name.rpartition(".")[0])):
                yield AttentionLayer(name, heads, _pair(block.attn.rel_pos.window_size), 0, cls=False)
        elif kind == "ClassAttn":
            yield AttentionLayer(name, heads, grid, prefix, "class")
        elif kind in ("TalkingHeadAttn", "GPSA"):  # these run before CLS joins the patches
            yield AttentionLayer(name, heads, grid, 0, is_distribution=kind != "TalkingHeadAttn")
        elif kind == "AttentionPoolLatent" and heads and module.latent_len == 1:
            yield AttentionLayer(name, heads, grid, prefix if model.pool_include_prefix else 0, "pool")
        elif heads and name.endswith((".attn", ".attn_out")) and hasattr(module, "attn_drop") and _plain(model):
            yield AttentionLayer(name, heads, grid, prefix, cls=cls)


def _plain(model: nn.Module) -> bool:
    """Whether every block attends over one sequence of prefix and patches, from the first block to the last."""
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, (nn.ModuleList, nn.Sequential)) or not _patch(model):
        return False
    across_channels = any(type(module).__name__ == "XCA" for module in model.modules())
    return not across_channels and not any(getattr(block, "window_size", 0) for block in blocks)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _blocks(model: Any) -> list[tuple[str, nn.Module]]:
    """Residual blocks with their paths, in the order they run; none where a block carries more than one stream."""
    if hasattr(model, "pixel_embed"):
        return []
    if isinstance(getattr(model, "blocks", None), (nn.ModuleList, nn.Sequential)):
        groups = [("blocks", model.blocks), ("blocks_token_only", getattr(model, "blocks_token_only", ()))]
        return [(f"{path}.{i}", block) for path, group in groups for i, block in enumerate(group)]
    if type(model).__name__ == "MaxxVit":
        return [
            (f"stages.{s}.blocks.{i}", block)
            for s, stage in enumerate(model.stages)
            for i, block in enumerate(stage.blocks)
        ]
    if hasattr(model, "layers") and isinstance(model.layers, (nn.ModuleList, nn.Sequential)):
        return [
            (f"layers.{s}.blocks.{i}", block)
            for s, stage in enumerate(model.layers)
            for i, block in enumerate(getattr(stage, "blocks", ()))
        ]
    stages = [(f"layer{s}", getattr(model, f"layer{s}")) for s in range(1, 5) if hasattr(model, f"layer{s}")]
    return [(f"{path}.{i}", block) for path, stage in stages for i, block in enumerate(stage)]


def _interrupted(model: Any, layers: tuple[AttentionLayer, ...]) -> bool:
    """Whether blocks without attention, as convolutions, lie between attention layers, or their maps shrink."""
    names = {layer.name.rpartition(".")[0] for layer in layers}
    places = [place for place, (path, _) in enumerate(_blocks(model)) if path in names]
    between = any(after - before > 1 for before, after in pairwise(places))
    return between or len({layer.grid for layer in layers}) > 1


def _merges_before(model: nn.Module, path: str) -> bool:
    """Whether a block is the first of a stage that begins by merging patches (Swin)."""
    stage = path.rpartition(".blocks.")[0]
    merging = getattr(model.get_submodule(stage), "downsample", None) if stage and path.endswith(".blocks.0") else None
    return isinstance(merging, nn.Module) and not isinstance(merging, nn.Identity)


def _separable(model: nn.Module, layers: tuple[AttentionLayer, ...]) -> tuple[Block, ...]:
    """The blocks with their branches, and attention outside of them; none where a block's branches are not known."""
    of_block = {layer.name.rpartition(".")[0]: layer for layer in layers}
    found = []
    for path, block in _blocks(model):
        branches = tuple((part, f"{path}.{end}") for part, end in _branches(block))
        if not branches:
            return ()
        found.append(Block(path, branches, *_projection(model, of_block.get(path))))
    alone = [layer for layer in layers if layer.name.rpartition(".")[0] not in {block.name for block in found}]
    return (*found, *(Block(layer.name, (), *_projection(model, layer)) for layer in alone)) if found else ()


def _branches(block: nn.Module) -> list[tuple[str, str]]:
    """Parts of a block, and the module whose output is added to the stream, behind layer scale and norms."""

    def last(*names: str) -> str | None:
        return next((name for name in names if isinstance(getattr(block, name, None), nn.Module)), None)

    if last("attn") and last("mlp"):
        ends = (("attention", last("drop_path1", "attn")), ("mlp", last("drop_path2", "mlp")))
        return [(part, end) for part, end in ends if end]
    end = last("drop_path", "se", "bn3", "bn2")
    return [("block", end)] if last("conv1", "conv1_1x1") and end else []


def _projection(model: nn.Module, layer: AttentionLayer | None) -> tuple[int, str]:
    """Heads that lie side by side in the input of a projection, and its path."""
    if layer is None:
        return 0, ""
    inner = getattr(model.get_submodule(layer.name), "proj", None)
    channels = inputs_of(inner)
    return (layer.heads, f"{layer.name}.proj") if channels and channels % layer.heads == 0 else (0, "")


def inputs_of(projection: nn.Module | None) -> int:
    """Channels that a linear map, or a convolution with a kernel of one cell, reads; 0 where it is neither."""
    if isinstance(projection, nn.Linear):
        return projection.in_features
    if isinstance(projection, nn.Conv2d) and projection.kernel_size == (1, 1) and projection.groups == 1:
        return projection.in_channels
    return 0


def _taps(model: nn.Module, layers: tuple[AttentionLayer, ...], prefix: int, grid: tuple[int, int]) -> dict[str, Tap]:
    blocks = _blocks(model)
    last = getattr(model, "output_fmt", "NCHW") == "NHWC"
    of_block = {layer.name.rpartition(".")[0]: layer for layer in layers}

    def tap(path: str, side: Literal["in", "out"], block: str) -> Tap:
        layer = of_block.get(block)
        return Tap(path, side, layer.prefix if layer else prefix, layer.grid if layer else grid, last)

    taps = {"embed": tap(blocks[0][0], "in", blocks[0][0])} if blocks else {}
    for index, (path, block) in enumerate(blocks):
        if path.startswith("blocks_token_only"):
            continue  # only CLS is carried on there
        taps[f"resid_post.{index}"] = tap(path, "out", path)
        for point, child in (("attn_out", "attn"), ("mlp_out", "mlp")):
            inner = getattr(block, child, None)
            windowed = type(inner).__name__ == "WindowAttention"
            if inner is not None and not windowed:
                taps[f"{point}.{index}"] = tap(f"{path}.{child}", "out", path)
        if between := AFTER_ATTENTION.get(type(block).__name__):
            taps[f"resid_mid.{index}"] = tap(f"{path}.{between}", "in", path)
        if _merges_before(model, path):
            taps[f"resid_pre.{index}"] = tap(path, "in", path)
    if blocks and isinstance(getattr(model, "norm", None), nn.Module):
        taps["norm"] = Tap("norm", "out", prefix, grid, last)
    for index, layer in enumerate(layers):
        module = model.get_submodule(layer.name)
        if layer.kind == "global" and getattr(module, "fused_attn", False):
            for facet in ("query", "key", "value"):
                taps[f"{facet}.{index}"] = Tap(layer.name, "in", layer.prefix, layer.grid)
    taps["features"] = Tap("", "out", 0)
    if getattr(model, "num_classes", 0):
        taps["logits"] = Tap("", "out", 0)
    return taps
