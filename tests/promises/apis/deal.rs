//! The invented records of a play, made once: what the stand-in serves and what a harvest must bring.

use std::collections::BTreeMap;

use minijinja::{Value, context};
use serde_json::Value as Json;

use super::play::{Data, Expect, Play};
use super::words::{spelt, value};

/// All sets of a play.
pub(crate) struct Sets(BTreeMap<String, Vec<Record>>);

/// One record, in the two forms in which it is used.
pub(crate) struct Record {
    /// The name it stands under; empty where there is none.
    pub(crate) of: String,
    pub(crate) json: Json,
    pub(crate) value: Value,
}

impl Sets {
    pub(crate) fn new(play: &Play) -> Self {
        let mut sets = Self(BTreeMap::new());
        for (name, written) in &play.data {
            let data: Data = serde_json::from_value(written.clone())
                .unwrap_or_else(|e| panic!("{}: data.{name}: {e}", play.api));
            let records = sets.make(&data);
            sets.0.insert(name.clone(), records);
        }
        sets
    }

    pub(crate) fn of(&self, set: &str) -> &[Record] {
        self.0.get(set).unwrap_or_else(|| panic!("no data.{set}"))
    }

    fn make(&self, data: &Data) -> Vec<Record> {
        let mut made = Vec::new();
        let count = |many: &Value| -> usize {
            many.to_string()
                .parse()
                .unwrap_or_else(|_| panic!("{many} records"))
        };
        if let Some(parents) = &data.under {
            let many = data.many.as_ref().expect("`under` has `many`");
            for parent in self.of(parents) {
                let names = context! { parent => parent.value.clone(), above => parent.of.clone() };
                let of = data
                    .name
                    .as_ref()
                    .map_or(String::new(), |name| name.eval(&names).to_string());
                fill(data, &of, count(&many.eval(&names)), &names, &mut made);
            }
        } else if let Some(many) = &data.many {
            fill(
                data,
                "",
                count(&many.eval(&Value::UNDEFINED)),
                &Value::UNDEFINED,
                &mut made,
            );
        }
        for (of, many) in &data.of {
            let many = usize::try_from(many.as_u64().expect("a count")).expect("a small one");
            fill(data, of, many, &Value::UNDEFINED, &mut made);
        }
        made
    }

    /// The rows a stream must bring, as texts in the order of the cells' names; in any order.
    pub(crate) fn rows(&self, expect: &Expect) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for record in self.of(&expect.of) {
            let names = context! { row => record.value.clone(), of => record.of.clone() };
            if expect
                .filter
                .as_ref()
                .is_some_and(|filter| !filter.holds(&names))
            {
                continue;
            }
            let cells = |names: &Value| {
                let cell =
                    |value: Value| spelt(&serde_json::to_value(&value).unwrap_or(Json::Null));
                expect
                    .cells
                    .values()
                    .map(|expr| cell(expr.eval(names)))
                    .collect()
            };
            match &expect.each {
                None => rows.push(cells(&names)),
                Some(each) => {
                    let items = each.eval(&names);
                    for (index, item) in items.try_iter().expect("a list").enumerate() {
                        rows.push(cells(&context! { item, index, ..names.clone() }));
                    }
                }
            }
        }
        rows
    }
}

fn fill(data: &Data, of: &str, many: usize, names: &Value, made: &mut Vec<Record>) {
    for n in 1..=many {
        let all = made.len() + 1;
        let shape = data
            .odd
            .get(&all.to_string())
            .unwrap_or_else(|| &data.like[(n - 1) % data.like.len()]);
        let names = context! { n, all, of, ..names.clone() };
        let json = shape.fill(&names, &[]).unwrap_or(Json::Null);
        made.push(Record {
            of: of.to_owned(),
            value: value(&json),
            json,
        });
    }
}
