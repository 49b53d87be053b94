"""The words that a role may use, each with its meaning in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BLOCKS", "PARTS", "TOWERS", "allows"]

TOWERS: Mapping[str, str] = {
    "text": "language model: reads or writes tokens",
    "vision": "image or video model",
    "audio": "speech, sound or audio-token model",
    "time_series": "model of numeric series",
    "protein": "model of amino acids or structure tokens",
    "action": "robot control: states and actions",
    "encoder": "the encoder of an encoder-decoder",
    "decoder": "the decoder of an encoder-decoder",
    "shared": "used by encoder and decoder alike",
    "connector": "between towers: projector, merger, resampler, Q-Former",
    "quantizer": "codebooks of a codec and the projections around them",
    "vocoder": "turns acoustic features into sound",
    "prompt": "encodes clicks, boxes and masks that a person gives",
    "memory": "encodes and attends to past frames",
    "predictor": "predicts latents, durations or pitch from the main tower's states",
    "head": "task heads outside of every other tower",
}

BLOCKS: Mapping[str, str] = {
    "attention": "self-attention",
    "cross_attention": "attention whose keys and values come from another sequence",
    "mlp": "dense feed-forward layer",
    "experts": "routed experts of a mixture",
    "shared_experts": "experts that every token uses",
    "router": "chooses or weighs experts",
    "ssm": "state-space, linear-attention and other recurrent mixers",
    "recurrent": "LSTM or GRU",
    "conv": "convolution outside of the blocks above",
    "embedding": "token, position, patch and other input embeddings",
    "modulation": "conditioning that scales and shifts other layers (adaLN, FiLM)",
    "residual": "learned mixing of the residual stream (hyper-connections, AltUp, LAuReL)",
    "adapter": "bottleneck or low-rank adapter that is part of the architecture, or was added by PEFT",
    "codebook": "vector quantization: codes and the projections to and from them",
    "pooler": "reduces a sequence to one vector",
    "head": "maps final states to the task's output",
    "connector": "maps one tower's states into another's space",
    "other": "nothing above; the part is the leaf name",
}

PARTS: Mapping[str, Mapping[str, str]] = {
    "attention": {
        "q": "queries", "k": "keys", "v": "values", "o": "output",
        "qkv": "queries, keys and values in one matrix", "kv": "keys and values in one matrix",
        "qk": "queries and keys in one matrix", "gate": "gate on the output",
        "q_down": "queries, to low rank", "q_up": "queries, from low rank",
        "kv_down": "keys and values, to low rank", "kv_up": "keys and values, from low rank",
    },
    "mlp": {
        "gate": "gate, multiplied onto up", "up": "to the inner width", "down": "back to the outer width",
        "gate_up": "gate and up in one matrix",
    },
    "ssm": {
        "in": "input", "x": "state parameters from the input", "dt": "step size", "b": "input matrix",
        "c": "output matrix", "out": "output", "gate": "gate on the output", "conv": "short convolution",
    },
}  # fmt: skip
"""Parts by block; blocks that share a set are folded by `allows`."""


def allows(tower: str, block: str, part: str) -> bool:
    """Tell whether the words are in the vocabulary; a part outside of PARTS must be a leaf name."""
    return tower in TOWERS and block in BLOCKS and bool(part)
