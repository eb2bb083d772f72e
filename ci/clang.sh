#!/usr/bin/env bash
# Prints the path of a clang++ that can build libFuzzer targets; installs one with apt-get when root and none is there.
set -euo pipefail

probe=$(mktemp -d)
trap 'rm -rf "$probe"' EXIT
echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' > "$probe/target.cpp"

find_clang() {
  local name
  for name in ${FUZZ_CXX:-} clang++-{21..14} clang++; do
    if command -v "$name" > /dev/null && "$name" -fsanitize=fuzzer,address "$probe/target.cpp" -o "$probe/target" 2> /dev/null
    then
      command -v "$name"
      return 0
    fi
  done
  return 1
}

# The sanitizers' runtime is a package of its own on some distributions and part of clang's on others.
install_clang() {
  local version
  apt-get update -qq
  version=$(apt-cache depends clang | sed -n 's/.*Depends: clang-\([0-9]\+\)$/\1/p' | head -n 1)
  apt-get install -qq -y --no-install-recommends "clang-$version"
  apt-get install -qq -y --no-install-recommends "libclang-rt-$version-dev" || true
}

if ! find_clang; then
  if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    install_clang >&2
    find_clang && exit 0
  fi
  echo "No clang++ with libFuzzer was found. Install clang and its compiler runtime (Debian, Ubuntu: apt-get install" >&2
  echo "clang libclang-rt-dev), or name one: FUZZ_CXX=/path/to/clang++" >&2
  exit 1
fi
