//! Numbers as they are spelled: whether a float holds one, and which of two is greater.

/// So many significant digits survive a 64-bit float whatever they are (IEEE 754, `DBL_DIG`).
pub(super) const SURE_DIGITS: usize = 15;

/// A number to be compared: exactly where it is whole, else as a float.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decimal {
    /// Whether it is negative, and its digits.
    Whole(bool, String),
    /// Any other.
    Float(f64),
}

impl Decimal {
    pub(super) fn of(json: &str) -> Self {
        if is_whole(json) {
            let digits = json.strip_prefix('-').unwrap_or(json);
            let is_zero = digits.bytes().all(|b| b == b'0');
            return Self::Whole(digits.len() < json.len() && !is_zero, digits.to_owned());
        }
        Self::Float(json.parse().unwrap_or(f64::NAN))
    }

    fn float(&self) -> f64 {
        match self {
            Self::Float(float) => *float,
            Self::Whole(negative, digits) => {
                let size: f64 = digits.parse().unwrap_or(f64::NAN);
                if *negative { -size } else { size }
            }
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::Whole(false, a), Self::Whole(false, b)) => Some((a.len(), a).cmp(&(b.len(), b))),
            (Self::Whole(true, a), Self::Whole(true, b)) => Some((b.len(), b).cmp(&(a.len(), a))),
            (Self::Whole(a, _), Self::Whole(b, _)) => Some(b.cmp(a)),
            _ => self.float().partial_cmp(&other.float()),
        }
    }
}

/// Whether a number has neither fraction nor exponent.
pub(super) fn is_whole(json: &str) -> bool {
    !json.bytes().any(|b| matches!(b, b'.' | b'e' | b'E'))
}

/// Whether a 64-bit float gives the number back, digit for digit but for zeros that say nothing.
pub(super) fn is_exact(json: &str) -> bool {
    // Most numbers are this short.
    if json.len() <= SURE_DIGITS && !json.contains(['e', 'E']) {
        return true;
    }
    let Some((digits, power)) = significant(json) else {
        return false;
    };
    if digits.len() <= SURE_DIGITS && (-300..300).contains(&power) {
        return true;
    }
    let Ok(float) = json.parse::<f64>() else {
        return false;
    };
    // The shortest text that means this float (Rust's `Display`) is the number, if it was held.
    significant(&format!("{float:e}")) == Some((digits, power))
}

/// The digits of a number from the first to the last that is not zero, and the power of ten of the
/// first.
fn significant(number: &str) -> Option<(Vec<u8>, i64)> {
    let number = number.strip_prefix('-').unwrap_or(number);
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let leading = digits.iter().take_while(|d| **d == b'0').count();
    let power = i64::try_from(whole.len()).ok()? - i64::try_from(leading).ok()?;
    digits.drain(..leading);
    let zeros = digits.iter().rev().take_while(|d| **d == b'0').count();
    digits.truncate(digits.len() - zeros);
    if digits.is_empty() {
        return Some((digits, 0));
    }
    Some((digits, power.checked_add(exponent)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sixteen digits are one too many to be sure of: this one is above 2^53, and odd.
    #[test]
    fn sixteen_digits_are_looked_at() {
        assert!(!is_exact("9010000000000005"));
        assert!(is_exact("9010000000000004"));
        assert!(is_exact("901000000000.0005"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// Python's way to say the same: the float's shortest text has the same digits.
        #[test]
        fn a_float_is_exact_if_it_gives_the_number_back(
            whole in "0|[1-9][0-9]{0,17}", fraction in "(\\.[0-9]{1,19})?", exponent in "(e-?[0-9]{1,3})?"
        ) {
            let number = format!("{whole}{fraction}{exponent}");
            let float: f64 = number.parse().unwrap();
            let told = if float.is_finite() { significant(&format!("{float:e}")) } else { None };
            prop_assert_eq!(is_exact(&number), told == significant(&number), "{}", number);
        }
    }
}
