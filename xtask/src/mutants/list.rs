//! The mutants of a file, as `cargo mutants` lists them.

use std::ops::Range;

use serde_json::Value;

use super::survivors;

/// One small defect.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mutant {
    /// File, change and function, without line and column.
    pub(super) name: String,
    pub(super) genre: Genre,
    /// What it replaces, in bytes of the file.
    pub(super) at: Range<usize>,
    /// By what.
    pub(super) replacement: String,
}

/// The kinds of defects that the tool knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Genre {
    Body,
    BinaryOperator,
    UnaryOperator,
    Guard,
    Arm,
    Field,
}

/// Reads what `cargo mutants --list --json` says of the file whose text is `source`.
pub(super) fn parse(json: &str, source: &str) -> Result<Vec<Mutant>, String> {
    let all: Vec<Value> = serde_json::from_str(json)
        .map_err(|error| format!("cannot read the list of mutants: {error}"))?;
    all.iter()
        .map(|one| mutant(one, source).ok_or_else(|| format!("not understood: {one}")))
        .collect()
}

fn mutant(one: &Value, source: &str) -> Option<Mutant> {
    let text = |key: &str| one.get(key)?.as_str();
    let end = |key: &str| {
        let point = one.get("span")?.get(key)?;
        let number = |key: &str| usize::try_from(point.get(key)?.as_u64()?).ok();
        offset(source, number("line")?, number("column")?)
    };
    Some(Mutant {
        name: survivors::without_position(text("name")?),
        genre: match text("genre")? {
            "FnValue" => Genre::Body,
            "BinaryOperator" => Genre::BinaryOperator,
            "UnaryOperator" => Genre::UnaryOperator,
            "MatchArmGuard" => Genre::Guard,
            "MatchArm" => Genre::Arm,
            "StructField" => Genre::Field,
            _ => return None,
        },
        at: end("start")?..end("end")?,
        replacement: text("replacement")?.to_owned(),
    })
}

/// Where in the text a line and column are, both from 1 and the latter in characters.
fn offset(source: &str, line: usize, column: usize) -> Option<usize> {
    let mut lines = source.split_inclusive('\n');
    let before: usize = lines
        .by_ref()
        .take(line.checked_sub(1)?)
        .map(str::len)
        .sum();
    let within = lines.next().unwrap_or_default();
    let ahead: usize = within
        .chars()
        .take(column.checked_sub(1)?)
        .map(char::len_utf8)
        .sum();
    Some(before + ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_is_found_by_line_and_column_in_characters() {
        let source = "// é\nfn f() -> bool { /* é */ a > b }\n";
        let json = r#"[{"name": "crates/c/src/f.rs:2:28: replace > with == in f",
            "genre": "BinaryOperator", "replacement": "==",
            "span": {"start": {"line": 2, "column": 28}, "end": {"line": 2, "column": 29}}}]"#;
        let found = parse(json, source).unwrap();
        assert_eq!(found[0].name, "f.rs: replace > with == in f");
        assert_eq!(&source[found[0].at.clone()], ">");
    }

    #[test]
    fn a_genre_that_nobody_knows_is_an_error() {
        let json = r#"[{"name": "n", "genre": "Weather", "replacement": "",
            "span": {"start": {"line": 1, "column": 1}, "end": {"line": 1, "column": 1}}}]"#;
        assert!(parse(json, "").unwrap_err().contains("Weather"));
    }
}
