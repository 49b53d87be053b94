#!/bin/sh
# The main job on real models, from the configurations inside the package: no network is used.
# Scans five models, goes from budget to export with three of them, and ends with a pilot on a model of the package.
set -eu
PATH="$(cd "$BIN" && pwd):$PATH"
OUT=build/demo
mkdir -p "$OUT"

show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

for model in meta-llama/Llama-3.1-8B Qwen/Qwen2.5-7B-Instruct google/gemma-3-4b-it Qwen/Qwen3-30B-A3B Qwen/Qwen2.5-VL-7B-Instruct
do
    show lora-probe scan "$model" --source catalogue -r 16
done

go() { # model, targets as people copy them, targets as they were meant, trainer
    name=$(printf '%s' "$1" | tr '/' '_')
    show lora-probe budget "$1" --source catalogue --max-adapter-size 100MB
    lora-probe budget "$1" --source catalogue --html "$OUT/$name-budget.html"
    show lora-probe check "$1" --source catalogue --targets "$2" -r 16
    show lora-probe export "$1" --source catalogue --targets "$3" --to "$4" -r 16
}
go meta-llama/Llama-3.1-8B q_proj,v_proj,dense "attention+mlp" axolotl
go google/gemma-3-4b-it q_proj,v_proj "text:attention+text:mlp" peft
go Qwen/Qwen3-30B-A3B all-linear "attention+experts" trl

printf '\nReports to open in a browser:\n'
for model in meta-llama/Llama-3.1-8B google/gemma-3-4b-it Qwen/Qwen3-30B-A3B
do
    name=$(printf '%s' "$model" | tr '/' '_')
    lora-probe scan "$model" --source catalogue -r 16 --html "$OUT/$name-scan.html"
    printf '  %s\n  %s\n' "$OUT/$name-scan.html" "$OUT/$name-budget.html"
done

printf '\nAnd with training, on a small model that comes with the package:\n'
show lora-probe demo --out "$OUT/pilot"
