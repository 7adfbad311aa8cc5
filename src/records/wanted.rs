//! The places that a selector looks at, merged into one small tree of steps.

use crate::plan::path::{Path, Step};

/// The tree; the first node is the root of the page.
#[derive(Debug)]
pub(super) struct Wanted {
    nodes: Vec<Node>,
    /// How many values are wanted beside the records.
    pub(super) wants: usize,
}

/// One place in a page.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Members and elements that are looked into: name, index where the name is digits, node.
    pub(super) keys: Vec<(String, Option<usize>, usize)>,
    /// What `*` leads to.
    every: Option<usize>,
    /// Which wanted values are here.
    pub(super) wants: Vec<usize>,
    /// Whether the records are here.
    pub(super) records: bool,
    /// Whether the records are here or further down.
    pub(super) leads_to_records: bool,
}

impl Node {
    /// Whether only what is further down matters.
    pub(super) fn is_branch(&self) -> bool {
        !self.records && self.every.is_none() && self.wants.is_empty()
    }

    /// Whether the records are here and nothing else.
    pub(super) fn is_records_only(&self) -> bool {
        self.records && self.every.is_none() && self.wants.is_empty() && self.keys.is_empty()
    }
}

impl Wanted {
    pub(super) fn new(records: &Path, wants: &[&Path]) -> Self {
        let mut tree = Self {
            nodes: vec![Node::default()],
            wants: wants.len(),
        };
        let place = tree.place(records, true);
        if let Some(node) = tree.nodes.get_mut(place) {
            node.records = true;
        }
        for (index, want) in wants.iter().enumerate() {
            if want.steps.contains(&Step::All) {
                continue;
            }
            let place = tree.place(want, false);
            if let Some(node) = tree.nodes.get_mut(place) {
                node.wants.push(index);
            }
        }
        tree
    }

    /// The node at `path`, made where missing.
    fn place(&mut self, path: &Path, to_records: bool) -> usize {
        let mut at = 0;
        for step in path.steps.iter().map(Some).chain([None]) {
            let new = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else {
                break;
            };
            node.leads_to_records |= to_records;
            let next = match step {
                None => break,
                Some(Step::All) => *node.every.get_or_insert(new),
                Some(Step::Key(name)) => {
                    if let Some(known) = node.keys.iter().find(|key| key.0 == *name) {
                        known.2
                    } else {
                        node.keys.push((name.clone(), name.parse().ok(), new));
                        new
                    }
                }
            };
            if next == new {
                self.nodes.push(Node::default());
            }
            at = next;
        }
        at
    }

    pub(super) fn root(&self) -> &Node {
        &self.nodes[0]
    }

    /// Where the member `name` leads.
    #[inline]
    pub(super) fn member(&self, node: &Node, name: &str) -> Option<&Node> {
        let key = node.keys.iter().find(|key| key.0 == name)?;
        self.nodes.get(key.2)
    }

    /// Where the element `index` leads.
    #[inline]
    pub(super) fn element(&self, node: &Node, index: usize) -> Option<&Node> {
        let key = node.keys.iter().find(|key| key.1 == Some(index))?;
        self.nodes.get(key.2)
    }

    /// Where `*` leads.
    pub(super) fn every(&self, node: &Node) -> Option<&Node> {
        self.nodes.get(node.every?)
    }
}
