#!/usr/bin/env bash
# Runs every study, as two processes of one thread each, and joins them in OUT, where STUDIES.md and the plots are then.
#
#     benchmarks/studies.sh OUT [options of ilk study, such as --seeds 2]
#
# Stopped in the middle, the same command goes on. A folder of runs belongs to one process at a time, hence the second.
set -euo pipefail
out=${1:?Say where to: benchmarks/studies.sh OUT [options of ilk study]}
shift
export OMP_NUM_THREADS=1
first=cc-views,cc-heads,crlc-critics,crlc-weights,crlc-heads,crlc-smoothing,c2bin-alignment,c2bin-scales,cc-backbones
second=scl-discrimination,dcdc-losses,c2bin-parts,scl-tasks,dcdc-over-clustering,dcdc-repeats,scl-hard-weights,dcdc-batch,imbalance

# TERM: the shell starts background jobs so that they ignore INT
trap 'kill -TERM $(jobs -p) 2>/dev/null; wait; exit 130' INT TERM
ilk study "$first" --out "$out" "$@" &
ilk study "$second" --out "$out.second" "$@" &
wait  # for both; what failed is tried again below

mkdir -p "$out/runs"
cp -R "$out.second/runs/." "$out/runs/"
cat "$out.second/rows.jsonl" >>"$out/rows.jsonl"
ilk study all --out "$out" "$@" # trains what failed, which is nothing as a rule, and writes all pages
