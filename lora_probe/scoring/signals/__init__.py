"""The signals themselves, one file each, and the passes through the model that feed them."""
