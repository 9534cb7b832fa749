//! The tree of path segments. It finds the positions that hold identifiers.
//!
//! When a position under one prefix has had more than [`MOST_CHILDREN`] different words (user names,
//! slugs), all of them become `{id}`.

use std::collections::BTreeMap;

use super::segments::is_literal;

/// Maximum number of different words at one position. Beyond that they are identifiers.
const MOST_CHILDREN: usize = 32;
/// Maximum number of nodes.
const MOST_NODES: usize = 4_096;
/// Maximum number of segments. The rest is `*`.
pub const MOST_DEPTH: usize = 10;
/// The placeholder for an identifier.
pub const ID: &str = "{id}";

#[derive(Default)]
struct Node {
    children: BTreeMap<String, usize>,
    wildcard: Option<usize>,
    collapsed: bool,
}

/// The tree.
pub struct Tree {
    nodes: Vec<Node>,
    /// A position was generalised since the last call.
    collapsed_any: bool,
}

impl Tree {
    /// Only the root.
    pub fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
            collapsed_any: false,
        }
    }

    /// Whether words became identifiers since the last call.
    pub fn take_collapsed(&mut self) -> bool {
        std::mem::take(&mut self.collapsed_any)
    }

    /// Estimated size of the state in bytes.
    pub fn state_bytes(&self) -> usize {
        self.nodes.len() * 120
    }

    /// Follows `words` through the tree and adds new nodes. `None`: a word is unknown and `known_only` is
    /// set.
    pub fn learn(&mut self, words: &[&str], known_only: bool) -> Option<Vec<String>> {
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

    /// Adds a child to `at`: `word`, or the placeholder. Returns whether it is a word.
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
            // The tree is full: use the placeholder, or the root without one.
            _ if full => (self.nodes[at].wildcard.unwrap_or(0), false),
            _ => {
                self.nodes.push(Node::default());
                let next = self.nodes.len() - 1;
                self.nodes[at].wildcard = Some(next);
                (next, false)
            }
        }
    }

    /// Turns all words under `at` into identifiers. Their subtrees are merged below the placeholder.
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
        self.collapsed_any = true;
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

    /// The current form of `segments`.
    pub fn rewrite(&self, segments: &[String]) -> Vec<String> {
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
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}
