"""Which modules a model's class declares to be tied to its input embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["declared_ties"]


def declared_ties(root: nn.Module) -> tuple[str, ...] | None:
    """Return the paths, sorted, of the modules that `root` declares to share its embedding's weight.

    This is transformers' `_tied_weights_keys`, of the root and of every sub-model, as PEFT reads it
    (`_get_module_names_tied_with_embedding` in peft/utils/other.py). Whatever is shared, it counts where the
    root's class has the declaration and its own config does not say ``tie_word_embeddings=False``. None
    where the class declares ties without an input embedding, at which PEFT raises.
    """
    config = getattr(root, "config", None)
    if getattr(config, "tie_word_embeddings", None) is False:
        return ()
    if not isinstance(getattr(root, "_tied_weights_keys", None), dict):
        return ()
    try:
        embedding = root.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None
    if embedding is None:
        return None
    shared = {id(parameter) for parameter in embedding.parameters()}
    names = {name for name, each in root.named_parameters(remove_duplicate=False) if id(each) in shared}
    declared: dict[str, str] = {}
    for path, module in root.named_modules():
        start, ties = f"{path}." if path else "", getattr(module, "_tied_weights_keys", None)
        if isinstance(ties, dict):
            declared.update({start + target: start + origin for target, origin in ties.items()})
    return tuple(
        sorted({target.rpartition(".")[0] for target, origin in declared.items() if origin in names})
    )
