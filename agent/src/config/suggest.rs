//! Suggestions for misspelled words in TOML errors.

use strsim::levenshtein;

/// The parser's message in one line, with a suggestion.
pub(super) fn message(message: &str) -> String {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    // serde: unknown field `metric`, expected one of `metrics`, `mode`
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown ")
        && let Some((given, known)) = quoted.split_first()
    {
        let nearest = known.iter().min_by_key(|word| levenshtein(given, word));
        if let Some(word) = nearest.filter(|word| levenshtein(given, word) <= word.len() / 3 + 1) {
            return format!("{message}; did you mean `{word}`?");
        }
    }
    message
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
}
