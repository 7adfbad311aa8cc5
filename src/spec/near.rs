//! "Did you mean": the nearest of the names that are known.

/// The known name nearest to `name`, if one is near enough to be a slip of the fingers.
pub fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(name);
    let most = (wanted.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| {
            let distance = strsim::osa_distance(&wanted, &plain(candidate));
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= most && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A hint: the nearest name, or all of them.
pub fn hint<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
    words: &str,
) -> String {
    if let Some(found) = near(name, known.clone()) {
        return format!("did you mean `{found}`?");
    }
    let all: Vec<String> = known.into_iter().map(|name| format!("`{name}`")).collect();
    if all.is_empty() {
        format!("there are no {words}")
    } else {
        format!("{words}: {}", all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::near;

    #[test]
    fn finds_slips_and_not_strangers() {
        let known = ["pages", "query", "allow_origins", "records"];
        assert_eq!(near("page", known), Some("pages"));
        assert_eq!(near("qurey", known), Some("query"));
        assert_eq!(near("allow-origins", known), Some("allow_origins"));
        assert_eq!(near("Records", known), Some("records"));
        assert_eq!(near("banana", known), None);
        assert_eq!(near("x", ["y"]), None, "one letter is no slip of another");
    }
}
