#!/bin/sh
# Builds the Go services with every toolchain that `cargo xtask setup --lab` has put into lab/target/go:
# target/{echo,nethttp}-VERSION and the same with -stripped (`-ldflags="-s -w"`); those of 1.21 are position-independent
# executables, and of 1.23 there are also target/{cgo,fasthttp,gin,chi}-VERSION. With versions as its arguments only those. Go's cache avoids
# unnecessary builds.
set -eu
cd "$(dirname "$0")"
mkdir -p target
export GO111MODULE=off GOTOOLCHAIN=local CGO_ENABLED=0 GOFLAGS='' GOPATH="$PWD:/usr/share/gocode" GOCACHE="$PWD/target/cache"
if [ $# = 0 ]; then
    cd ../target/go
    set -- *
    cd ../../go
fi
for version in "$@"; do
    GOROOT="$PWD/../target/go/$version/go"
    export GOROOT
    if [ ! -x "$GOROOT/bin/go" ]; then
        echo "no Go $version: run cargo xtask setup --lab" >&2
        exit 1
    fi
    apps="echo nethttp"
    mode=exe
    if [ "$version" = 1.21 ]; then
        # The routes of nethttp have methods and names, which need 1.22.
        apps="echo"
        # One version only, because all of Go's library is compiled for each mode.
        mode=pie
    fi
    for app in $apps; do
        "$GOROOT/bin/go" build -buildmode="$mode" -o "target/$app-$version" "lab/cmd/$app"
        "$GOROOT/bin/go" build -buildmode="$mode" -ldflags="-s -w" -o "target/$app-$version-stripped" "lab/cmd/$app"
    done
    if [ "$version" = 1.23 ]; then
        CGO_ENABLED=1 "$GOROOT/bin/go" build -o "target/cgo-$version" lab/cmd/cgo
        for app in fasthttp gin chi; do
            "$GOROOT/bin/go" build -o "target/$app-$version" "lab/cmd/$app"
        done
    fi
done
