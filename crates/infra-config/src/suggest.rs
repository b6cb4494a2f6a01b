//! The word that was probably meant.

/// The candidate nearest to `wrong`, if it is near: at most a third of its letters differ, and at
/// most three.
pub(crate) fn nearest<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    within(wrong, candidates, 3)
}

/// [`nearest`] with at most `limit` differing letters.
pub(crate) fn within<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    limit: usize,
) -> Option<&'a str> {
    // Distances take quadratic time: nobody misspells a word of four hundred letters.
    if wrong.is_empty() || wrong.len() > 100 {
        return None;
    }
    let lower = wrong.to_ascii_lowercase();
    let near = |candidate: &'a str| {
        let allowed = limit.min(candidate.len().div_ceil(3));
        // Most candidates are out of reach by their length alone: the distance is costly.
        if candidate.len().abs_diff(lower.len()) > allowed {
            return None;
        }
        let distance = strsim::osa_distance(&lower, &candidate.to_ascii_lowercase());
        (distance <= allowed).then_some((distance, candidate))
    };
    let found = candidates.into_iter().filter_map(near).min();
    found.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let names = ["STATE_REDIS_URL", "STATE_BACKEND", "LOG_LEVEL"];
        assert_eq!(nearest("STATE_REDIS_UR", names), Some("STATE_REDIS_URL"));
        assert_eq!(nearest("log_levle", names), Some("LOG_LEVEL"));
        assert_eq!(nearest("PATH", names), None);
        assert_eq!(nearest("rediss", ["memory", "redis"]), Some("redis"));
        assert_eq!(nearest("", names), None);
    }
}
