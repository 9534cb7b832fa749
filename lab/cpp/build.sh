#!/usr/bin/env bash
# Builds a variant of the C++ service if a source is newer: build.sh [WAY]
set -eu
way=${1:-server}
case $way in
    server) options="" ;;
    tcmalloc) options="-Wl,--no-as-needed -ltcmalloc_minimal" ;;
    jemalloc-archive) options="-l:libjemalloc.a -lm -ldl" ;;
    static) options="-static" ;;
    stripped) options="-s -g0" ;;
    static-stripped) options="-static -s -g0" ;;
    *) echo "unknown build $way" >&2; exit 64 ;;
esac
mkdir -p target
for source in server.cpp tokens.hpp variants.hpp build.sh; do
    if [ ! "target/$way" -nt "$source" ]; then
        # shellcheck disable=SC2086  # options are words
        exec g++ -std=c++17 -O2 -g1 -Wall -Wextra -pthread -o "target/$way" server.cpp $options
    fi
done
