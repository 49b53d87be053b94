"""``python -m lora_probe``."""

from lora_probe.cli import main

main()
