"""The lints, one a module: each declares its ``RULE``."""
