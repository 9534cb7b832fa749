#!/bin/sh
# Builds the C++ service, when its source is newer than it.
set -eu
mkdir -p target
if [ ! target/server -nt server.cpp ]; then
    g++ -std=c++17 -O2 -g1 -Wall -Wextra -pthread -o target/server server.cpp
fi
