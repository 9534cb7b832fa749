//! Fuzzes the readers of a census with random memory. Code that checks types first (a frame's variables) is
//! not reached.

use std::sync::Arc;
use std::time::Duration;

use heaptide_process::memory::{Budget, Read};

use super::Walk;
use crate::cpython::code::Code;
use crate::cpython::interpreter::Interpreter;
use crate::cpython::memory::Pages;
use crate::cpython::objects;
use crate::cpython::types::{Shape, TypeInfo, Types};
use crate::cpython::version::Version;
use crate::cpython::versions;

/// Memory that changes while it is read: pseudo-random words, chosen to be difficult.
struct Changing(u64);

impl Read for Changing {
    fn read(&mut self, _: u64, into: &mut [u8], budget: &mut Budget) -> bool {
        const WORDS: [u64; 12] = [
            u64::MAX,
            u64::MAX - 7,
            u64::MAX - 31,
            1 << 63,
            (1 << 47) - 8,
            0x1000,
            0x20_0000,
            // a ready type, and a table of 2^40 entries
            1 << 12 | 1 << 14 | 1 << 29,
            0x28 | 0x2b << 8,
            64,
            1,
            0,
        ];
        for word in into.chunks_exact_mut(8) {
            // xorshift64 (Marsaglia 2003)
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&WORDS[(self.0 % 12) as usize].to_le_bytes());
        }
        budget.bytes(into.len()) && self.0 & 3 != 0
    }

    fn is_the_same(&self) -> bool {
        true
    }
}

/// Address sums must not overflow for any words.
#[test]
fn whatever_is_read_nothing_overflows() {
    let info = |managed, dictoffset| TypeInfo {
        shape: Shape::Fields,
        gc: true,
        class: true,
        state: false,
        managed,
        inline_values: managed,
        basicsize: 64,
        dictoffset,
        base: u64::MAX - 7,
    };
    for layout in versions::TABLE {
        let layout = Arc::new((*layout).clone());
        for seed in 1..100 {
            let budget = || Budget::new(1 << 40, 200, Duration::from_secs(60));
            let mut pages = Pages::new(Changing(seed), 1 << 16, budget());
            let mut types = Types::new(Arc::clone(&layout));
            let (mut pairs, mut list) = (Vec::new(), Vec::new());
            for object in [
                0,
                16,
                0x1000,
                (1 << 47) - 8,
                1 << 63,
                u64::MAX - 7,
                u64::MAX,
            ] {
                let _ = objects::dict(&mut pages, &layout, object, &mut pairs, &mut list);
                for shape in [Shape::List, Shape::Tuple, Shape::Set, Shape::Deque] {
                    let _ = objects::items(&mut pages, &layout, shape, object, &mut list);
                }
                for info in [info(true, -1), info(false, 16), info(false, 0)] {
                    let to = &mut pairs;
                    let _ =
                        objects::attributes(&mut pages, &mut types, object, &info, to, &mut list);
                    let _ = objects::slots(&mut pages, &mut types, object, &info, to, &mut list);
                    let _ = objects::fields(&mut pages, object, &info, &mut list);
                }
                let _ = Code::read(&mut pages, &mut types, object);
                pages.budget = budget();
                let version = Version {
                    major: 3,
                    minor: layout.minor,
                    micro: 0,
                    last: true,
                };
                let mut walk = Walk::new(&mut pages, Arc::clone(&layout));
                walk.run(&Interpreter {
                    version,
                    runtime: object,
                    layout: Arc::clone(&layout),
                    context_copy: None,
                });
                walk.threads(object);
                walk.collected(object);
                let _ = walk.function(object, 0);
                let _ = walk.generator(object, 0);
                let _ = walk.frame(object, Some(0));
            }
        }
    }
}
