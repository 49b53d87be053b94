"""What a person sees of a graph: terminal, Markdown, CSV, HTML and plots.

Text from a model goes through :func:`lora_probe.text.printable` and the escaping of each format.
"""
