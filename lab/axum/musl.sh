#!/usr/bin/env bash
# Builds the Axum service as a static program with musl's C library: musl.sh TOOLCHAIN
#
# Rust's standard library for musl is not packaged everywhere, so it is built too: TOOLCHAIN has its sources.
set -eu
toolchain=$1
target=x86_64-unknown-linux-musl
cd "$(dirname "$0")/.."
mkdir -p target/musl
# The unwinder is GCC's, because Debian has no other for musl. It uses a glibc function to find the unwind
# tables, which musl lacks.
unwinder=$(gcc -print-file-name=libgcc_eh.a)
if [ ! target/musl/libunwind.a -nt "$unwinder" ]; then
    echo 'int _dl_find_object(void *address, void *found) { (void)address, (void)found; return -1; }' |
        musl-gcc -O2 -x c -c -o target/musl/find.o -
    cp "$unwinder" target/musl/unwinder.a
    ar r target/musl/unwinder.a target/musl/find.o
    mv target/musl/unwinder.a target/musl/libunwind.a
fi
flags="-C linker=musl-gcc -C link-self-contained=no -C relocation-model=static -C target-feature=+crt-static"
# RUSTC_BOOTSTRAP: a stable compiler builds the library of its own version.
exec env RUSTC_BOOTSTRAP=1 CC_x86_64_unknown_linux_musl=musl-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS="$flags -L $PWD/target/musl" \
    rustup run "$toolchain" cargo build --release --package lab-axum --bin lab-axum --target "$target" \
    --target-dir target/musl -Z build-std=std,panic_unwind
