//! The planner against real prologues (`tests/fixtures/prologues.tsv`).

use super::planner::needs_of;
use super::prologue::{Needs, choose};
use crate::allocators::Function;
use crate::allocators::TABLE;

fn function(symbol: &str) -> Option<&'static Function> {
    TABLE
        .iter()
        .flat_map(|a| a.all())
        .find_map(|(prefix, function)| {
            (symbol.strip_prefix(prefix) == Some(function.name)).then_some(function)
        })
}

#[test]
fn real_prologues() {
    let table = include_str!("../../tests/fixtures/prologues.tsv");
    let mut wrong = Vec::new();
    let mut rows = 0;
    for line in table.lines().filter(|l| !l.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [source, symbol, hex, expected, pushed] = columns[..] else {
            panic!("{line}")
        };
        let code: Vec<u8> = (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        let needs = match function(symbol) {
            Some(function) => needs_of(function, false),
            // Go: only the task's address is read
            None => Needs {
                arguments: vec![0],
                ..Needs::default()
            },
        };
        let place = choose(symbol, &code, 0x10_0000, &needs);
        let offset = if place.emulated {
            place.offset.to_string()
        } else {
            "-".to_string()
        };
        if (offset.as_str(), place.pushed.to_string().as_str()) != (expected, pushed) {
            wrong.push(format!(
                "{source}\t{symbol}\t{offset}\t{}\t{}",
                place.pushed, place.why
            ));
        }
        rows += 1;
    }
    assert!(rows > 50);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
