//! Paths that the service refused (404 and the like), by template. A template that comes again and again becomes a
//! route, because error paths leak too. Scanners try thousands of paths once.

use std::collections::BTreeMap;

/// Requests of a template after which it is a route.
const ROUTE_AFTER: u32 = 20;
/// Maximum number of routes made from refused paths: a client chooses these names.
const MOST_ROUTES: usize = 8;
/// Templates that are counted. If there are more, all counts decrease together, which frequent templates survive
/// (Misra and Gries, "Finding repeated elements", 1982).
const MOST_COUNTED: usize = 64;
/// Longer templates are not counted.
const LONGEST: usize = 200;

/// Counts of refused templates.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    counts: BTreeMap<String, u32>,
    routes: usize,
}

impl Refused {
    /// Counts a request of this template. Returns whether it becomes a route now.
    pub fn count(&mut self, template: &str) -> bool {
        if self.routes >= MOST_ROUTES || template.len() > LONGEST {
            return false;
        }
        if !self.counts.contains_key(template) && self.counts.len() >= MOST_COUNTED {
            self.counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
            return false;
        }
        let count = self.counts.entry(template.to_owned()).or_default();
        *count += 1;
        if *count < ROUTE_AFTER {
            return false;
        }
        self.counts.remove(template);
        self.routes += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_among_scanned_paths_becomes_a_route() {
        let mut refused = Refused::default();
        let mut found = Vec::new();
        for number in 0..4_000 {
            let scanned = format!("GET /scan/{number}.php");
            assert!(!refused.count(&scanned));
            if number % 10 == 0 && refused.count("GET /reports/{id}") {
                found.push(number);
            }
            assert!(refused.counts.len() <= MOST_COUNTED);
        }
        assert!(!found.is_empty(), "it is every tenth request");
    }

    #[test]
    fn a_client_cannot_fill_the_table_of_routes() {
        let mut refused = Refused::default();
        let mut routes = 0;
        for path in 0..100 {
            for _ in 0..30 {
                routes += usize::from(refused.count(&format!("GET /{path}")));
            }
        }
        assert_eq!(routes, MOST_ROUTES);
    }
}
