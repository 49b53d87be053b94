"""What a ``quantization_config`` makes of a weight's storage, from each method's published layout.

A model that is built from a config has plain layers, whatever its checkpoint stores. The config says how many
bits a value takes and how many values share a scale. The bytes follow, without the method's library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_probe.graph import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Packing", "method_of", "packings_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Packing:
    """How a method stores one matrix (out_features, in_features)."""

    bits: int
    """Bits of one packed value."""
    dtype: str
    """Element type of the tensor that holds the packed values."""
    tile: tuple[int, int] = (0, 0)
    """Rows and columns that share one scale; 0 stands for all."""
    tile_bits: int = 0
    """Bits of what each tile has of its own: its scale, and its zero point where there is one."""
    column_bits: int = 0
    """Bits for each input column, such as GPTQ's group index."""
    matrix_bits: int = 0
    """Bits for each matrix, such as a global scale."""

    def bytes(self, in_features: int, out_features: int) -> int:
        """Return the bytes of one matrix with all that belongs to it, rounded up."""
        rows, columns = self.tile
        tiles = _divided(out_features, rows) * _divided(in_features, columns)
        bits = in_features * (out_features * self.bits + self.column_bits)
        return _divided(bits + tiles * self.tile_bits + self.matrix_bits, 8)


def method_of(config: Mapping[str, Any]) -> str:
    """Return the method's name; configs from before `quant_method` are bitsandbytes'."""
    method = config.get("quant_method")
    if not method and (config.get("load_in_4bit") or config.get("load_in_8bit")):
        return "bitsandbytes"
    return str(getattr(method, "value", method) or "unknown").lower()


def packings_of(config: Mapping[str, Any]) -> dict[Kind, Packing] | None:
    """Return how the method of `config` stores each kind of weight that it packs.

    Checkpoints hold each expert as a linear layer, so methods that write them pack stacked experts, too. None
    where the method, or a setting of it, is not known.
    """
    method = method_of(config)
    read = _METHODS.get(method)
    if read is None:
        return None
    try:
        packings = dict.fromkeys(_KINDS.get(method, (Kind.LINEAR, Kind.EXPERT_PARAMETER)), read(config))
        if config.get("expert_dtype") == "fp4":
            packings[Kind.EXPERT_PARAMETER] = _fp4_experts(config)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # a field of another type
        return None
    return packings


def _divided(size: int, by: int) -> int:
    """Return how many parts of `by` cover `size`; 0 stands for one part."""
    return -(-size // by) if by else 1


def _columns(group: Any) -> int:
    """Return the columns of a group; -1 and null stand for all."""
    return max(int(group or 0), 0)


def _fp8(config: Mapping[str, Any]) -> Packing:
    """Read transformers' FineGrainedFP8Config: a scale for each block, or one for the matrix."""
    rows, columns = config.get("weight_block_size") or (0, 0)
    return Packing(
        bits=8,
        dtype="float8_e4m3fn",
        tile=(int(rows), int(columns)),
        tile_bits=8 if config.get("scale_fmt") == "ue8m0" else 32,
        matrix_bits=32 if config.get("activation_scheme") == "static" else 0,
    )


def _fp4_experts(config: Mapping[str, Any]) -> Packing:
    """Read DeepSeek-V4's experts (FP8Experts in integrations/finegrained_fp8.py): a scale for each 32."""
    return Packing(bits=4, dtype="int8", tile=(1, 32), tile_bits=_fp8(config).tile_bits)


def _fbgemm_fp8(_: Mapping[str, Any]) -> Packing:
    return Packing(bits=8, dtype="float8_e4m3fn", tile=(1, 0), tile_bits=32)


def _gptq(config: Mapping[str, Any]) -> Packing:
    """Read GPTQ: qweight; for each group a half-precision scale and a packed zero; g_idx."""
    bits = int(config["bits"])
    tile = (1, _columns(config.get("group_size", 128)))
    return Packing(bits=bits, dtype="int32", tile=tile, tile_bits=16 + bits, column_bits=32)


def _awq(config: Mapping[str, Any]) -> Packing:
    """Read AWQ: qweight; for each group a half-precision scale and a packed zero."""
    bits = int(config.get("bits") or config.get("w_bit") or 4)
    tile = (1, _columns(config.get("group_size", config.get("q_group_size", 128))))
    return Packing(bits=bits, dtype="int32", tile=tile, tile_bits=16 + bits)


def _auto_round(config: Mapping[str, Any]) -> Packing:
    return (_awq if "awq" in str(config.get("packing_format")) else _gptq)(config)


def _bitsandbytes(config: Mapping[str, Any]) -> Packing:
    """Read bitsandbytes: a scale for each row of 8 bits, or for each 64 values of 4 bits.

    With double quantization these scales take 8 bits, and one of 32 bits for each 256 of them.
    """
    if config.get("load_in_8bit") or not config.get("load_in_4bit", True):
        return Packing(bits=8, dtype="int8", tile=(1, 0), tile_bits=32)
    block, nested = 64, 256
    if not config.get("bnb_4bit_use_double_quant"):
        return Packing(bits=4, dtype="uint8", tile=(1, block), tile_bits=32)
    # One tile of `nested` blocks: its blocks' scales and their own.
    return Packing(bits=4, dtype="uint8", tile=(nested, block), tile_bits=nested * 8 + 32)


def _mxfp4(_: Mapping[str, Any]) -> Packing:
    """Read OCP MXFP4 as gpt-oss stores its experts: 4 bits, and a shared exponent for each 32."""
    return Packing(bits=4, dtype="uint8", tile=(1, 32), tile_bits=8)


def _nvfp4(_: Mapping[str, Any]) -> Packing:
    """Read NVIDIA's NVFP4: 4 bits, an 8-bit scale for each 16, two global scales."""
    return Packing(bits=4, dtype="uint8", tile=(1, 16), tile_bits=8, matrix_bits=64)


def _modelopt(config: Mapping[str, Any]) -> Packing:
    """Read NVIDIA ModelOpt, which names its format or writes groups as compressed-tensors does."""
    algorithm = str(config.get("quant_algo") or "").upper()
    groups: dict[str, Any] = config.get("config_groups") or {}
    weights = next((group.get("weights") or {} for group in groups.values()), {})
    if "NVFP4" in algorithm or weights.get("num_bits") == 4:  # noqa: PLR2004 - its one format of 4 bits
        return _nvfp4(config)
    if "FP8" not in algorithm:
        raise LookupError(algorithm)
    return Packing(bits=8, dtype="float8_e4m3fn", tile_bits=32, matrix_bits=32)


def _compressed_tensors(config: Mapping[str, Any]) -> Packing:
    """Read compressed-tensors where one group of settings holds for all linear layers."""
    (group,) = config["config_groups"].values()
    if "Linear" not in group["targets"]:
        raise LookupError("targets")
    weights = group["weights"]
    bits, is_float = int(weights["num_bits"]), weights.get("type") == "float"
    if is_float and bits < 8:  # noqa: PLR2004
        return _nvfp4(config)
    rows, columns = {
        "tensor": (0, 0),
        "channel": (1, 0),
        "group": (1, _columns(weights.get("group_size"))),
        "block": tuple(weights.get("block_structure") or ()),
    }[weights.get("strategy") or "tensor"]
    packed = "pack" in str(config.get("format"))
    return Packing(
        bits=bits,
        dtype="float8_e4m3fn" if is_float else "int32" if packed else "int8",
        tile=(int(rows), int(columns)),
        tile_bits=16 + (0 if weights.get("symmetric", True) else bits),
        matrix_bits=128 if packed else 0,  # the shape before packing, two 64-bit integers
    )


def _hqq(config: Mapping[str, Any]) -> Packing:
    """Read HQQ: half-precision scale and zero for each group."""
    settings = (config.get("quant_config") or {}).get("weight_quant_params") or config
    bits = int(settings.get("nbits") or 4)
    tile = (1, _columns(settings.get("group_size", 64)))
    return Packing(bits=bits, dtype="uint8", tile=tile, tile_bits=32)


def _quanto(config: Mapping[str, Any]) -> Packing:
    """Read quanto: a scale for each row of 8 bits; below, scale and shift for each 128 values."""
    name = config["weights"]
    bits = {"float8": 8, "int8": 8, "int4": 4, "int2": 2}[name]
    dtype = "float8_e4m3fn" if name == "float8" else "int8" if name == "int8" else "uint8"
    grouped = name in {"int4", "int2"}
    return Packing(
        bits=bits,
        dtype=dtype,
        tile=(1, 128 if grouped else 0),
        tile_bits=32 if grouped else 16,
    )


def _eetq(_: Mapping[str, Any]) -> Packing:
    return Packing(bits=8, dtype="int8", tile=(1, 0), tile_bits=16)


def _bitnet(_: Mapping[str, Any]) -> Packing:
    """Read BitNet: four ternary values a byte, one scale a matrix."""
    return Packing(bits=2, dtype="uint8", matrix_bits=16)


_KINDS: Mapping[str, tuple[Kind, ...]] = {
    # Packed while loading, layer by layer: stacked experts are no layers and stay as they are.
    **dict.fromkeys(("bitnet", "bitsandbytes", "eetq", "hqq", "quanto"), (Kind.LINEAR,)),
    "mxfp4": (Kind.EXPERT_PARAMETER,),
}
_METHODS: Mapping[str, Callable[[Mapping[str, Any]], Packing]] = {
    "auto-round": _auto_round,
    "awq": _awq,
    "bitnet": _bitnet,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed_tensors,
    "eetq": _eetq,
    "fbgemm_fp8": _fbgemm_fp8,
    "fp8": _fp8,
    "gptq": _gptq,
    "hqq": _hqq,
    "modelopt": _modelopt,
    "mxfp4": _mxfp4,
    "nvfp4": _nvfp4,
    "quanto": _quanto,
}
