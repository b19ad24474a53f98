#!/usr/bin/env bash
# install_test.sh SOURCE BUILD: a program outside of the checkout builds against the installed tree and runs a model.
set -euo pipefail
source=$1 build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if grep -q '^OCIOR_SANITIZE:STRING=.' "$build/CMakeCache.txt"; then echo "a sanitized library is not installed"; exit 0; fi
cmake --install "$build" --prefix "$work/prefix" >/dev/null
model=$source/tests/data/onnx/relu.onnx

cmake -G Ninja -S "$source/examples/cpp" -B "$work/example" -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
cmake --build "$work/example" >/dev/null
"$work/example/example" "$work/missing.onnx" 2>"$work/error" && { echo "a missing model must fail"; exit 1; }
grep -q missing.onnx "$work/error"
"$work/example/example" "$model" n=2 | tee "$work/out"
grep -q 'output y float\[2, 2\]' "$work/out"

export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$(find "$work/prefix" -name ocior.pc)")
# shellcheck disable=SC2046  # flags are words
c++ "$source/examples/cpp/main.cpp" $(pkg-config --cflags --libs ocior) -o "$work/by_pkg_config"
LD_LIBRARY_PATH=$(dirname "$(find "$work/prefix" -name 'libocior.so')") "$work/by_pkg_config" "$model" n=2 | cmp - "$work/out"
