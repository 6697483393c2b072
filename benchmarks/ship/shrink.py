"""Small networks of every type in transformers: a configuration by rule, and the inputs that forward() takes.

The rule names fields of the configuration, in sub-configurations too, by pattern. Not every type takes all of it
(heads that must divide a width, widths that must agree), so there are several, from the smallest on; the first whose
network has at most 5 million parameters and runs in PyTorch is used.
"""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

MAX_PARAMETERS = 5_000_000
VOCABULARY = 99
IMAGE_SIDE = 64
SAMPLES, FRAMES = 1600, 64  # of sound, as a wave and as a spectrogram

# Pattern of a whole name → the largest value. The first that matches counts.
_VOCABULARY = {r".*vocab_size|vocab_size_per_layer_input|.*codebook_size|num_codes": VOCABULARY}
_DEPTH = {
    r".*(num|n|encoder|decoder)_(hidden_)?(layers|layer|blocks)|depth|.*_depth|num_.*layers": 2,
    r"num_(local_|routed_)?experts|n_routed_experts|moe_num_experts": 4,
    r"num_experts_per_tok|moe_topk|moe_k|top_k_experts": 2,
    r"n_group|topk_group|n_shared_experts": 1,
}
_HEADS = {
    r".*(key_value|kv)_heads": 2,
    r".*(attention_)?heads|n_head|.*_n_head|num_head": 4,
    r"(qk_|v_|global_|linear_(key|value)_|mamba_|ssm_)?(nope_|rope_)?(head|d_head|d_kv|attention_key_value)(_dim)?": 8,
}
_WIDTH = {
    r".*intermediate_size|.*ffn_dim|d_ff|.*mlp_dim|n_inner|d_inner|.*feedforward.*dim|.*ffn_hidden_size": 64,
    r".*hidden_size|.*hidden_dim|d_model|n_embd|dim|.*embed_dim|.*embedding_size|.*projection_dim|.*_dim": 32,
}
_SIZES = {
    r"image_size|img_size|input_size": IMAGE_SIDE,
    r"patch_size": 8,
    r"max_position_embeddings|n_positions|max_source_positions|max_target_positions|max_sequence_length": 512,
}
_EQUAL_HEADS = {r".*(key_value|kv)_heads": 4}
RULES = (
    _VOCABULARY | _DEPTH | _HEADS | _WIDTH | _SIZES,
    _VOCABULARY | _DEPTH | _HEADS | _EQUAL_HEADS | _WIDTH | _SIZES,
    _VOCABULARY | _DEPTH | _WIDTH | _SIZES,
    _VOCABULARY | _DEPTH | _HEADS | _WIDTH,
    _VOCABULARY | _DEPTH | _SIZES,
    _VOCABULARY | _DEPTH,
)
_TOKEN = re.compile(r".*token_(id|index)")
_DEPTHS = re.compile(r".*depths|.*layers|.*num_blocks|stage_num_blocks|layers_per_stage")
_WIDTHS = re.compile(r".*hidden_sizes|.*embed_dims?|.*widths|.*channels|.*dims")


def overrides(config: Any, rule: dict[str, int]) -> dict[str, Any]:
    """The arguments of the configuration's class that the rule changes."""
    result: dict[str, Any] = {}
    tokens = VOCABULARY - 2
    for field in dataclasses.fields(config):
        value = getattr(config, field.name, None)
        if dataclasses.is_dataclass(value) and hasattr(value, "model_type"):
            inner = overrides(value, rule)
            result[field.name] = inner | {"model_type": value.model_type}
        elif field.name == "use_cache" and value is True:
            result[field.name] = False
        elif isinstance(value, int) and not isinstance(value, bool):
            if _TOKEN.fullmatch(field.name):
                if value >= VOCABULARY:
                    result[field.name], tokens = tokens, tokens - 1
                continue
            largest = next((size for pattern, size in rule.items() if re.fullmatch(pattern, field.name)), None)
            if largest is not None and value > largest:
                result[field.name] = largest
        elif isinstance(value, list | tuple) and value and all(type(each) is int for each in value):
            if _DEPTHS.fullmatch(field.name) and len(value) <= 6:
                result[field.name] = [1] * len(value)
            elif field.name.endswith("heads") and len(value) <= 6:
                result[field.name] = [min(each, 2) for each in value]
            elif _WIDTHS.fullmatch(field.name) and len(value) <= 6 and rule is RULES[0]:
                result[field.name] = [min(each, 16 * (i + 1)) for i, each in enumerate(value)]
    return result


def build(model_type: str, changed: dict[str, Any]) -> nn.Module:
    """The network without a head, from a configuration with these arguments."""
    from transformers import CONFIG_MAPPING, AutoModel

    net: nn.Module = AutoModel.from_config(CONFIG_MAPPING[model_type](**changed))
    return net


def entry(model_type: str) -> dict[str, Any]:
    """The list's entry. Raises ValueError with the first reason if nothing runs."""
    from transformers import CONFIG_MAPPING

    reasons = []
    for rule in RULES:
        try:
            changed = overrides(CONFIG_MAPPING[model_type](), rule)
            torch.manual_seed(0)
            with torch.device("meta"):
                parameters = sum(parameter.numel() for parameter in build(model_type, changed).parameters())
            if parameters > MAX_PARAMETERS:
                reasons.append(f"{parameters:,} parameters")
                continue
            net = build(model_type, changed).eval()
        except Exception as error:  # each type fails in its own way
            reasons.append(f"{type(error).__name__}: {error}".strip().splitlines()[0][:200])
            continue
        for inputs in candidates(net):
            try:
                outputs = [_outputs(net, inputs, *sizes) for sizes in ((2, 0), (1, 1))]
            except Exception as error:
                reasons.append(f"{', '.join(inputs['inputs'])}: {type(error).__name__}: {error}".splitlines()[0][:200])
                continue
            if not outputs[0]:
                reasons.append("no output is a tensor of floats")
                continue
            made = {"name": model_type, "parameters": parameters, **inputs, "outputs": outputs[0]}
            return made | {"overrides": changed}
    raise ValueError(reasons[0] if reasons else "no inputs are known for it")


def candidates(net: nn.Module) -> Iterator[dict[str, Any]]:
    """Sets of inputs, by what forward() takes, the fullest first."""
    takes = inspect.signature(net.forward).parameters
    config: Any = net.config
    text = {"inputs": ["input_ids:L:int64"], "sizes": ["L=2..16"], "high": {"input_ids": VOCABULARY - 8}}
    if "attention_mask" in takes:
        text = text | {"inputs": [*text["inputs"], "attention_mask:L:int64"], "masks": ["attention_mask"]}
    if "bbox" in takes:
        text = text | {"inputs": [*text["inputs"], "bbox:Lx4:int64"], "boxes": ["bbox"]}
    decoder = {
        "inputs": ["decoder_input_ids:D:int64"],
        "sizes": ["D=2..8"],
        "high": {"decoder_input_ids": VOCABULARY - 8},
    }
    images = [_image(config, side) for side in dict.fromkeys((_side(config), IMAGE_SIDE, 224))]
    if "decoder_input_ids" in takes:
        for first in ([text] if "input_ids" in takes else []) + _sounds(config, takes):
            yield _joined(first, decoder)
    if "input_ids" in takes and "pixel_values" in takes:
        for image in images:
            yield _joined(text, image)
    if "input_ids" in takes:
        yield text
        yield {key: value for key, value in text.items() if key != "masks"} | {"inputs": ["input_ids:L:int64"]}
    if "pixel_values" in takes:
        yield from images
    yield from _sounds(config, takes)


def _side(config: Any) -> int:
    for place in (config, getattr(config, "vision_config", None), getattr(config, "backbone_config", None)):
        size = getattr(place, "image_size", None)
        size = size[0] if isinstance(size, list | tuple) else size
        if isinstance(size, int):
            return size
    return IMAGE_SIDE


def _image(config: Any, side: int) -> dict[str, Any]:
    places = (config, getattr(config, "vision_config", None))
    channels = next((c for place in places if isinstance(c := getattr(place, "num_channels", None), int)), 3)
    return {"inputs": [f"pixel_values:{channels}x{side}x{side}"]}


def _sounds(config: Any, takes: Any) -> list[dict[str, Any]]:
    sets: list[dict[str, Any]] = []
    if "input_values" in takes:
        sets += [
            {"inputs": [f"input_values:{shape}"]} for shape in (SAMPLES * 4, f"1x{SAMPLES * 4}", "64x80", "1024x128")
        ]
    if "input_features" in takes:
        places = (config, getattr(config, "audio_config", None), getattr(config, "encoder_config", None))
        names = ("num_mel_bins", "feature_size", "input_feat_per_channel", "num_mel_bin")
        bins = next((b for p in places for n in names if isinstance(b := getattr(p, n, None), int)), 80)
        frames = 2 * getattr(config, "max_source_positions", FRAMES // 2)
        shapes = (f"{bins}x{frames}", f"{FRAMES}x{bins}", f"{frames}x{bins}")
        sets += [{"inputs": [f"input_features:{shape}"]} for shape in shapes]
    return sets


def _joined(*sets: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for each in sets:
        for key, value in each.items():
            if isinstance(value, dict):
                result[key] = {**result.get(key, {}), **value}
            else:
                result[key] = [*result.get(key, []), *value]
    return result


def _outputs(net: nn.Module, inputs: dict[str, Any], batch: int, seed: int) -> list[str]:
    """The names of the float tensors that forward() returns for a batch of some size."""
    from benchmarks.ship import exactness

    stream = exactness.batches(inputs | {"batch": batch}, seed)
    arrays = next(stream)
    from benchmarks.ship import builders

    return [name for name, value in builders.call(net, arrays).items() if value.is_floating_point()]
