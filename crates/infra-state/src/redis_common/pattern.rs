//! Patterns of `SCAN`.

/// Slots of the keyspace that the server looks at for one page.
pub(crate) const SCAN_COUNT: i64 = 500;

/// The pattern that matches what begins with `prefix` literally.
pub(crate) fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 8);
    for character in prefix.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s41_every_glob_character_is_escaped() {
        assert_eq!(pattern(r"a*b?[c]\^-{d}"), r"a\*b\?\[c\]\\\^\-{d}*");
    }
}
