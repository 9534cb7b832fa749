//! Route templates: `METHOD path` becomes `GET /users/{id}`, at most [`MOST_ROUTES`] of them.
//!
//! A segment that is no plain word is `{id}` at once ([`super::segments`]). Words are learned in a
//! bounded tree: when one position under one prefix has taken more than [`MOST_CHILDREN`] different
//! words (user names, slugs), they become `{id}` too, and the routes made of them become one.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::events::Request;

use super::segments::is_literal;
use super::tokens::Class;

/// Routes shown by name; the rest is `other`.
pub const MOST_ROUTES: usize = 50;
/// Different words at one position before they are taken for identifiers.
const MOST_CHILDREN: usize = 32;
/// Nodes of the tree at most.
const MOST_NODES: usize = 4_096;
/// Segments looked at; what follows is `*`.
const MOST_DEPTH: usize = 10;
/// Longest maturity, seconds: a route of endless streams would otherwise never be judged.
const LONGEST_MATURITY: f64 = 600.0;
/// Latencies are kept in microseconds up to an hour.
const LONGEST_LATENCY: u64 = 3_600_000_000;
/// What stands for an identifier.
const ID: &str = "{id}";

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u16);

impl RouteId {
    /// No request at all.
    pub const BACKGROUND: Self = Self(0);
    /// A request whose record was lost.
    pub const UNATTRIBUTED: Self = Self(1);
    /// A request that is no HTTP or beyond the number of routes.
    pub const OTHER: Self = Self(2);

    /// Whether requests belong to it.
    pub fn has_requests(self) -> bool {
        self >= Self::OTHER
    }
}

/// What is known of a route.
pub struct Route {
    /// Its template.
    pub name: String,
    /// Requests that ended.
    pub requests: u64,
    /// Of those, by token class.
    pub classes: [u64; Class::COUNT],
    /// Of those, with a credential that may have been missed.
    pub uncertain: u64,
    latency: Option<Histogram<u32>>,
    method: String,
    segments: Vec<String>,
    merged_into: Option<RouteId>,
}

#[derive(Default)]
struct Node {
    children: BTreeMap<String, usize>,
    wildcard: Option<usize>,
    collapsed: bool,
}

/// All routes.
pub struct Routes {
    routes: Vec<Route>,
    by_name: BTreeMap<String, RouteId>,
    nodes: Vec<Node>,
    /// Route merges not yet told to the stages behind: `(from, into)`.
    merges: Vec<(RouteId, RouteId)>,
    named: usize,
    maturity_floor: f64,
}

impl Routes {
    /// No routes but the fixed ones.
    pub fn new(maturity_floor: f64) -> Self {
        let mut routes = Self {
            routes: Vec::new(),
            by_name: BTreeMap::new(),
            nodes: vec![Node::default()],
            merges: Vec::new(),
            named: 0,
            maturity_floor,
        };
        for name in ["(background)", "(unattributed)", "other"] {
            routes.push(name.to_owned(), "", &[]);
        }
        routes
    }

    /// The route of a request.
    pub fn route(&mut self, request: &Request) -> RouteId {
        self.route_of(&request.head, request.status)
    }

    /// Counts a request of route `id`. `missed`: its credential may have been missed.
    pub fn count(&mut self, id: RouteId, request: &Request, class: Class, missed: bool) {
        let Some(route) = self.routes.get_mut(usize::from(id.0)) else {
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
    }

    /// Where `id` leads after merges.
    pub fn resolve(&self, id: RouteId) -> RouteId {
        let mut id = id;
        while let Some(next) = self.get(id).merged_into {
            id = next;
        }
        id
    }

    /// A route; an id that was never given out is `other`.
    pub fn get(&self, id: RouteId) -> &Route {
        self.routes
            .get(usize::from(id.0))
            .unwrap_or(&self.routes[usize::from(RouteId::OTHER.0)])
    }

    /// Routes that had requests and were not merged, in order of appearance.
    pub fn iter(&self) -> impl Iterator<Item = (RouteId, &Route)> {
        let ids = (0u16..).map(RouteId);
        ids.zip(&self.routes)
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

    /// Bytes of state, estimated.
    pub fn state_bytes(&self) -> usize {
        let histograms = self
            .routes
            .iter()
            .filter_map(|route| route.latency.as_ref());
        let latencies: usize = histograms.map(|h| h.distinct_values() * 4).sum();
        latencies + self.nodes.len() * 120 + self.routes.len() * (size_of::<Route>() + 200)
    }

    fn route_of(&mut self, head: &str, status: Option<u16>) -> RouteId {
        if let Some(name) = head.strip_prefix("handler ") {
            // a symbol name from the binary, not from a client
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
        // what the service itself did not find names no route of it: scanners try thousands
        let known_only = matches!(status, None | Some(400 | 404 | 405 | 414 | 431 | 501));
        let Some(segments) = self.learn(&words, known_only) else {
            return RouteId::OTHER;
        };
        let name = template(method, &segments);
        if known_only && !self.by_name.contains_key(&name) {
            return RouteId::OTHER;
        }
        self.named_route(&name, method, &segments)
    }

    /// Walks the tree along `words`, adding what is new. `None`: not known, and not to be added.
    fn learn(&mut self, words: &[&str], known_only: bool) -> Option<Vec<String>> {
        let mut at = 0;
        let mut out = Vec::with_capacity(words.len());
        for (depth, word) in words.iter().enumerate() {
            if depth == MOST_DEPTH {
                out.push("*".to_owned());
                break;
            }
            let literal = is_literal(word) && !self.nodes[at].collapsed;
            let next = if literal {
                self.nodes[at].children.get(*word).copied()
            } else {
                self.nodes[at].wildcard
            };
            let (next, literal) = match next {
                Some(next) => (next, literal),
                None if known_only => return None,
                None => self.grow(at, literal.then_some(*word)),
            };
            out.push(if literal {
                (*word).to_owned()
            } else {
                ID.to_owned()
            });
            at = next;
        }
        Some(out)
    }

    /// Adds a child to `at`: `word`, or the wildcard. Says whether it stayed a word.
    fn grow(&mut self, at: usize, word: Option<&str>) -> (usize, bool) {
        let full = self.nodes.len() >= MOST_NODES;
        match word {
            Some(word) if !full && self.nodes[at].children.len() < MOST_CHILDREN => {
                self.nodes.push(Node::default());
                let next = self.nodes.len() - 1;
                self.nodes[at].children.insert(word.to_owned(), next);
                (next, true)
            }
            Some(_) if !full => (self.collapse(at), false),
            // a full tree leads back to its root, which is collapsed enough by then
            _ if full => (self.nodes[at].wildcard.unwrap_or(0), false),
            _ => {
                self.nodes.push(Node::default());
                let next = self.nodes.len() - 1;
                self.nodes[at].wildcard = Some(next);
                (next, false)
            }
        }
    }

    /// Makes all words under `at` identifiers; what was below them is below the wildcard then.
    fn collapse(&mut self, at: usize) -> usize {
        let children = std::mem::take(&mut self.nodes[at].children);
        self.nodes[at].collapsed = true;
        let target = self.nodes[at].wildcard.unwrap_or_else(|| {
            self.nodes.push(Node::default());
            self.nodes.len() - 1
        });
        self.nodes[at].wildcard = Some(target);
        for child in children.into_values() {
            self.merge_nodes(child, target);
        }
        self.rename();
        target
    }

    fn merge_nodes(&mut self, from: usize, into: usize) {
        let Node {
            children,
            wildcard,
            collapsed,
        } = std::mem::take(&mut self.nodes[from]);
        self.nodes[into].collapsed |= collapsed;
        for (word, child) in children {
            match self.nodes[into].children.get(&word).copied() {
                Some(known) => self.merge_nodes(child, known),
                None => {
                    self.nodes[into].children.insert(word, child);
                }
            }
        }
        match (wildcard, self.nodes[into].wildcard) {
            (Some(child), Some(known)) => self.merge_nodes(child, known),
            (Some(child), None) => self.nodes[into].wildcard = Some(child),
            (None, _) => {}
        }
    }

    /// After a collapse: gives each route its new template and merges those that became one.
    fn rename(&mut self) {
        for index in 0..self.routes.len() {
            let route = &self.routes[index];
            if route.merged_into.is_some() || route.segments.is_empty() {
                continue;
            }
            let segments = self.rewrite(&route.segments);
            if segments == route.segments {
                continue;
            }
            let method = route.method.clone();
            let name = template(&method, &segments);
            let id = RouteId(index as u16);
            self.by_name.remove(&self.routes[index].name.clone());
            if let Some(into) = self.by_name.get(&name).copied() {
                self.merge_routes(id, into);
            } else {
                self.by_name.insert(name.clone(), id);
                self.routes[index].name = name;
                self.routes[index].segments = segments;
            }
        }
    }

    fn rewrite(&self, segments: &[String]) -> Vec<String> {
        let mut at = Some(0);
        let rewritten = segments.iter().map(|word| {
            let node = at.map(|at| &self.nodes[at]);
            let child = node.and_then(|node| node.children.get(word).copied());
            at = child.or(node.and_then(|node| node.wildcard));
            if node.is_some() && child.is_none() && word != "*" {
                ID.to_owned()
            } else {
                word.clone()
            }
        });
        rewritten.collect()
    }

    fn merge_routes(&mut self, from: RouteId, into: RouteId) {
        let [old, new] = [from, into].map(|id| usize::from(id.0));
        let (requests, classes, uncertain) = {
            let route = &self.routes[old];
            (route.requests, route.classes, route.uncertain)
        };
        let latency = self.routes[old].latency.take();
        let target = &mut self.routes[new];
        target.requests += requests;
        target.uncertain += uncertain;
        for (sum, part) in target.classes.iter_mut().zip(classes) {
            *sum += part;
        }
        match (&mut target.latency, latency) {
            // the same bounds on both sides, so the addition cannot fail
            (Some(sum), Some(part)) => drop(sum.add(&part)),
            (sum @ None, Some(part)) => *sum = Some(part),
            _ => {}
        }
        self.routes[old].merged_into = Some(into);
        self.named = self.named.saturating_sub(1);
        self.merges.push((from, into));
    }

    fn named_route(&mut self, name: &str, method: &str, segments: &[String]) -> RouteId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        // ids of merged routes are not given out again, so their number is bounded as well
        if self.named >= MOST_ROUTES || self.routes.len() >= 4 * MOST_ROUTES {
            return RouteId::OTHER;
        }
        self.named += 1;
        self.push(name.to_owned(), method, segments)
    }

    fn push(&mut self, name: String, method: &str, segments: &[String]) -> RouteId {
        let id = RouteId(self.routes.len() as u16);
        if usize::from(id.0) > usize::from(RouteId::OTHER.0) {
            self.by_name.insert(name.clone(), id);
        }
        self.routes.push(Route {
            name,
            requests: 0,
            classes: [0; Class::COUNT],
            uncertain: 0,
            latency: None,
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
        self.latency
            .as_ref()
            .map_or(0.0, |h| h.value_at_quantile(0.99) as f64 / 1e6)
    }
}

/// The bounds above are within the crate's limits; this one cannot fail either and keeps the type.
fn unbounded() -> Histogram<u32> {
    let mut histogram = Histogram::new(1).expect("one significant digit is within 0..=5");
    histogram.auto(true);
    histogram
}

fn template(method: &str, segments: &[String]) -> String {
    format!("{method} /{}", segments.join("/"))
}

/// Method and path of `METHOD path`, if it is HTTP.
fn parse(head: &str) -> Option<(&'static str, &str)> {
    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let (method, target) = head.split_once(' ')?;
    let method = METHODS.into_iter().find(|known| *known == method)?;
    let target = target.split(' ').next().unwrap_or(target);
    // absolute form, as proxies send it
    let path = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    let path = path.split(['?', '#', ';']).next().unwrap_or(path);
    (path.starts_with('/') || path == "*").then_some((method, path.trim_start_matches('*')))
}
