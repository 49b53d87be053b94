"""Rules that open a block around the layers: embeddings, convolutions, heads, and what steers the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_probe.roles.mixers import CLOSED, LAYER
from lora_probe.roles.rule import Rule

if TYPE_CHECKING:
    from lora_probe.roles.tree import Node

__all__ = [
    "ADAPTERS",
    "ADDED_BY_PEFT",
    "CONVOLUTIONS",
    "EMBEDDINGS",
    "HEADS",
    "POSITIONS",
    "SQUEEZES",
    "STEERING",
]


def _is_small(node: Node) -> bool:
    """Tell whether `node` holds no stack of layers, which some embeddings and downsamplings do."""
    return not node.has_layers


def _is_plain(node: Node) -> bool:
    """Tell whether `node` can be a head: in a tower that has one, no table, and nothing in it attends."""
    attends = node.attends or "k_proj" in node.child_names
    return node.tower not in {"connector", "prompt", "diffusion"} and node.kind != "embedding" and not attends


def _projects_into_shared_space(node: Node) -> bool:
    """Tell whether two towers are compared: both have a projection, or stand side by side."""
    pairs = ("visual_projection", "image_projection", "audio_projection")
    return _is_plain(node) and (
        bool(node.siblings & set(pairs) - {node.name})
        or "text_projection" in node.siblings - {node.name}
        or (
            "text_model" in node.siblings
            and bool(node.siblings & {"vision_model", "audio_model", "image_model"})
        )
        or node.parent_name in {"text_encoder", "text_model"}
        or len(node.siblings & {"text_model", "vision_model"}) == len(node.siblings) - 1
    )


ADDED_BY_PEFT = (
    Rule(
        name="lora", word="adapter",
        reason="PEFT names its low-rank pairs so",
        named=r"lora_(a|b|embedding_a|embedding_b)",
    ),
)  # fmt: skip

ADAPTERS = (
    Rule(
        name="adapter", word="adapter",
        reason="a small bottleneck added to a layer",
        named=r"adapters?|adapter_(layer|layers|modules)|\w+_adapter_list",
        outside=frozenset({"adapter"}),
        where=lambda node: node.is_repeated,
    ),
)  # fmt: skip

STEERING = (
    Rule(
        name="residual-mixing", word="residual",
        reason="mixes the copies of the residual stream, or what layers add to it",
        named=r"\w+_hc|hc_head|(\w+_)?hyper_connection\w*|altup(_\w+)?|laurel|gateway|message_fc"
        "|temporal_dense",
        classed=r"\w*(HyperConnection|HyperHead|GatedResidual|AltUp|Laurel\w*|AttentionResidual)",
        outside=LAYER,
    ),
    Rule(
        name="bottleneck", word="residual",
        reason="narrows the residual stream before a layer, or widens it behind",
        named=r"bottleneck",
        outside=CLOSED,
        where=lambda node: node.is_repeated and ("input" in node.child_names or node.parent_name == "output"),
    ),
    Rule(
        name="shared-block-output", word="residual",
        reason="brings the output of a transformer block that several layers share into this layer",
        named=r"linear",
        beside=r"shared_transf\w*",
        outside=LAYER,
    ),
    Rule(
        name="norm-gate", word="modulation",
        reason="a small network inside of a normalization scales its output",
        named=r"mlp|linear|proj|conv_[by]",
        under=r"\w*norm(_out|\d)?",
        outside=CLOSED,
    ),
    Rule(
        name="modulation", word="modulation",
        reason="conditioning that scales and shifts normalized states",
        named=r"ada_?ln\w*|ada_(rms_)?norm\w*|adaln_linear|\w*modulation_linear|scale_shift\w*",
        classed=r"\w*(AdaRmsNorm|AdaLN\w*|SpatialNorm|Modulation)",
        outside=CLOSED,
        where=lambda node: "focal_layers" not in node.child_names,
    ),
    Rule(
        name="modulation-of-the-layer", word="modulation",
        reason="the matrix from the condition to scales and shifts stands in the layer itself",
        named=r"linear|linear_1",
        outside=CLOSED,
        where=lambda node: node.parent_class.endswith(("AdaLayerNorm", "FinalLayer")),
    ),
)  # fmt: skip

SQUEEZES = (
    Rule(
        name="squeeze-and-excitation", word="conv",
        reason="weighs the channels of a convolution, which some networks call attention",
        named=r"(\w+_)?squeeze_(and_)?excit\w*",
        classed=r"\w*(SELayer|SqueezeExcit\w*|SqueezeAndExcit\w*|ExcitationModule|ExcitationLayer|ExciteLayer)",
        outside=LAYER,
    ),
)  # fmt: skip

CONVOLUTIONS = (
    Rule(
        name="convolution-module", word="conv",
        reason="the class or name is a convolution module, such as a Conformer's",
        named=r"conv_module|lconv\d?d?|conv_feed_forward",
        classed=r"\w*(Convolution(al)?Module|ConvModule|LightConv1d|ConformerConv\w*)|FocalNetModulation"
        "|Modulation",
        outside=LAYER,
    ),
    Rule(
        name="pointwise-convolution", word="conv",
        reason="a matrix that is one step of a separable convolution",
        named=r"(pw|dw|pointwise|point_wise|depthwise|depth_wise)_?conv\d?(_?\dd)?",
        outside=LAYER,
    ),
    Rule(
        name="resampling", word="resample",
        reason="merges or splits neighbouring positions between stages",
        named=r"downsampl\w*|patch_merging|upsample",
        classed=r"\w*(PatchMerging|Downsampl\w*|Upsampling)",
        outside=LAYER | {"embedding"},
        where=lambda node: node.tower != "connector" and _is_small(node),
    ),
    Rule(
        name="width-of-the-stage", word="resample",
        reason="changes the width where a new stage begins, beside the first attention of the stage",
        named=r"proj|projection",
        beside=r"attn|layer_norm1|mlp|layer_norm",
        outside=LAYER | {"embedding"},
        where=lambda node: node.is_repeated and node.kind == "linear" and node.tower != "connector",
    ),
    Rule(
        name="folding", word="resample",
        reason="each layer folds neighbouring positions into one and projects them",
        named=r"projection",
        under=r"encoder_layers",
        outside=LAYER,
        where=lambda node: node.kind == "linear",
    ),
)  # fmt: skip

POSITIONS = (
    Rule(
        name="per-layer-embedding", word="embedding",
        reason="each layer reads its own slice of an extra embedding",
        named=r"per_layer_\w+|\w+_per_layer|ple|ple_block",
        outside=LAYER | {"embedding"},
    ),
    Rule(
        name="positions-from-values", word="embedding",
        reason="turns boxes, times or distances into positions",
        named=r"query_pos_head|ref_point_head|reference_points_head|\w*time_?step_?(proj|embed\w*)"
        r"|box_rpb_embed_[xy]|\w*positional_encod(ing|er)\w*|rel_pos\w*"
        r"|relative_(attention|position)_bias\w*",
        outside=LAYER | {"embedding"},
    ),
)  # fmt: skip

EMBEDDINGS = (
    Rule(
        name="embedding-module", word="embedding",
        reason="turns input into the tower's width",
        named=r"(\w+_)?embeddings?|(\w+_)?embedder|patch_(embed\w*|conv|projection)|embed_(?!out)\w+"
        r"|(\w+_)?embed_tokens|(\w+_)?wte|(\w+_)?wpe|\w*embeddings?_(project\w*|transformation)"
        "|embedding_hidden_mapping_in|pos_conv_embed|pos_embed|inputs_embeds_projector|project_in"
        r"|decoder_embed|prenet|positions_projection|input_ff_layer|visn_fc|\w+_pos_enc_project",
        classed=r"\w*(Embeddings?|Embedder|PatchEmbed)(\dD)?",
        outside=LAYER | {"embedding"},
        where=_is_small,
    ),
    Rule(
        name="feature-projection", word="embedding",
        reason="brings the features of a convolutional front end to the tower's width",
        named=r"feature_projection",
        outside=LAYER | {"embedding"},
        where=lambda node: node.kind == "linear" or "projection" in node.child_names,
    ),
    Rule(
        name="input-projection", word="embedding",
        reason="brings raw latents, prompts or conditions to the tower's width",
        named=r"\w+_(latent|prompt)_proj|num_\w+_proj|\w+_delta_proj|noisy_\w+_proj|cond_proj"
        r"|\w*action_in_proj|state_proj|action_time_mlp_\w+",
        outside=LAYER | {"embedding"},
    ),
)  # fmt: skip

HEADS = (
    Rule(
        name="pooler", word="pooler",
        reason="one vector for the whole sequence",
        named=r"(\w+_)?pooler|sequence_summary",
        classed=r"\w*Pooler",
        outside=CLOSED,
        where=_is_small,
    ),
    Rule(
        name="codebook", word="codebook",
        reason="codes of a vector quantizer",
        named=r"codebook|quantizers?|quantize|\w*vector_quantizer",
        classed=r"\w*(VectorQuantiz\w*|Codebook)",
        outside=LAYER,
    ),
    Rule(
        name="head", word="head",
        reason="maps the last states to the task's output",
        named=r"(\w+_)?heads?|score|(\w+_)?classifier|cls|qa_outputs|(\w+_)?predictions?|\w*predict_\w+"
        r"|logit\w*|proj_out|embed_out|lm_loss|pred_layer|output_projection(_\w+)?|horizon_ff_layer"
        r"|output_layer|enc_output|(\w+_)?(class|bbox|box|score|mask)_(embed|embedder)|bbox_predictor"
        r"|output_hypernetworks_mlps|\w+_mask_mlp|matchability|final_projection|token_confidence"
        "|dot_product_scoring|reg_conf|seasonality_projection|feat_out|prob_out|head_linear|task_mlp"
        r"|(\w+_)?action_out_proj|vocab_(transform|projector)|decoder_pred|project_(q|hid|out)"
        "|(ctc|speaker)_proj|embedding_proj_layer|tdnn|loss_weighting",
        classed=r"\w*(Head|GlobalPointer|ConfidenceLayer)",
        outside=LAYER | {"conv", "pooler", "embedding", "resample"},
        where=_is_plain,
    ),
    Rule(
        name="output-matrix", word="head",
        reason="the last matrix beside the model, or beside its token table",
        named=r"output|ff_out",
        beside=r"tok_embeddings|wte|model",
        outside=LAYER,
        where=lambda node: not node.is_repeated,
    ),
    Rule(
        name="before-the-classifier", word="head",
        reason="leads from the last states to the classifier beside it",
        named=r"projector|dense|feature_extractor|fc",
        beside=r"classifier|out_proj|objective|embedder",
        outside=LAYER,
        where=lambda node: node.kind == "linear" and node.parent_name == "",
    ),
    Rule(
        name="output-layer", word="head",
        reason="the last matrix of a final layer",
        named=r"linear_2|proj",
        outside=LAYER,
        where=lambda node: node.parent_class.endswith("FinalLayer"),
    ),
    Rule(
        name="contrastive-head", word="head",
        reason="projects into a space that is shared with another tower",
        named="(visual|text|image|vision|audio|speech)_projection(_layer)?|transformation"
        "|prompts_visual_projection",
        outside=LAYER | {"conv", "pooler", "embedding"},
        where=_projects_into_shared_space,
    ),
    Rule(
        name="recurrent-network", word="recurrent",
        reason="an LSTM or GRU",
        classed=r"\w*(LSTM|GRU)",
        named=r"lstm|gru",
        outside=CLOSED,
    ),
)  # fmt: skip
