//! Sizes as people write them: `500MB`, `2GB`, `64 MiB`.

/// The units, in bytes.
const UNITS: [(&str, u64); 7] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
];

const FORM: &str = "write a number and a unit, as in `500MB` or `2GiB`";

/// Reads a size in bytes; never 0.
///
/// # Errors
/// A sentence that names the units.
pub fn parse(written: &str) -> Result<u64, String> {
    let text = written.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let Ok(number) = number.parse::<f64>() else {
        return Err(format!("`{text}` is not a size; {FORM}"));
    };
    let Some((_, bytes)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        let units = "B, kB, MB, GB, KiB, MiB or GiB";
        return Err(format!("`{text}` has no unit of {units}; {FORM}"));
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float becomes the nearest number there is"
    )]
    let size = (number * *bytes as f64) as u64;
    if size == 0 {
        return Err("a size must be above zero".to_owned());
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (written, bytes) in [
            ("2GB", 2_000_000_000),
            ("64 MiB", 64 << 20),
            ("1.5 kb", 1_500),
            ("10B", 10),
        ] {
            assert_eq!(parse(written), Ok(bytes), "{written}");
        }
        for wrong in ["", "GB", "2", "2 TB", "0MB", "-1MB", "1e3MB"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
