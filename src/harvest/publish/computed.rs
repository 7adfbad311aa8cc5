//! Template columns: rendered once a partition, and for each record only where `index` is named.

use minijinja::Value;

use crate::harvest::names::Names;
use crate::harvest::partitions::Partition;
use crate::plan::json::Json;
use crate::plan::language::{LanguageProblem, Template};

/// Templates over the names of a partition, with their latest values.
#[derive(Debug)]
pub(in crate::harvest) struct Computed<'a> {
    names: &'a Names,
    /// By the names of their columns.
    templates: Vec<(&'a str, &'a Template)>,
    /// Whether one of them names `index`, the only name that differs inside a partition.
    by_record: bool,
    partition: Option<u32>,
    values: Vec<String>,
}

impl<'a> Computed<'a> {
    /// Nothing is rendered yet.
    pub(in crate::harvest) fn new(
        names: &'a Names,
        templates: Vec<(&'a str, &'a Template)>,
    ) -> Self {
        let names_index = |(_, template): &(&str, &Template)| {
            let names = template.names();
            names
                .iter()
                .any(|name| name.path.first().is_some_and(|root| root == "index"))
        };
        Self {
            by_record: templates.iter().any(names_index),
            names,
            templates,
            partition: None,
            values: Vec::new(),
        }
    }

    /// The values for a record as JSON text, in the order of the templates.
    pub(in crate::harvest) fn of(
        &mut self,
        partition: &Partition,
        in_page: u32,
    ) -> Result<&[String], LanguageProblem> {
        let fresh = self.partition != Some(partition.ordinal);
        if !self.templates.is_empty() && (fresh || self.by_record) {
            let mut more = partition.variables.clone();
            more.push(("index".to_owned(), Value::from(in_page)));
            let names = self.names.output(&more);
            self.values.clear();
            for (column, template) in &self.templates {
                let value = template.value(&names).map_err(|problem| LanguageProblem {
                    message: format!("column `{column}`: {}", problem.message),
                    ..problem
                })?;
                let json = Json::from_value(&value).unwrap_or(Json::Null);
                self.values.push(json.to_string());
            }
            self.partition = Some(partition.ordinal);
        }
        Ok(&self.values)
    }
}
