#!/bin/sh
# The main job on real models, from the configurations inside the package: no network is used.
set -eu
RANK=16
for model in meta-llama/Llama-3.1-8B Qwen/Qwen2.5-7B-Instruct google/gemma-3-4b-it Qwen/Qwen3-30B-A3B Qwen/Qwen2.5-VL-7B-Instruct
do
    printf '\n$ lora-probe scan %s -r %s\n' "$model" "$RANK"
    "$BIN/lora-probe" scan "$model" --source catalogue -r "$RANK"
done
