//! Route templates: `METHOD path` becomes `GET /users/{id}`, at most [`MOST_ROUTES`] of them.
//!
//! A segment that is not a plain word becomes `{id}` at once ([`super::segments`]). Words at a position
//! with many different words become `{id}` later ([`super::tree`]), and their routes are merged.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::events::Request;

use super::keys::{Class, RouteId};
use super::methods::Methods;
use super::refused::Refused;
use super::segments::{is_literal, whole};
use super::tree::{ID, MOST_DEPTH, Tree};

/// Maximum number of named routes. The others share the route `other`.
pub const MOST_ROUTES: usize = 50;
/// Longest maturity age, seconds. Without it a route with endless streams would never be judged.
const LONGEST_MATURITY: f64 = 600.0;
/// Longest latency recorded, microseconds: one hour.
const LONGEST_LATENCY: u64 = 3_600_000_000;
/// The percentile is recomputed after this many requests. For routes with few requests it is recomputed
/// after each.
const P99_EVERY: u64 = 64;

/// Statistics of a route.
pub struct Route {
    /// Its template.
    pub name: String,
    /// Requests that ended.
    pub requests: u64,
    /// Requests by token class.
    pub classes: [u64; Class::COUNT],
    /// Requests whose credential may have been missed.
    pub uncertain: u64,
    latency: Option<Histogram<u32>>,
    /// Cached 99th percentile of the latency, seconds. It is at most [`P99_EVERY`] requests old.
    p99: f64,
    method: String,
    segments: Vec<String>,
    merged_into: Option<RouteId>,
}

/// All routes.
pub struct Routes {
    all: Vec<Route>,
    by_name: BTreeMap<String, RouteId>,
    tree: Tree,
    methods: Methods,
    /// Route merges that later stages have not taken yet: `(from, into)`.
    merges: Vec<(RouteId, RouteId)>,
    named: usize,
    refused: Refused,
    maturity_floor: f64,
}

impl Routes {
    /// Only the fixed routes.
    pub fn new(maturity_floor: f64) -> Self {
        let mut routes = Self {
            all: Vec::new(),
            by_name: BTreeMap::new(),
            tree: Tree::new(),
            methods: Methods::default(),
            merges: Vec::new(),
            named: 0,
            refused: Refused::default(),
            maturity_floor,
        };
        for name in ["(background)", "(unattributed)", "other"] {
            routes.push(name.to_owned(), "", &[]);
        }
        routes
    }

    /// The route of a request.
    pub fn route(&mut self, request: &Request) -> RouteId {
        self.route_of(&whole(&request.head, request.path_cut), request.status)
    }

    /// Counts a request of route `id`. `missed`: its credential may have been missed.
    pub fn count(&mut self, id: RouteId, request: &Request, class: Class, missed: bool) {
        let Some(route) = self.all.get_mut(usize::from(id.0)) else {
            return;
        };
        route.requests += 1;
        if missed {
            route.uncertain += 1;
        } else {
            route.classes[class.index()] += 1;
        }
        let micros =
            (request.end.0.saturating_sub(request.start.0) / 1_000).clamp(1, LONGEST_LATENCY);
        let latency = route.latency.get_or_insert_with(|| {
            Histogram::new_with_bounds(1, LONGEST_LATENCY, 2).unwrap_or_else(|_| unbounded())
        });
        latency.saturating_record(micros);
        if route.requests < 4 * P99_EVERY || route.requests.is_multiple_of(P99_EVERY) {
            route.p99 = p99(latency);
        }
    }

    /// The route that `id` was merged into, or `id` itself.
    pub fn resolve(&self, id: RouteId) -> RouteId {
        let mut id = id;
        while let Some(next) = self.get(id).merged_into {
            id = next;
        }
        id
    }

    /// A route. An unknown id gives `other`.
    pub fn get(&self, id: RouteId) -> &Route {
        self.all
            .get(usize::from(id.0))
            .unwrap_or(&self.all[usize::from(RouteId::OTHER.0)])
    }

    /// Routes that had requests and were not merged, in order of appearance.
    pub fn iter(&self) -> impl Iterator<Item = (RouteId, &Route)> {
        let ids = (0u16..).map(RouteId);
        ids.zip(&self.all)
            .filter(|(_, route)| route.requests > 0 && route.merged_into.is_none())
    }

    /// Merges since the last call.
    pub fn take_merges(&mut self) -> Vec<(RouteId, RouteId)> {
        std::mem::take(&mut self.merges)
    }

    /// Seconds after its request's end at which a block of this route is mature:
    /// `max(floor, 4 x p99 latency)`.
    pub fn maturity_seconds(&self, id: RouteId) -> f64 {
        (4.0 * self.get(id).p99_seconds()).clamp(
            self.maturity_floor,
            self.maturity_floor.max(LONGEST_MATURITY),
        )
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        let histograms = self.all.iter().filter_map(|route| route.latency.as_ref());
        let latencies: usize = histograms.map(|h| h.distinct_values() * 4).sum();
        latencies + self.tree.state_bytes() + self.all.len() * (size_of::<Route>() + 200)
    }

    fn route_of(&mut self, head: &str, status: Option<u16>) -> RouteId {
        if let Some(name) = head.strip_prefix("handler ") {
            // A symbol name from the binary, not from a client.
            let name: String = name.chars().filter(|c| !c.is_control()).take(200).collect();
            return self.named_route(&format!("handler {name}"), "handler", &[]);
        }
        let Some((method, path)) = parse(head) else {
            return RouteId::OTHER;
        };
        let words: Vec<&str> = path
            .split('/')
            .filter(|s| !s.is_empty())
            .take(MOST_DEPTH + 1)
            .collect();
        // A path that the service answered with 404 is not a route at first: scanners try thousands of them.
        let known_only = matches!(status, None | Some(400 | 404 | 405 | 414 | 431 | 501));
        if let Some(id) = self.learn(method, &words, known_only) {
            return id;
        }
        let is_again = status.is_some() && {
            let shown = |word: &&str| (if is_literal(word) { *word } else { ID }).to_owned();
            let folded: Vec<String> = words.iter().map(shown).collect();
            self.refused.count(&template(method, &folded))
        };
        is_again
            .then(|| self.learn(method, &words, false))
            .flatten()
            .unwrap_or(RouteId::OTHER)
    }

    /// The route of a path. `None`: it is not known, and `known_only` is set.
    fn learn(&mut self, method: &str, words: &[&str], known_only: bool) -> Option<RouteId> {
        let method = self.methods.shown(method, !known_only)?;
        let segments = self.tree.learn(words, known_only)?;
        if self.tree.take_collapsed() {
            self.rename();
        }
        let name = template(&method, &segments);
        if known_only && !self.by_name.contains_key(&name) {
            return None;
        }
        Some(self.named_route(&name, &method, &segments))
    }

    /// After a position was generalised: gives each route its new template and merges routes with equal
    /// templates.
    fn rename(&mut self) {
        for index in 0..self.all.len() {
            let route = &self.all[index];
            if route.merged_into.is_some() || route.segments.is_empty() {
                continue;
            }
            let segments = self.tree.rewrite(&route.segments);
            if segments == route.segments {
                continue;
            }
            let method = route.method.clone();
            let name = template(&method, &segments);
            let id = RouteId(index as u16);
            self.by_name.remove(&self.all[index].name.clone());
            if let Some(into) = self.by_name.get(&name).copied() {
                self.merge_routes(id, into);
            } else {
                self.by_name.insert(name.clone(), id);
                self.all[index].name = name;
                self.all[index].segments = segments;
            }
        }
    }

    fn merge_routes(&mut self, from: RouteId, into: RouteId) {
        let [old, new] = [from, into].map(|id| usize::from(id.0));
        let (requests, classes, uncertain) = {
            let route = &self.all[old];
            (route.requests, route.classes, route.uncertain)
        };
        let latency = self.all[old].latency.take();
        let target = &mut self.all[new];
        target.requests += requests;
        target.uncertain += uncertain;
        for (sum, part) in target.classes.iter_mut().zip(classes) {
            *sum += part;
        }
        match (&mut target.latency, latency) {
            // Both histograms have the same bounds, so the addition cannot fail.
            (Some(sum), Some(part)) => drop(sum.add(&part)),
            (sum @ None, Some(part)) => *sum = Some(part),
            _ => {}
        }
        target.p99 = target.latency.as_ref().map_or(0.0, p99);
        self.all[old].merged_into = Some(into);
        self.named = self.named.saturating_sub(1);
        self.merges.push((from, into));
    }

    fn named_route(&mut self, name: &str, method: &str, segments: &[String]) -> RouteId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        // Ids of merged routes are not reused, so their number is bounded as well.
        if self.named >= MOST_ROUTES || self.all.len() >= 4 * MOST_ROUTES {
            return RouteId::OTHER;
        }
        self.named += 1;
        self.push(name.to_owned(), method, segments)
    }

    fn push(&mut self, name: String, method: &str, segments: &[String]) -> RouteId {
        let id = RouteId(self.all.len() as u16);
        if usize::from(id.0) > usize::from(RouteId::OTHER.0) {
            self.by_name.insert(name.clone(), id);
        }
        self.all.push(Route {
            name,
            requests: 0,
            classes: [0; Class::COUNT],
            uncertain: 0,
            latency: None,
            p99: 0.0,
            method: method.to_owned(),
            segments: segments.to_vec(),
            merged_into: None,
        });
        id
    }
}

impl Route {
    /// 99th percentile of latency, seconds; 0 before the first request.
    pub fn p99_seconds(&self) -> f64 {
        self.p99
    }
}

fn p99(latency: &Histogram<u32>) -> f64 {
    latency.value_at_quantile(0.99) as f64 / 1e6
}

/// The fallback bounds are within the crate's limits, so this cannot fail.
fn unbounded() -> Histogram<u32> {
    let mut histogram = Histogram::new(1).expect("one significant digit is within 0..=5");
    histogram.auto(true);
    histogram
}

fn template(method: &str, segments: &[String]) -> String {
    format!("{method} /{}", segments.join("/"))
}

/// Method and path of `METHOD path`, if it is HTTP.
fn parse(head: &str) -> Option<(&str, &str)> {
    let (method, target) = head.split_once(' ')?;
    let target = target.split(' ').next().unwrap_or(target);
    // Absolute form, as proxies send it.
    let path = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    let path = path.split(['?', '#', ';']).next().unwrap_or(path);
    (path.starts_with('/') || path == "*").then_some((method, path.trim_start_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Binding, Nanos, RequestId};

    fn request(head: &str, status: u16) -> Request {
        Request {
            id: RequestId(1),
            start: Nanos(0),
            end: Nanos(2_000_000),
            head: head.to_owned(),
            token: None,
            status: Some(status),
            binding: Binding::Exact,
            body_bytes: 0,
            token_uncertain: false,
            path_cut: false,
            again: false,
        }
    }

    fn name(routes: &mut Routes, head: &str) -> String {
        let request = request(head, 200);
        let id = routes.route(&request);
        routes.count(id, &request, Class::None, false);
        routes.get(routes.resolve(id)).name.clone()
    }

    #[test]
    fn heads_become_templates() {
        let mut routes = Routes::new(10.0);
        for (head, template) in [
            ("GET /api/data", "GET /api/data"),
            ("GET /users/17", "GET /users/{id}"),
            (
                "GET /users/17/posts/550e8400-e29b-41d4-a716-446655440000",
                "GET /users/{id}/posts/{id}",
            ),
            ("POST /api/upload?x=secret", "POST /api/upload"),
            ("GET http://example.org/api/data", "GET /api/data"),
            ("GET /", "GET /"),
            ("GET //api//data/", "GET /api/data"),
            ("handler app::get_data", "handler app::get_data"),
            ("PROPFIND /dav/17", "PROPFIND /dav/{id}"),
            ("PURGE /cache/page", "PURGE /cache/page"),
            ("CLEAN /coffee", "CLEAN /coffee"),
            ("s3cr3t /coffee", "other /coffee"),
            ("G(T /coffee", "other"),
            ("\u{1}\u{2}garbage", "other"),
            ("GET", "other"),
            ("", "other"),
            ("GET api", "other"),
        ] {
            assert_eq!(name(&mut routes, head), template, "{head}");
        }
    }

    #[test]
    fn words_that_are_identifiers_collapse_and_their_routes_become_one() {
        let mut routes = Routes::new(10.0);
        let early = routes.route(&request("GET /by-name/alice/posts", 200));
        assert_eq!(routes.get(early).name, "GET /by-name/alice/posts");
        for a in b'a'..=b'z' {
            for b in [b'a', b'e', b'o'] {
                let user = format!("{}{}ron", char::from(a), char::from(b));
                name(&mut routes, &format!("GET /by-name/{user}/posts"));
            }
        }
        assert_eq!(
            routes.get(routes.resolve(early)).name,
            "GET /by-name/{id}/posts"
        );
        assert_eq!(
            name(&mut routes, "GET /by-name/zoe/posts"),
            "GET /by-name/{id}/posts"
        );
        assert_eq!(name(&mut routes, "GET /api/data"), "GET /api/data");
        let all: Vec<_> = routes
            .iter()
            .map(|(_, route)| (route.name.as_str(), route.requests))
            .collect();
        assert_eq!(all, [("GET /by-name/{id}/posts", 79), ("GET /api/data", 1)]);
        assert!(!routes.take_merges().is_empty());
    }

    #[test]
    fn an_unknown_path_that_comes_again_and_again_is_a_route() {
        let mut routes = Routes::new(10.0);
        let ids = (0..40).map(|id| routes.route(&request(&format!("GET /reports/{id}12"), 404)));
        let ids: Vec<RouteId> = ids.collect();
        assert_eq!(ids[0], RouteId::OTHER);
        assert_eq!(routes.get(ids[39]).name, "GET /reports/{id}");
    }

    #[test]
    fn scanners_and_many_routes_end_as_other() {
        let mut routes = Routes::new(10.0);
        let id = routes.route(&request("GET /wp-admin/setup.php", 404));
        assert_eq!(id, RouteId::OTHER);
        let words = [
            "red", "green", "blue", "cyan", "pink", "grey", "gold", "plum", "rust", "teal",
        ];
        for a in words {
            for b in words {
                name(&mut routes, &format!("GET /{a}/{b}"));
            }
        }
        let named = routes.iter().filter(|(id, _)| *id > RouteId::OTHER).count();
        assert_eq!(named, MOST_ROUTES);
        assert_eq!(name(&mut routes, "GET /violet/violet"), "other");
        assert!(routes.state_bytes() < 2 << 20, "{}", routes.state_bytes());
        let (deep, wide) = ("/a".repeat(5_000), "x".repeat(100_000));
        assert_eq!(name(&mut routes, &format!("GET {deep}")), "other");
        assert_eq!(name(&mut routes, &format!("GET /{wide}")), "other");
    }
}
