//! The routes of one host as a tree of path segments. Pure.
//!
//! One level a segment; a search walks it depth first, the more specific branch before the others,
//! and comes back when a parameter turns out not to have its form. Every node is entered at most
//! once, so the tree bounds a search, not the path: a path of many segments costs no more than the
//! longest pattern.

use std::collections::HashMap;
use std::sync::Arc;

use super::Match;
use super::RouteId;
use super::parameter::{Parameter, Parameters};
use super::pattern::{Pattern, Segment};

/// The routes of one host.
#[derive(Debug, Default)]
pub(super) struct Trie {
    root: Node,
}

/// A route as it stands at the end of its pattern.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Its index in the configuration.
    pub(super) route: RouteId,
    /// In the order of the pattern.
    pub(super) parameters: Vec<Parameter>,
}

/// All patterns that begin with the same segments, whatever their parameters are called.
#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, Self>,
    one: Option<Box<Self>>,
    /// Patterns that end here, in the order of the file.
    here: Vec<Arc<Candidate>>,
    /// Patterns that end here with `{*name}`, in the order of the file.
    rest: Vec<Arc<Candidate>>,
}

/// A branch not yet tried.
struct Step<'a> {
    branch: Branch<'a>,
    /// How many values were captured above it.
    captured: usize,
    /// The value captured by entering it.
    value: Option<&'a str>,
}

enum Branch<'a> {
    /// What is left of the path behind a "/"; `None` when the path is used up.
    Node(&'a Node, Option<&'a str>),
    /// The path fits these patterns; only the forms of the parameters are left to check.
    End(&'a [Arc<Candidate>]),
}

impl Trie {
    /// Adds a route behind those already there.
    pub(super) fn insert(&mut self, pattern: &Pattern, candidate: Arc<Candidate>) {
        let mut node = &mut self.root;
        for segment in pattern.segments() {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Segment::One(_) => node.one.get_or_insert_default(),
                // The last segment, by Pattern::parse.
                Segment::Rest(_) => return node.rest.push(candidate),
            };
        }
        node.here.push(candidate);
    }

    /// The most specific route whose pattern fits a decoded path.
    pub(super) fn find(&self, path: &str) -> Option<Match> {
        let mut values: Vec<&str> = Vec::new();
        let start = Branch::Node(&self.root, Some(path.strip_prefix('/')?));
        let mut steps = vec![Step { branch: start, captured: 0, value: None }];
        while let Some(Step { branch, captured, value }) = steps.pop() {
            values.truncate(captured);
            values.extend(value);
            match branch {
                Branch::Node(node, left) => node.push_branches(left, values.len(), &mut steps),
                Branch::End(candidates) => {
                    let found = candidates.iter().find(|candidate| candidate.accepts(&values));
                    if let Some(candidate) = found {
                        return Some(candidate.matched(&values));
                    }
                }
            }
        }
        None
    }
}

impl Candidate {
    fn accepts(&self, values: &[&str]) -> bool {
        self.parameters.iter().zip(values).all(|(parameter, value)| parameter.accepts(value))
    }

    fn matched(&self, values: &[&str]) -> Match {
        Match { route: self.route, parameters: Parameters::new(&self.parameters, values) }
    }
}

impl Node {
    /// Pushes the branches that fit; the most specific comes last, as it is tried first.
    fn push_branches<'a>(
        &'a self,
        left: Option<&'a str>,
        captured: usize,
        steps: &mut Vec<Step<'a>>,
    ) {
        if !self.rest.is_empty() {
            let value = Some(left.unwrap_or_default());
            steps.push(Step { branch: Branch::End(&self.rest), captured, value });
        }
        let Some(left) = left else {
            steps.push(Step { branch: Branch::End(&self.here), captured, value: None });
            return;
        };
        let (segment, left) = match left.split_once('/') {
            Some((segment, left)) => (segment, Some(left)),
            None => (left, None),
        };
        if let Some(node) = self.one.as_deref().filter(|_| !segment.is_empty()) {
            let value = Some(segment);
            steps.push(Step { branch: Branch::Node(node, left), captured, value });
        }
        if let Some(node) = self.literals.get(segment) {
            steps.push(Step { branch: Branch::Node(node, left), captured, value: None });
        }
    }
}
