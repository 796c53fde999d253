"""Weights of other implementations: checkpoints of nerf_pl's earlier versions and of nerf-pytorch.

`read`, `fit`, `unmatched` and `assign` are what `methods.Foreign` asks for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from nerf_pl.errors import UserError
from nerf_pl.methods.model import Model
from nerf_pl.methods.nerf.model import NeRF
from nerf_pl.methods.nerf.options import CLASSIC, NeRFOptions
from nerf_pl.options import Config

Layers = dict[str, tuple[Float[Tensor, "_ _"], Float[Tensor, "_"]]]
"""Weight (out, in) and bias (out,) by our name of the layer: density_0 ..., feature, sigma, direction, rgb."""

XYZ_CHANNELS, DIR_CHANNELS = 3 * (1 + 2 * 10), 3 * (1 + 2 * 4)
"""Columns of the frequency encoding with 10 and 4 octaves after the plain coordinates (NeRF 2020, section 5.1)."""


@dataclass(frozen=True)
class ForeignModel:
    """The networks of a checkpoint that another implementation wrote, with our names and the paper's shapes.

    fields: the layers of "coarse" and, if there is one, of "fine", without those to be ignored. Inputs are in the order
    of the paper: density_<net_skip> takes [encoded xyz, hidden], direction takes [feature, encoded direction].
    net_skip: the density layer that takes the encoding again; None if there is none. source: the implementation.
    ignored: the levels whose networks are to be ignored as a whole.
    """

    fields: dict[str, Layers]
    net_depth: int
    net_width: int
    net_skip: int | None
    source: str
    ignored: frozenset[str] = frozenset()


_PREFIXES = {
    "nerf_pl": {"coarse": "nerf_coarse", "fine": "nerf_fine"},
    "nerf-pytorch": {"coarse": "network_fn_state_dict", "fine": "network_fine_state_dict"},
}
# For each source: its name of a density layer, the number of the first one, and its names of the other layers.
_NAMES = {
    "nerf_pl": (
        "xyz_encoding_{}.0",
        1,
        {"xyz_encoding_final": "feature", "dir_encoding.0": "direction", "sigma": "sigma", "rgb.0": "rgb"},
    ),
    "nerf-pytorch": (
        "pts_linears.{}",
        0,
        {"feature_linear": "feature", "views_linears.0": "direction", "alpha_linear": "sigma", "rgb_linear": "rgb"},
    ),
}


def read(
    checkpoint: Mapping[str, Any], prefixes_to_ignore: Sequence[str] = (), path: str | Path = "the checkpoint"
) -> ForeignModel | None:
    """The networks of a checkpoint of nerf_pl or nerf-pytorch, in float32; None if it is neither.

    prefixes_to_ignore: a layer is left out, whatever its shape, if the names of its weights start with one of these,
    with or without the prefix of the network ("nerf_coarse."). path: names the file in messages.
    Raises UserError for a network without view directions, for missing, unknown, misshapen or non-finite weights, and
    for coarse and fine networks of different size.
    """
    found = _networks(checkpoint)
    if found is None:
        return None
    source, networks = found
    fields: dict[str, Layers] = {}
    sizes: list[tuple[int, int, int | None]] = []
    for level, (prefix, weights) in networks.items():

        def is_ignored(name: str, prefix: str = prefix) -> bool:
            starts = tuple(prefixes_to_ignore)
            return name.startswith(starts) or f"{prefix}{name}".startswith(starts)

        if not all(map(is_ignored, weights)):
            fields[level], size = _layers(source, weights, is_ignored, f"{path}: {prefix}")
            sizes.append(size)
    if "coarse" not in fields:
        raise UserError(f"{path} has no coarse network to load: give another checkpoint, or other --prefixes_to_ignore")
    if len(set(sizes)) > 1:
        raise UserError(
            f"{path}: coarse and fine differ in depth, width or skip {sizes}: give one where they are equal"
        )
    ignored = {
        level for level, prefix in _PREFIXES[source].items() if f"{prefix}.".startswith(tuple(prefixes_to_ignore))
    }
    return ForeignModel(fields, *sizes[0], source, frozenset(ignored))


def fit(config: Config | None, found: ForeignModel, path: Path) -> Config:
    """The options for networks of these sizes. Raises UserError for a network that the 2020 model does not have."""
    if found.net_skip is None:
        raise UserError(f"{path} holds a network without the skip connection of the 2020 model: give another")
    config = config or CLASSIC
    asked = config.model
    assert isinstance(asked, NeRFOptions)
    sizes = {"net_depth": found.net_depth, "net_width": found.net_width, "net_skip": found.net_skip}
    importance = asked.N_importance if "fine" in found.fields else 0
    return replace(config, model=replace(asked, N_importance=importance, **sizes))


def unmatched(model: Model, found: ForeignModel) -> tuple[list[str], list[str]]:
    """Networks that the model has and `found` lacks, and the reverse, but for those to be ignored."""
    assert isinstance(model, NeRF)
    own = {"coarse"} if model.fine is None else {"coarse", "fine"}
    pairs = (own - found.fields.keys() - found.ignored, found.fields.keys() - own)
    missing, surplus = (sorted(_PREFIXES[found.source][level] for level in levels) for levels in pairs)
    return missing, surplus


def assign(model: Model, found: ForeignModel, path: Path) -> None:
    """Copy the networks into a model. Raises UserError if its sizes differ."""
    assert isinstance(model, NeRF)
    own, theirs = model.coarse.layout, (found.net_depth, found.net_width, found.net_skip)
    if theirs != (own.depth, own.width, own.skip):
        raise UserError(
            f"checkpoint {path} has depth {theirs[0]}, width {theirs[1]}, skip {theirs[2]}; this model has "
            f"{own.depth}, {own.width}, {own.skip}: set --net_depth, --net_width and --net_skip"
        )
    model.coarse.assign(found.fields["coarse"])
    if model.fine is not None:
        model.fine.assign(found.fields.get("fine", {}))


def _networks(checkpoint: Mapping[str, Any]) -> tuple[str, dict[str, tuple[str, dict[str, Any]]]] | None:
    """The implementation; and for each level the prefix of its names, and the weights by the rest of their names."""
    networks = {}
    for level, key in _PREFIXES["nerf-pytorch"].items():
        state = checkpoint.get(key)
        if isinstance(state, Mapping):  # without a fine network there is no such key, or it is None
            networks[level] = (f"{key}.", {_bare(name): value for name, value in state.items()})
    if networks:
        return "nerf-pytorch", networks
    state = checkpoint.get("state_dict", checkpoint)  # the classic way to keep only the weights drops the outer dict
    if not isinstance(state, Mapping):
        return None
    bare = {_bare(name): value for name, value in state.items()}
    for level, network in _PREFIXES["nerf_pl"].items():
        prefix = f"{network}."
        weights = {name.removeprefix(prefix): value for name, value in bare.items() if name.startswith(prefix)}
        if weights:
            networks[level] = (prefix, weights)
    return ("nerf_pl", networks) if networks else None


def _bare(name: object) -> str:
    """The name without the parts that DataParallel and torch.compile add."""
    return ".".join(part for part in str(name).split(".") if part not in ("module", "_orig_mod"))


def _layers(
    source: str, weights: dict[str, Any], is_ignored: Callable[[str], bool], where: str
) -> tuple[Layers, tuple[int, int, int | None]]:
    """One network under our names, and its depth, width and skip layer. where: how messages start."""
    if "output_linear.weight" in weights:
        raise UserError(f"{where}output_linear means use_viewdirs=False, not supported: train with view directions")
    pattern, first, others = _NAMES[source]
    depth = 1 + max((i for i in range(64) if f"{pattern.format(first + i)}.weight" in weights), default=0)
    names = {pattern.format(first + i): f"density_{i}" for i in range(depth)} | others
    parts = [f"{layer}.{part}" for layer in names for part in ("weight", "bias")]
    for i, name in enumerate(parts):
        if not isinstance(weights.get(name), Tensor) and (i == 0 or not is_ignored(name)):  # the first gives the width
            raise UserError(f"{where}{name} is missing: the file is incomplete or holds another model, give another")
    if surplus := sorted(name for name in set(weights) - set(parts) if not is_ignored(name)):
        raise UserError(f"{where}{surplus[0]} has no place in the 2020 model: name it in --prefixes_to_ignore")

    width = (*weights[parts[0]].shape, 0)[0]
    shapes, skip_shape = _shapes(depth, width), (width, XYZ_CHANNELS + width)
    skips = [i for i in range(1, depth) if getattr(weights.get(parts[2 * i]), "shape", None) == skip_shape]
    if skips:
        shapes[f"density_{skips[0]}"] = skip_shape  # a second skip layer is then refused for its shape
    layers: Layers = {}
    for theirs, ours in names.items():
        weight, bias = f"{theirs}.weight", f"{theirs}.bias"
        if is_ignored(weight) or is_ignored(bias):
            continue
        for name, shape in ((weight, shapes[ours]), (bias, shapes[ours][:1])):
            value = weights[name]
            if value.shape != shape:
                raise UserError(f"{where}{name} is {tuple(value.shape)}, not {shape}: only the 2020 model can be read")
            if not value.isfinite().all():
                raise UserError(f"{where}{name} is not finite, training had diverged: give an earlier checkpoint")
        layers[ours] = (weights[weight].float(), weights[bias].float())
    return layers, (depth, width, skips[0] if skips else None)


def _shapes(depth: int, width: int) -> dict[str, tuple[int, int]]:
    """The shapes of the weights in NeRF 2020, figure 7; without the skip layer, which takes the encoding again."""
    return {
        "density_0": (width, XYZ_CHANNELS),
        **{f"density_{i}": (width, width) for i in range(1, depth)},
        "feature": (width, width),
        "direction": (width // 2, width + DIR_CHANNELS),
        "sigma": (1, width),
        "rgb": (3, width // 2),
    }
