//! A tree without its wrong parts, so that the rest can still be judged.

use std::collections::BTreeSet;

use super::tree::{Node, Tree};

/// What to leave out, by the first byte of keys and of values.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    pub(super) keys: BTreeSet<usize>,
    pub(super) values: BTreeSet<usize>,
}

/// The tree without its wrong parts; `lost` gets the keys inside them.
pub(super) fn prune(tree: &Tree, wrong: &Wrong, lost: &mut BTreeSet<String>) -> Tree {
    let node = match &tree.node {
        Node::List(items) => {
            let (out, kept): (Vec<&Tree>, Vec<&Tree>) = items
                .iter()
                .partition(|item| wrong.values.contains(&item.span.start));
            for item in out {
                names(item, lost);
            }
            Node::List(
                kept.into_iter()
                    .map(|item| prune(item, wrong, lost))
                    .collect(),
            )
        }
        Node::Map(entries) => {
            let mut kept = Vec::new();
            for (key, value) in entries {
                if wrong.keys.contains(&key.span.start) || wrong.values.contains(&value.span.start)
                {
                    lost.insert(key.value.clone());
                    names(value, lost);
                } else {
                    kept.push((key.clone(), prune(value, wrong, lost)));
                }
            }
            Node::Map(kept)
        }
        other => other.clone(),
    };
    Tree {
        node,
        span: tree.span.clone(),
        defined: tree.defined.clone(),
    }
}

fn names(tree: &Tree, lost: &mut BTreeSet<String>) {
    match &tree.node {
        Node::List(items) => items.iter().for_each(|item| names(item, lost)),
        Node::Map(entries) => {
            for (key, value) in entries {
                lost.insert(key.value.clone());
                names(value, lost);
            }
        }
        _ => {}
    }
}
