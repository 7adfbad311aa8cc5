//! The members that records have, learnt as they come: a tree of names, guessing that the next
//! record has the same names in the same order as the last.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::json;

/// Beyond this many names on one level a hash map finds them.
const SCANNED: usize = 12;

/// A tree of names; the first level is that of the record itself.
#[derive(Debug, Clone)]
pub(super) struct Shape<T> {
    levels: Vec<Level<T>>,
}

#[derive(Debug, Clone)]
struct Level<T> {
    /// The level and place of the name whose members these are.
    parent: Option<(usize, usize)>,
    names: Vec<Name<T>>,
    index: HashMap<String, usize>,
}

/// A name on one level, with what is known about the member.
#[derive(Debug, Clone)]
pub(super) struct Name<T> {
    pub(super) text: String,
    /// Whether a record spells it as it is.
    plain: bool,
    /// The level of its own members.
    pub(super) level: Option<usize>,
    pub(super) about: T,
}

impl<T> Default for Level<T> {
    fn default() -> Self {
        Self {
            parent: None,
            names: Vec::new(),
            index: HashMap::new(),
        }
    }
}

impl<T: Default> Shape<T> {
    pub(super) fn new() -> Self {
        Self {
            levels: vec![Level::default()],
        }
    }

    /// Where `spelled` (as between the quotes of the record) is on a level, tried first at `hint`.
    #[inline]
    pub(super) fn find(&self, level: usize, hint: usize, spelled: &str) -> Option<usize> {
        let known = self.levels.get(level)?;
        // What is spelled as a name without escapes has none either.
        let is_there = |name: &Name<T>| name.plain && name.text == spelled;
        if known.names.get(hint).is_some_and(is_there) {
            return Some(hint);
        }
        known.search(&json::unescape(spelled))
    }

    /// Adds a name that `find` did not find.
    pub(super) fn add(&mut self, level: usize, name: Cow<'_, str>) -> Option<usize> {
        let level = self.levels.get_mut(level)?;
        let place = level.names.len();
        level.names.push(Name {
            plain: !json::has_escapes(&name),
            text: name.into_owned(),
            level: None,
            about: T::default(),
        });
        match place {
            ..SCANNED => {}
            SCANNED => {
                let all = level.names.iter().enumerate();
                level.index = all.map(|(at, n)| (n.text.clone(), at)).collect();
            }
            _ => {
                let last = level.names.last().map(|n| n.text.clone());
                level.index.extend(last.map(|name| (name, place)));
            }
        }
        Some(place)
    }

    pub(super) fn name(&self, level: usize, place: usize) -> Option<&Name<T>> {
        self.levels.get(level)?.names.get(place)
    }

    /// All names, each with its level.
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, &Name<T>)> {
        let levels = self.levels.iter().enumerate();
        levels.flat_map(|(at, level)| level.names.iter().map(move |name| (at, name)))
    }

    pub(super) fn name_mut(&mut self, level: usize, place: usize) -> Option<&mut Name<T>> {
        self.levels.get_mut(level)?.names.get_mut(place)
    }

    /// How many names a level has.
    pub(super) fn width(&self, level: usize) -> usize {
        self.levels.get(level).map_or(0, |l| l.names.len())
    }

    /// The level of the members of a name, made where missing.
    pub(super) fn below(&mut self, level: usize, place: usize) -> Option<usize> {
        let new = self.levels.len();
        let name = self.name_mut(level, place)?;
        let below = *name.level.get_or_insert(new);
        if below == new {
            self.levels.push(Level {
                parent: Some((level, place)),
                ..Level::default()
            });
        }
        Some(below)
    }

    /// The level and place of the name whose members make a level.
    pub(super) fn parent(&self, level: usize) -> Option<(usize, usize)> {
        self.levels.get(level)?.parent
    }
}

impl<T> Level<T> {
    fn search(&self, name: &str) -> Option<usize> {
        if self.names.len() <= SCANNED {
            self.names.iter().position(|known| known.text == name)
        } else {
            self.index.get(name).copied()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_however_many_there_are() {
        let mut shape = Shape::<()>::new();
        for n in 0..40 {
            let name = format!("n{n}");
            assert_eq!(shape.find(0, 0, &name), None);
            assert_eq!(shape.add(0, name.into()), Some(n));
            for earlier in 0..=n {
                assert_eq!(shape.find(0, 7, &format!("n{earlier}")), Some(earlier));
            }
        }
        assert_eq!(shape.find(0, 3, r"n\u0031"), Some(1));
        assert_eq!(shape.below(0, 3), Some(1));
        assert_eq!(shape.below(0, 3), Some(1));
        assert_eq!((shape.width(0), shape.width(1)), (40, 0));
    }
}
