//! Small synthetic prologues; real ones are in `plan/fixtures.rs`.

use super::*;

fn place(code: &[u8], registers: &[u8], returns: bool, null: bool) -> (u64, u16, bool) {
    let arguments = registers.to_vec();
    let null_is_nothing = null.then_some(0);
    let needs = Needs {
        arguments,
        null_is_nothing,
        returns,
        long_nops: false,
    };
    let place = choose("f", code, 0x1000, &needs);
    (place.offset, place.pushed, place.emulated)
}

#[test]
fn pushes() {
    assert_eq!(place(&[0x55], &[0], true, false), (0, 0, true)); // push rbp
    assert_eq!(place(&[0x41, 0x57], &[0], true, false), (0, 0, true)); // push r15
    assert_eq!(
        place(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55], &[0], true, false),
        (4, 0, true)
    );
    // push with another prefix is single-stepped
    assert_eq!(place(&[0x66, 0x55, 0xc3], &[0], true, false), (0, 0, false));
    assert_eq!(place(&[0x48, 0x55, 0xc3], &[0], true, false), (0, 0, false));
}

#[test]
fn an_overwritten_argument_ends_the_search() {
    let code = [0x89, 0xf7, 0x55]; // mov edi, esi; push rbp
    assert_eq!(place(&code, &[0], true, false), (0, 0, false));
    assert_eq!(place(&code, &[1], true, false), (2, 0, true));
}

#[test]
fn moved_arguments() {
    // mov rsi,rdi; mov rdi,rax; jmp
    let code = [0x48, 0x89, 0xfe, 0x48, 0x89, 0xc7, 0xe9, 0, 0, 0, 0];
    let needs = Needs {
        arguments: vec![0],
        returns: true,
        ..Needs::default()
    };
    let place = choose("f", &code, 0x1000, &needs);
    assert_eq!(
        (place.offset, place.argument(0), place.argument(0xff)),
        (6, 1, 0xff)
    );
    // a copy of only 32 bits does not count
    let place = choose(
        "f",
        &[0x89, 0xfe, 0x48, 0x89, 0xc7, 0xeb, 0],
        0x1000,
        &needs,
    );
    assert!(!place.emulated);
}

#[test]
fn pushed_bytes() {
    let code = [0x48, 0x83, 0xec, 0x18, 0x85, 0xc0, 0x74, 0x02]; // sub rsp,24; test; je
    assert_eq!(place(&code, &[0], false, false), (6, 24, true));
    // a return probe needs the return address at [rsp]
    assert_eq!(place(&code, &[0], true, false), (0, 0, false));
    assert_eq!(
        place(&[0x48, 0x83, 0xe4, 0xf0, 0x55], &[0], false, false),
        (0, 0, false)
    );
}

#[test]
fn null() {
    // test rdi,rdi; je +16; push rbp
    let code = [0x48, 0x85, 0xff, 0x74, 0x10, 0x55];
    assert_eq!(place(&code, &[0], false, true), (5, 0, true));
    assert_eq!(place(&code, &[0], false, false), (3, 0, true));
    // the flags are of another register, or the jump is taken for all but NULL
    assert_eq!(
        place(&[0x48, 0x85, 0xf6, 0x74, 0x10, 0x55], &[0], false, true),
        (3, 0, true)
    );
    assert_eq!(
        place(&[0x48, 0x85, 0xff, 0x75, 0x10, 0x55], &[0], false, true),
        (3, 0, true)
    );
    // only the lower half is tested
    assert_eq!(
        place(&[0x85, 0xff, 0x74, 0x10, 0x55], &[0], false, true),
        (2, 0, true)
    );
    // no instruction after the jump
    assert_eq!(
        place(&[0x48, 0x85, 0xff, 0x74, 0x10, 0xc3], &[0], false, true),
        (3, 0, true)
    );
}

#[test]
fn loops() {
    // mov eax,edi; L: push rcx; .. ; jmp L
    let code = [0x89, 0xf8, 0x51, 0xff, 0xc8, 0xeb, 0xfb];
    assert_eq!(place(&code, &[0], true, false), (0, 0, false));
}

#[test]
fn go_stack_check() {
    // cmp rsp,[r14+16]; jbe +0x20; push rbp
    let code = [0x49, 0x3b, 0x66, 0x10, 0x76, 0x20, 0x55];
    assert_eq!(place(&code, &[], false, false), (6, 0, true));
}

#[test]
fn any_bytes_are_survived() {
    let mut seed = 7_u32;
    for len in 0..64 {
        for _ in 0..200 {
            let code: Vec<u8> = (0..len)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                })
                .collect();
            let (offset, pushed, emulated) = place(&code, &[0, 1], false, true);
            assert!(offset as usize <= len && (emulated || (offset, pushed) == (0, 0)));
        }
    }
}
