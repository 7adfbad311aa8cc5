//! minijinja's filters and tests that reckon, and `range`, over numbers that do not print as they are spelled
//! ([`super::number`]). What only passes values on (`first`, `join`, `default`) needs nothing: it passes the spelling on.

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value, filters, functions, tests as checks};

use super::compare::{shown, wrong};
use super::json::Json;
use super::number::{self, reckoned, reckoned_within};

/// Where a list's item and what it is ordered by stand while it is ordered.
const ITEM: &str = "item";
const KEYS: &str = "keys";

/// Adds them.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    for (name, filter) in [
        ("round", Value::from_function(filters::round)),
        ("abs", Value::from_function(filters::abs)),
        ("sum", Value::from_function(filters::sum)),
        ("format", Value::from_function(filters::format)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("groupby", Value::from_function(filters::groupby)),
    ] {
        environment.add_filter(
            name,
            move |state: &mut State, given: Rest<ValueOrKwargs>| {
                let given: Vec<_> = given.into_values().iter().map(reckoned_within).collect();
                filter.call(state, &given)
            },
        );
    }
    // Here only what stands in the brackets is a number.
    for (name, filter) in [
        ("batch", Value::from_function(filters::batch)),
        ("slice", Value::from_function(filters::slice)),
        ("split", Value::from_function(filters::split)),
        ("indent", Value::from_function(filters::indent)),
    ] {
        environment.add_filter(
            name,
            move |state: &mut State, given: Rest<ValueOrKwargs>| {
                let mut given = given.into_values();
                given.iter_mut().skip(1).for_each(|it| *it = reckoned(it));
                filter.call(state, &given)
            },
        );
    }
    for (name, filter) in [
        ("sort", Value::from_function(filters::sort)),
        ("min", Value::from_function(filters::min)),
        ("max", Value::from_function(filters::max)),
        ("unique", Value::from_function(filters::unique)),
    ] {
        environment.add_filter(
            name,
            move |state: &mut State, given: Rest<ValueOrKwargs>| {
                ordered(state, &filter, given.into_values())
            },
        );
    }
    for (name, test) in [
        ("odd", Value::from_function(checks::is_odd)),
        ("even", Value::from_function(checks::is_even)),
        ("divisibleby", Value::from_function(checks::is_divisibleby)),
        ("number", Value::from_function(checks::is_number)),
        ("integer", Value::from_function(checks::is_integer)),
        ("int", Value::from_function(checks::is_integer)),
        ("float", Value::from_function(checks::is_float)),
        ("sameas", Value::from_function(checks::is_sameas)),
    ] {
        environment.add_test(name, move |state: &mut State, given: Rest<Value>| {
            let given: Vec<_> = given.iter().map(reckoned).collect();
            test.call(state, &given).map(|holds| holds.is_true())
        });
    }
    // minijinja says "invalid float literal" and not of what.
    environment.add_filter(
        "float",
        |state: &State, value: &Value, default: Option<Value>, more: Kwargs| {
            filters::float(state, &reckoned(value), default, more)
                .map_err(|error| no_number(value, error))
        },
    );
    environment.add_filter(
        "int",
        |state: &State, value: &Value, default: Option<Value>, base: Option<u32>, more: Kwargs| {
            let number = reckoned(value);
            let float = number
                .is_number()
                .then(|| f64::try_from(number.clone()).ok());
            // minijinja gives the nearest that it has.
            if float
                .flatten()
                .is_some_and(|it| it.is_nan() || it.abs() > 1e38)
            {
                return Err(wrong(format!("`int`: {value} has more than 38 digits")));
            }
            filters::int(state, &number, default, base, more)
                .map_err(|error| no_number(value, error))
        },
    );
    environment.add_filter("tojson", tojson);
    let range = Value::from_function(functions::range);
    environment.add_function("range", move |state: &mut State, given: Rest<Value>| {
        let given: Vec<_> = given.iter().map(reckoned).collect();
        range.call(state, &given)
    });
}

/// A filter that orders or compares the items of a list and gives some of them: by their numbers, and as they are spelled.
fn ordered(state: &mut State, filter: &Value, given: Vec<Value>) -> Result<Value, Error> {
    let Some((list, more)) = given.split_first() else {
        return filter.call(state, &given);
    };
    let options = more.iter().find(|it| it.is_kwargs());
    let by = options.and_then(|options| options.get_attr("attribute").ok());
    let by = by.as_ref().and_then(Value::as_str);
    let paths: Vec<&str> = by.map_or_else(Vec::new, |by| {
        by.split(',')
            .map(str::trim)
            .filter(|it| !it.is_empty())
            .collect()
    });
    let items: Vec<Value> = match list.kind() {
        ValueKind::Seq | ValueKind::Iterable => list.try_iter()?.collect(),
        _ => return filter.call(state, &given),
    };
    let keys = |item: &Value| -> Vec<Value> {
        if paths.is_empty() {
            vec![item.clone()]
        } else {
            paths.iter().map(|path| at(item, path)).collect()
        }
    };
    if !items
        .iter()
        .any(|item| keys(item).iter().any(number::is_within))
    {
        let mut given = given;
        given[0] = Value::from(items);
        return filter.call(state, &given);
    }
    let keyed: Vec<Value> = items
        .into_iter()
        .map(|item| {
            let keys: Vec<Value> = keys(&item).iter().map(reckoned_within).collect();
            Value::from_pairs([(KEYS, Value::from(keys)), (ITEM, item)])
        })
        .collect();
    let count = paths.len().max(1);
    let by: Vec<String> = (0..count).map(|at| format!("{KEYS}.{at}")).collect();
    let mut named = vec![("attribute".to_owned(), Value::from(by.join(",")))];
    if let Some(options) = options {
        for name in options.try_iter()? {
            let value = options.get_item(&name)?;
            if name.as_str() != Some("attribute") {
                named.push((name.to_string(), value));
            }
        }
    }
    let mut given = vec![Value::from(keyed)];
    given.extend(more.iter().filter(|it| !it.is_kwargs()).cloned());
    given.push(named.into_iter().collect::<Kwargs>().into());
    let found = filter.call(state, &given)?;
    match found.kind() {
        ValueKind::Map => found.get_attr(ITEM),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = found.try_iter()?.map(|it| it.get_attr(ITEM));
            Ok(Value::from(items.collect::<Result<Vec<_>, _>>()?))
        }
        _ => Ok(found),
    }
}

/// What stands at `a.0.b`.
fn at(item: &Value, path: &str) -> Value {
    path.split('.').fold(item.clone(), |value, step| {
        let found = match step.parse::<usize>() {
            Ok(index) => value.get_item_by_index(index),
            Err(_) => value.get_attr(step),
        };
        found.unwrap_or(Value::UNDEFINED)
    })
}

/// minijinja would put a number that is kept as spelled in quotes.
fn tojson(value: &Value, indent: Option<Value>, more: Kwargs) -> Result<Value, Error> {
    if !number::is_within(value) || indent.is_some() || more.has("indent") {
        return filters::tojson(&reckoned_within(value), indent, more);
    }
    more.assert_all_used()?;
    let text = Json::from_value(value)
        .map_err(|problem| wrong(format!("`tojson`: {problem}")))?
        .to_string();
    let mut spaced = String::with_capacity(text.len() + text.len() / 8);
    let (mut is_text, mut is_escaped) = (false, false);
    // As minijinja writes it: a space behind `,` and `:`, no sign that means something to HTML.
    for c in text.chars() {
        match c {
            '<' => spaced.push_str("\\u003c"),
            '>' => spaced.push_str("\\u003e"),
            '&' => spaced.push_str("\\u0026"),
            '\'' => spaced.push_str("\\u0027"),
            _ => spaced.push(c),
        }
        if !is_text && matches!(c, ',' | ':') {
            spaced.push(' ');
        }
        is_text ^= c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
    }
    Ok(Value::from_safe_string(spaced))
}

fn no_number(value: &Value, error: Error) -> Error {
    match value.as_str() {
        Some(_) => wrong(format!("{} is not a number", shown(value))),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;
    use proptest::prelude::*;

    use super::super::json::Json;
    use super::super::json::{Numbers, number_to_value};
    use super::super::language::{Expr, Template};
    use super::*;

    /// Everything that takes a number: operators, filters, tests and functions, also behind brackets and filters.
    const USES: &[&str] = &[
        "a + 1",
        "1 - a",
        "a * b",
        "a / 8",
        "a // 2",
        "a % 7",
        "a ** 2",
        "-a",
        "-(a)|abs",
        "- r.a | round(1)",
        "(a) * 2",
        "((a) + (b)) * (2 - a)",
        "(a if true else b) * 2",
        "a | default(0) * 2",
        "gone | default(a) / 2 - b|abs",
        "[a, b][0] * 2 + [a] | first",
        "{'x': a}.x * 2",
        "dict(x=a).x - 1",
        "'x' if a else 'y'",
        "not a",
        "a | bool",
        "a and true",
        "a < b",
        "a <= 1 < b",
        "a == b",
        "a != b",
        "(a) > b | default(2)",
        "[a, 2] == [b, 2]",
        "a in [b, 2, a]",
        "a not in [b, 1.5]",
        "[a, b] | select('in', [1, a]) | list | length",
        "a in {'x': 1}",
        "a | round",
        "a | round(1, 'ceil')",
        "(a | round(2, method='floor')) + b",
        "a | abs",
        "[a, b] | sum",
        "[r, {'a': 2}] | sum(attribute='a')",
        "[b, a, 1, 2.5] | max + 0",
        "[b, a, 1, 2.5] | min + 0",
        "[r, {'a': b}, {'a': 1}] | max(attribute='a') | length",
        "[b, a, 1, 2.5] | sort | map('float') | list",
        "[b, a, 1, 2.5] | sort(reverse=true) | map('float') | list",
        "[{'x': b}, {'x': a}, {'x': 1}] | sort(attribute='x') | map(attribute='x') | map('float') | list",
        "[[1, b], [1, a], [0, 1]] | sort(attribute='0,1') | map('last') | map('float') | list",
        "[a, b, a, 1] | unique | list | length",
        "[{'x': b}, {'x': a}, {'x': 1}] | groupby('x') | map('first') | map('float') | list",
        "{'x': b, 'y': a, 'z': 1} | dictsort(by='value') | map('first') | list",
        "a | float",
        "a | int(0)",
        "'%.2f|%08.3f' | format(a, b)",
        "a is number",
        "a is string",
        "a is odd",
        "a is even",
        "a is divisibleby 3",
        "a is integer",
        "a is float",
        "a is gt b",
        "a is eq 1.1",
        "a is in [1.1, b]",
        "a is true or a is none or a is mapping or a is iterable or a is boolean",
        "[a, b, 0] | select | list | length",
        "[a, b, 0] | select('gt', 1) | list | length",
        "[r] | selectattr('a', 'lt', b) | list | length",
        "[a, b] | map('round', 1) | list",
        "[1, 2, 3] | batch(n) | list | length",
        "[1, 2, 3] | slice(n) | list | length",
        "range(n) | list",
    ];

    /// What no number goes with.
    const REFUSED: &[&str] = &[
        "a | length",
        "a | first",
        "a | list",
        "a | reverse",
        "a | items",
        "a | join",
        "a.x",
        "a()",
        "1 in a",
    ];

    /// The same number in another spelling, which JSON allows.
    fn oddly(number: f64, how: u8) -> String {
        match how {
            0 => format!("{number:e}"),
            1 => format!("{number:E}").replace('E', "E+").replace("+-", "-"),
            2 => format!("{number:?}00"),
            3 => format!("{number:.1}0"),
            _ => format!("{}e-2", number * 100.0),
        }
    }

    fn what(written: &str, names: &Value) -> Result<String, String> {
        let value = Template::parse(&format!("{{{{ {written} }}}}"))
            .and_then(|template| template.value(names))
            .map(|value| reckoned_within(&value));
        match value {
            // `-0.0` and `0` are one number.
            Ok(value) => Ok(
                match value.is_number().then(|| f64::try_from(value.clone())) {
                    Some(Ok(number)) => format!("{}", number + 0.0),
                    _ => value.to_string(),
                },
            ),
            Err(problem) => Err(problem.message),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_number_spelled_oddly_is_reckoned_with_as_one_spelled_plainly(
            a in prop_oneof![-40_000_i32..40_000, -30..30],
            b in -400_i32..400,
            how in 0_u8..5,
            other in 0_u8..5,
        ) {
            let names = |a: &Value, b: &Value, n: &Value| context! { a, b, n, r => context! { a } };
            let of = |number: i32, how: u8| {
                let text = oddly(f64::from(number) / 8.0, how);
                (number_to_value(&text, Numbers::Spelled), number_to_value(&text, Numbers::Numeric), text)
            };
            let ((a, plain_a, text), (b, plain_b, _)) = (of(a, how), of(b, other));
            let n = number_to_value("2e0", Numbers::Spelled);
            let odd = names(&a, &b, &n);
            let plain = names(&plain_a, &plain_b, &Value::from(2));
            for written in USES {
                prop_assert_eq!(what(written, &odd), what(written, &plain), "{} of {:?} and {:?}", written, a, b);
                prop_assert!(what(written, &plain).is_ok(), "{} {:?}", written, what(written, &plain));
            }
            for written in REFUSED {
                prop_assert!(what(written, &odd).is_err() && what(written, &plain).is_err(), "{}", written);
            }
            let render = |written: &str| Template::parse(written).unwrap().text(&odd).unwrap();
            prop_assert_eq!(render("{{ a }}"), text.clone());
            prop_assert_eq!(render("{{ '' ~ a }}{{ r.a | default(0) }}{{ [a] | first }}{{ [a, a] | max }}"), text.repeat(4));
            let read = serde_json::from_str::<Vec<f64>>(&render("{{ [a, b] | tojson }}")).unwrap();
            prop_assert_eq!(Value::from(read[0]), plain_a);
        }
    }

    #[test]
    fn what_orders_numbers_gives_them_as_they_are_spelled() {
        let record = r#"{"p":[{"v":1.10,"id":1e3},{"v":1.05,"id":7.0},{"v":1.100,"id":0.30}],
            "id":1234567890123456789012345678901234567890,"t":"a\"<b>: 1,2"}"#;
        let record = Json::parse(record).unwrap().to_value(Numbers::Spelled);
        let names = context! { record };
        let text = |written: &str| Template::parse(written).unwrap().text(&names);
        for (written, expected) in [
            (
                "{{ record.p | sort(attribute='v') | map(attribute='id') | join(' ') }}",
                "7.0 1e3 0.30",
            ),
            (
                "{{ record.p | map(attribute='v') | sort | join(' ') }}",
                "1.05 1.10 1.100",
            ),
            (
                "{{ record.p | map(attribute='v') | unique | join(' ') }}",
                "1.10 1.05",
            ),
            (
                "{{ record.p | map(attribute='v') | max }} {{ (record.p | min(attribute='id')).id }}",
                "1.100 0.30",
            ),
            (
                "{{ record.id }} {{ [record.id] | tojson }}",
                "1234567890123456789012345678901234567890 [1234567890123456789012345678901234567890]",
            ),
            (
                "{{ {'t': record.t, 'v': record.p.0.v, 'w': [1, none]} | tojson }}",
                r#"{"t": "a\"\u003cb\u003e: 1,2", "v": 1.10, "w": [1, null]}"#,
            ),
            (
                "{{ {'t': record.t, 'v': 1.5, 'w': [1, none]} | tojson }}",
                r#"{"t": "a\"\u003cb\u003e: 1,2", "v": 1.5, "w": [1, null]}"#,
            ),
            ("{{ [record.p.0.v] | tojson(indent=1) }}", "[\n 1.1\n]"),
            ("{{ '{:.1f}'.format(record.p.0.v | float) }}", "1.1"),
        ] {
            assert_eq!(
                text(written).as_deref().map_err(|e| e.message.as_str()),
                Ok(expected),
                "{written}"
            );
        }
        for (written, says) in [
            ("{{ record.id | int }}", "more than 38 digits"),
            (
                "{{ record.p.0.v + ' EUR' }}",
                "`+` does not go with a number and a text",
            ),
            ("{{ 1 in record.p.0.v }}", "not into the number 1.1"),
            ("{{ record.p.0.v | epoch }}", "not a number"),
            ("{{ '2.50' | trim * 2 }}", "cannot be multiplied"),
            (
                "{% raw %}{{ a < b }}{% endraw %}{{ '3' > 2 }}",
                "have no order",
            ),
        ] {
            let problem = text(written).expect_err(written);
            assert!(problem.message.contains(says), "{written}: {problem}");
            assert!(problem.range.is_some(), "{written}");
        }
        assert_eq!(
            text("{% raw %}{{ a < b }}{% endraw %}{{ 3 > 2 }}").unwrap(),
            "{{ a < b }}true"
        );
    }

    #[test]
    fn what_is_in_a_list_goes_by_values() {
        let spelled = number_to_value("2.50", Numbers::Spelled);
        let names = context! { n => 2, t => "2", odd => "2.50", spelled, none => (), list => vec![Value::from(2), Value::from(())] };
        for (written, expected) in [
            ("t in [1, 2]", Ok(true)),
            ("n in ['2']", Ok(true)),
            ("n not in ['3']", Ok(true)),
            ("odd in [2.5]", Err("same number")),
            ("gone in 'any text' or none in 'any text'", Ok(false)),
            ("'x' in gone or 'x' in none", Ok(false)),
            ("'x' not in gone", Ok(true)),
            ("gone in list", Ok(true)),
            ("n in {'2': 1} and n not in {'3': 1}", Ok(true)),
            ("spelled in {'2.50': 1}", Ok(true)),
            ("n in {'2.0': 1}", Err("same number")),
            ("t in {2: 1} or 'm' in {'n': 1}", Ok(false)),
            ("odd in [2.5, '2.50'] and 2.5 in ['2.50', 2.5]", Ok(true)),
            ("odd in [3, 2.5, 'x']", Err("same number")),
            ("'n' in {'n': 1} and not 'm' in {'n': 1}", Ok(true)),
            ("n in 5", Err("looks into a list")),
            ("1 < n in [2, 3]", Ok(true)),
        ] {
            let found = Expr::parse(written).unwrap().holds(&names);
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{written}"),
                (Err(problem), Err(says)) => {
                    assert!(problem.message.contains(says), "{written}: {problem}");
                }
                other => panic!("{written}: {other:?}"),
            }
        }
    }
}
