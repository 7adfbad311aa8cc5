//! A number that a pipeline file gives as an expression or as a template.

use minijinja::Value;

use super::language::{Expr, LanguageProblem, Template};
use super::number;

/// A number over names.
#[derive(Debug)]
pub enum Measure {
    /// `body.usage.total_tokens`, or just `2`.
    Expr(Expr),
    /// `{{ row.prompt | length }}`.
    Template(Template),
}

impl Measure {
    /// The number; text that reads like one is one.
    pub fn number(&self, names: &Value) -> Result<f64, LanguageProblem> {
        let (value, written) = match self {
            Self::Expr(expr) => (expr.value(names)?, expr.written()),
            Self::Template(template) => (template.value(names)?, template.written()),
        };
        let number = match value.as_str() {
            Some(text) => text.trim().parse().ok(),
            None => f64::try_from(number::reckoned(&value)).ok(),
        };
        let number = number.filter(|number: &f64| number.is_finite() && *number >= 0.0);
        number.ok_or_else(|| LanguageProblem {
            message: format!("`{written}` gives {value:?}, not a number from 0 on"),
            range: None,
            place: match self {
                Self::Expr(expr) => expr.place(),
                Self::Template(template) => template.place(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_every_form() {
        let names = Value::from_pairs([("n", Value::from(14))]);
        let of = |measure: Measure| measure.number(&names).map_err(|e| e.message);
        let expr = |text: &str| of(Measure::Expr(Expr::parse(text).unwrap()));
        let template = |text: &str| of(Measure::Template(Template::parse(text).unwrap()));
        assert_eq!(expr("2"), Ok(2.0));
        assert_eq!(expr("[1, n / 4] | max"), Ok(3.5));
        assert_eq!(template("{{ n * 2 }}"), Ok(28.0));
        assert_eq!(template("1{{ n }}"), Ok(114.0));
        assert!(expr("gone.deep").is_err() && expr("-1").is_err() && expr("'x'").is_err());
    }
}
