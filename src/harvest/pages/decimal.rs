//! Whole numbers of any length: what a keyset adds to an id that no machine word holds.

/// `text`, a whole number, with `add` added to it; `None` where it is no whole number.
pub(super) fn plus(text: &str, add: i64) -> Option<String> {
    if let Ok(number) = text.parse::<i128>()
        && let Some(sum) = number.checked_add(add.into())
    {
        return Some(sum.to_string());
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // Far longer than what is added, so the sign stays.
    let mut carry = i128::from(add);
    if sign == "-" {
        carry = -carry;
    }
    let mut sum: Vec<char> = Vec::with_capacity(digits.len() + 1);
    for digit in digits.chars().rev() {
        carry += i128::from(digit.to_digit(10)?);
        sum.push(char::from_digit(
            u32::try_from(carry.rem_euclid(10)).ok()?,
            10,
        )?);
        carry = carry.div_euclid(10);
    }
    if carry > 0 {
        sum.extend(carry.to_string().chars().rev());
    }
    let sum: String = sum.into_iter().rev().collect();
    Some(format!("{sign}{}", sum.trim_start_matches('0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_at_any_length() {
        let nines = "9".repeat(45);
        let round = format!("1{}", "0".repeat(45));
        let huge = i128::MAX.to_string();
        for (text, add, wanted) in [
            ("41", 1, "42"),
            ("007", 1, "8"),
            ("-1", 1, "0"),
            ("9223372036854775807", 1, "9223372036854775808"),
            ("18446744073709551615", 1, "18446744073709551616"),
            ("9999999999999999999999999", 1, "10000000000000000000000000"),
            (&nines, 1, &round),
            (&round, -1, &nines),
            (&huge, 1, "170141183460469231731687303715884105728"),
            (&format!("-{round}"), 1, &format!("-{nines}")),
            (&format!("-{nines}"), -1, &format!("-{round}")),
            (&format!("00{nines}"), 1, &round),
        ] {
            assert_eq!(plus(text, add).as_deref(), Some(wanted), "{text} + {add}");
        }
        for text in [
            "",
            "-",
            "1.0",
            "1e3",
            "x",
            "1 ",
            &format!("{nines}.0"),
            "--1",
        ] {
            assert_eq!(plus(text, 1), None, "{text}");
        }
    }
}
