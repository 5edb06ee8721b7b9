#!/usr/bin/env bash
# Makes deploy/demo_model's files again from public texts: tokenizer, training, evaluation.
#
#   train/make_demo_model.sh TEXT_DIR OUT_DIR [STEPS]
#
# TEXT_DIR holds the texts that the model card names, one paragraph per line, documents apart by a line <|endoftext|>:
#   kids_train.txt.gz  fiction_train.txt.gz  fairytaleqa_stories.txt.gz  african_storybook_en_ccby.txt.gz
#   tinystories_sample.txt.gz
#   books_valid.txt.gz (measured on, never trained on)
# STEPS: 11000 by default, two hours on two cores. A run that was stopped goes on from its last checkpoint.
set -euo pipefail

text_dir=$1
out_dir=$2
steps=${3:-11000}
train=${ADAMOE_TRAIN:-$(dirname "$0")/../build/release/train/adamoe_train}

mkdir -p "$out_dir"
work_dir=$out_dir/training
mkdir -p "$work_dir"

# This sample separates paragraphs by an empty line and stories by nothing.
zcat "$text_dir/tinystories_sample.txt.gz" |
  awk 'NF == 0 { gap = 1; next } { if (NR > 1 && !gap) print "<|endoftext|>"; print; gap = 0 }' |
  gzip > "$work_dir/tinystories.txt.gz"

kids=$text_dir/kids_train.txt.gz
fiction=$text_dir/fiction_train.txt.gz
tales=$text_dir/fairytaleqa_stories.txt.gz
storybook=$text_dir/african_storybook_en_ccby.txt.gz
tiny=$work_dir/tinystories.txt.gz

"$train" tokenizer --text="$kids,$tales,$storybook,$tiny" --vocab_size=4096 --out="$work_dir/tokenizer"

resume=()
if [[ -e $work_dir/run/training.json ]]; then resume=(--resume); fi
"$train" pretrain --tokenizer="$work_dir/tokenizer" --out="$work_dir/run" \
  --text="$kids,$fiction:0.25,$tales,$storybook,$tiny" \
  --hidden_size=256 --intermediate_size=672 --num_layers=4 --num_heads=8 --num_kv_heads=4 \
  --num_experts=8 --num_null_experts=8 --experts_per_token=3 --tie_word_embeddings \
  --window=256 --sliding_window=256 --max_position_embeddings=1024 \
  --batch=8 --share=4 --learning_rate=2e-3 --first_alpha=0.02 --last_alpha=0.0001 \
  --max_steps="$steps" --checkpoint_steps=300 "${resume[@]}"

cp "$work_dir"/run/{config.json,generation_config.json,model.safetensors,tokenizer.json,tokenizer_config.json} "$out_dir"
"$train" evaluate --model="$out_dir" --text="$text_dir/books_valid.txt.gz" --json="$work_dir/evaluation.json"
