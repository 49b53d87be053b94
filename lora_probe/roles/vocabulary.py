"""The words that a role may use, each with its meaning in one line; any other word is a bug.

The blocks of :data:`PARTS` have standard parts. In every other block, and for a weight of those blocks
without a standard name, the part is the weight's own name.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BLOCKS", "PARTS", "TOWERS", "Vocabulary"]

Vocabulary = MappingProxyType[str, str]
"""Word to meaning."""

TOWERS: Vocabulary = MappingProxyType({
    "text": "language model: reads or writes tokens of text",
    "vision": "image or video model",
    "audio": "speech, music or audio-token model",
    "time_series": "model of numeric series",
    "protein": "model of amino acids or of protein structure",
    "action": "robot and control models: states, actions, rewards",
    "encoder": "the encoder of an encoder-decoder",
    "decoder": "the decoder of an encoder-decoder",
    "shared": "used by encoder and decoder alike",
    "multimodal": "mixes the states of several towers with layers of its own",
    "connector": "carries one tower's states into another: projector, merger, resampler, Q-Former",
    "quantizer": "codebooks of a codec and the projections around them",
    "vocoder": "turns acoustic features into sound",
    "diffusion": "denoises latents under the condition of another tower",
    "prompt": "encodes the clicks, boxes and masks that a person gives",
    "memory": "encodes past frames of a video and attends to them",
    "predictor": "predicts latents, durations or pitch from another tower's states",
    "head": "task heads beside several towers, of none of them",
    "model": "the only tower of a model whose input its weights do not tell",
})  # fmt: skip

BLOCKS: Vocabulary = MappingProxyType({
    "attention": "self-attention",
    "cross_attention": "attention whose keys and values come from another sequence than its queries",
    "mlp": "dense feed-forward layer, and the dense matrices around a mixture's experts",
    "experts": "routed experts of a mixture",
    "shared_experts": "experts that every token passes through",
    "router": "chooses or weighs experts, or paths through the model",
    "ssm": "state-space, linear-attention and other recurrent mixers, with their short convolutions",
    "recurrent": "LSTM or GRU",
    "conv": "convolution, outside of the blocks above",
    "resample": "between stages: merges or splits neighbouring positions, or changes the width",
    "embedding": "token, position, patch, per-layer and other input embeddings, and projections inside them",
    "modulation": "computes scales, shifts or gates for normalized states (adaLN, FiLM, gated norms)",
    "residual": "learned maps on the residual stream (hyper-connections, AltUp, LAuReL, bottlenecks)",
    "adapter": "small bottleneck or low-rank pair beside a layer: of the architecture, or added by PEFT",
    "codebook": "vector quantization: codes and the projections to and from them",
    "pooler": "reduces a sequence to one vector",
    "head": "maps the last states to the task's output, or into a space shared with another tower",
    "connector": "maps one tower's states into another's width, outside of the blocks above",
    "other": "none of the above",
})  # fmt: skip

_ATTENTION: Vocabulary = MappingProxyType({
    "q": "queries (in some models with an output gate in the second half)",
    "k": "keys",
    "v": "values",
    "o": "output",
    "qkv": "queries, keys and values in one matrix",
    "qk": "queries and keys in one matrix",
    "kv": "keys and values in one matrix",
    "q_gate": "queries and output gate in one matrix",
    "gate": "gate on the output, before o",
    "q_down": "queries, to low rank",
    "q_up": "queries, from low rank",
    "kv_down": "keys and values, to low rank",
    "kv_up": "keys and values, from low rank",
    "qkv_down": "queries, keys and values, to low rank",
    "k_up": "keys, from low rank",
    "v_up": "values, from low rank",
    "o_down": "output, to low rank",
    "o_up": "output, from low rank",
    "q_global": "queries of the global tokens",
    "k_global": "keys of the global tokens",
    "v_global": "values of the global tokens",
    "position": "projection of, or onto, relative positions",
    "sink": "how much attention stays unused",
    "decay": "step or decay that biases the scores",
    "conv": "convolution on or beside queries, keys and values",
    "conv_weights": "weights of a dynamic convolution, from the input",
    "reduction": "shortens the sequence that is attended to",
    "offsets": "where deformable attention samples",
    "weights": "how deformable attention weighs its samples",
    "index_q": "queries of the indexer that picks keys for sparse attention",
    "index_k": "keys of that indexer",
    "index_qk": "both in one matrix",
    "index_kv": "compressed keys of that indexer",
    "index_weights": "weights of that indexer's heads",
    "index_gate": "pooling weights of that indexer's compressed keys",
    "compress_kv": "compressed keys and values of distant tokens",
    "compress_gate": "pooling weights of those",
})  # fmt: skip

_MLP: Vocabulary = MappingProxyType({
    "gate": "gate, multiplied onto up",
    "up": "to the inner width",
    "down": "back to the outer width",
    "gate_up": "gate and up in one matrix",
    "inner": "between two inner widths",
    "conv": "depth-wise convolution between up and down",
    "latent_down": "to the narrower width that all routed experts work in",
    "latent_up": "back from it",
})  # fmt: skip

_SSM: Vocabulary = MappingProxyType({
    "in": "input: all or most of the mixer's streams in one matrix",
    "x": "step size, B and C from the input",
    "dt": "step size",
    "b": "B of a state-space model, or beta, the write strength of a delta rule",
    "c": "C of a state-space model",
    "out": "output",
    "gate": "gate on the output",
    "g_down": "gate on the output, to low rank",
    "g_up": "gate on the output, from low rank",
    "decay": "decay or forget gate of the state",
    "decay_down": "decay, to low rank",
    "decay_up": "decay, from low rank",
    "b_decay": "b and decay in one matrix",
    "input_gate": "gate on what enters the state",
    "conv": "short convolution",
    "q": "queries of a linear attention (reads the state)",
    "k": "keys of a linear attention",
    "v": "values of a linear attention (written into the state)",
    "qkv": "queries, keys and values in one matrix",
    "qk": "queries and keys in one matrix",
})  # fmt: skip

_EMBEDDING: Vocabulary = MappingProxyType({
    "token": "one row a token",
    "position": "one row a position",
    "relative_position": "one row a distance",
    "token_type": "one row a segment or sort of input",
    "patch": "patches of an image, a video, a spectrogram or a series",
    "stem": "first convolutions over the raw input, outside of patches",
    "query": "learned queries: one row a query of a decoder or resampler",
    "projection": "from the embedding's own width, or from features, to the tower's",
    "per_layer": "an extra embedding for each layer, and its projections",
})  # fmt: skip

_HEAD: Vocabulary = MappingProxyType({
    "lm_head": "to the vocabulary",
    "transform": "before the last matrix of the head",
})  # fmt: skip

PARTS: Mapping[str, Vocabulary] = MappingProxyType({
    "attention": _ATTENTION,
    "cross_attention": _ATTENTION,
    "mlp": _MLP,
    "experts": _MLP,
    "shared_experts": _MLP,
    "ssm": _SSM,
    "embedding": _EMBEDDING,
    "head": _HEAD,
})  # fmt: skip
"""Block to its standard parts."""
