//! Suggestions for misspelt words in errors of the TOML reader.

/// The reader's message in one line, with a guess at what was meant.
pub(super) fn message(message: &str) -> String {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    // serde: unknown field `metric`, expected one of `metrics`, `mode`
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown ")
        && let Some((given, known)) = quoted.split_first()
    {
        let nearest = known.iter().min_by_key(|word| distance(given, word));
        if let Some(word) = nearest.filter(|word| distance(given, word) <= word.len() / 3 + 1) {
            return format!("{message}; did you mean `{word}`?");
        }
    }
    message
}

/// Edits (insert, delete, replace) between two words.
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in two.iter().enumerate() {
            let replace = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested() {
        assert_eq!(
            message("unknown field `metric`, expected one of `mode`, `metrics`"),
            "unknown field `metric`, expected one of `mode`, `metrics`; did you mean `metrics`?"
        );
        assert!(!message("unknown field `xyzzy`, expected `mode`").contains("mean"));
        assert_eq!(message("invalid\n  string"), "invalid string");
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
