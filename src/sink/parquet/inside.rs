//! Cells with structure: objects as structs, arrays as lists, taken apart as they come.

use std::sync::Arc;

use arrow_array::builder::NullBufferBuilder;
use arrow_array::{ArrayRef, ListArray, StructArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{FieldRef, Fields};

use super::{Cells, ELEMENT, shaped};
use crate::json;
use crate::sink::nested::Form;
use crate::sink::shape::Shape;

/// Objects with known fields.
#[derive(Debug)]
pub(super) struct Structs {
    fields: Fields,
    /// The names of the fields, each in the place of its cells.
    names: Shape<()>,
    cells: Vec<Cells>,
    valid: NullBufferBuilder,
}

impl Structs {
    pub(super) fn new(fields: &[(String, Form)]) -> Self {
        let mut names = Shape::new();
        for (name, _) in fields {
            names.add(0, name.as_str().into());
        }
        Self {
            fields: fields
                .iter()
                .map(|(name, form)| shaped(name, form))
                .collect(),
            names,
            cells: fields.iter().map(|(_, form)| Cells::of(form)).collect(),
            valid: NullBufferBuilder::new(0),
        }
    }

    /// Takes an object; false where a value in it is of another type.
    pub(super) fn push(&mut self, json: &str) -> bool {
        if !json.starts_with('{') {
            return false;
        }
        // Of members with one name the last counts, as everywhere.
        let mut values = vec![""; self.cells.len()];
        let mut hint = 0;
        for (key, value) in json::members(json) {
            let Some(place) = self.names.find(0, hint, key) else {
                return false;
            };
            hint = place + 1;
            if let Some(known) = values.get_mut(place) {
                *known = value;
            }
        }
        self.valid.append_non_null();
        let mut cells = self.cells.iter_mut().zip(values);
        cells.all(|(cells, value)| cells.push(value))
    }

    pub(super) fn push_null(&mut self) {
        self.valid.append_null();
        self.cells.iter_mut().for_each(Cells::push_null);
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        let arrays = self.cells.iter_mut().map(Cells::finish).collect();
        Arc::new(StructArray::new(
            self.fields.clone(),
            arrays,
            self.valid.finish(),
        ))
    }
}

/// Arrays of one kind of values.
#[derive(Debug)]
pub(super) struct Lists {
    field: FieldRef,
    element: Box<Cells>,
    /// Where each array ends among the elements; the first begins at 0.
    ends: Vec<i32>,
    elements: i32,
    valid: NullBufferBuilder,
}

impl Lists {
    pub(super) fn new(element: &Form) -> Self {
        Self {
            field: Arc::new(shaped(ELEMENT, element)),
            element: Box::new(Cells::of(element)),
            ends: vec![0],
            elements: 0,
            valid: NullBufferBuilder::new(0),
        }
    }

    /// Takes an array; false where an element is of another type.
    pub(super) fn push(&mut self, json: &str) -> bool {
        if !json.starts_with('[') {
            return false;
        }
        for value in json::elements(json) {
            let Some(elements) = self.elements.checked_add(1) else {
                return false;
            };
            self.elements = elements;
            if !self.element.push(value) {
                return false;
            }
        }
        self.ends.push(self.elements);
        self.valid.append_non_null();
        true
    }

    pub(super) fn push_null(&mut self) {
        self.ends.push(self.elements);
        self.valid.append_null();
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        self.elements = 0;
        Arc::new(ListArray::new(
            self.field.clone(),
            OffsetBuffer::new(ScalarBuffer::from(ends)),
            self.element.finish(),
            self.valid.finish(),
        ))
    }
}
