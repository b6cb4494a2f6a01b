//! What became of the mutants of a core, and which survivors are known.

use std::path::Path;

use super::program::Fate;

/// What became of the mutants of a core.
#[derive(Default)]
pub(super) struct Results {
    pub(super) caught: usize,
    pub(super) hangs: usize,
    pub(super) unviable: usize,
    pub(super) survivors: Vec<String>,
}

impl Results {
    /// Counts a mutant by what became of it.
    pub(super) fn enter(&mut self, mutant: &str, fate: Fate) {
        match fate {
            Fate::Caught(test) => {
                println!("caught: {mutant} by {test}");
                self.caught += 1;
            }
            Fate::Hangs(tests) => {
                println!("hangs: {mutant} in {}", tests.join(", "));
                self.hangs += 1;
            }
            Fate::Survives => {
                println!("not noticed: {mutant}");
                self.survivors.push(mutant.to_owned());
            }
        }
    }

    /// A row of the table: counts, and the share of the viable mutants that was noticed.
    pub(super) fn row(&self, file: &str) -> String {
        let noticed = self.caught + self.hangs;
        let survivors = self.survivors.len();
        let viable = noticed + survivors;
        let share = 100.0 * noticed as f64 / viable.max(1) as f64;
        format!(
            "| `{file}` | {} | {} | {} | {} | {survivors} | {share:.1} % |",
            viable + self.unviable,
            self.caught,
            self.hangs,
            self.unviable,
        )
    }
}

/// The survivors for which somebody has given a reason: the lines of the document that begin with
/// a mutant in backticks, once for each place in the same function.
pub(super) struct Listed(Vec<String>);

impl Listed {
    pub(super) fn read(document: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(document);
        text.map(|text| Self::parse(&text))
            .map_err(|error| format!("cannot read {}: {error}", document.display()))
    }

    fn parse(text: &str) -> Self {
        let mutants = text.lines().filter_map(|line| {
            let (mutant, _reason) = line.strip_prefix("- `")?.split_once("`: ")?;
            Some(mutant.to_owned())
        });
        Listed(mutants.collect())
    }

    /// An error where a mutant of `file` survives that is not listed.
    pub(super) fn judge(&self, file: &str, results: &Results) -> Result<(), String> {
        let mut listed = self.0.clone();
        listed.retain(|mutant| mutant.starts_with(file));
        let mut unknown = Vec::new();
        for survivor in &results.survivors {
            match listed.iter().position(|mutant| mutant == survivor) {
                Some(at) => drop(listed.swap_remove(at)),
                None => unknown.push(survivor.as_str()),
            }
        }
        for mutant in &listed {
            println!("listed, and survives no more: {mutant}");
        }
        if unknown.is_empty() {
            return Ok(());
        }
        for mutant in &unknown {
            println!("survives: {mutant}");
        }
        Err(format!("{} mutants survive unnoticed", unknown.len()))
    }
}

/// `limit/gcra.rs: replace > with >= in Pace::after`, of what the tool prints.
pub(super) fn without_position(line: &str) -> String {
    let inner = line.split_once("/src/").map_or(line, |(_, inner)| inner);
    let mut parts = inner.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(what)) => format!("{file}:{what}"),
        _ => inner.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "crates/infra-resilience/src/limit/gcra.rs:43:19: replace <= with > in Pace::after";
    const MUTANT: &str = "limit/gcra.rs: replace <= with > in Pace::after";

    fn survivors(mutants: &[&str]) -> Results {
        Results {
            caught: 7,
            hangs: 1,
            unviable: 2,
            survivors: mutants.iter().map(|mutant| (*mutant).to_owned()).collect(),
        }
    }

    #[test]
    fn a_mutant_is_known_by_its_function_and_not_by_its_line() {
        assert_eq!(without_position(LINE), MUTANT);
        let paths =
            "crates/infra-resilience/src/hedge.rs:1:2: replace a::b -> c::d with Some(e::f())";
        assert_eq!(
            without_position(paths),
            "hedge.rs: replace a::b -> c::d with Some(e::f())"
        );
    }

    #[test]
    fn each_survivor_needs_a_line_of_its_own() {
        let listed = Listed::parse(&format!("# Title\n- `{MUTANT}`: the same.\n- else\n"));
        let file = "limit/gcra.rs";
        assert!(listed.judge(file, &survivors(&[])).is_ok());
        assert!(listed.judge(file, &survivors(&[MUTANT])).is_ok());
        assert!(listed.judge(file, &survivors(&[MUTANT, MUTANT])).is_err());
        assert!(
            listed
                .judge(file, &survivors(&["limit/gcra.rs: other"]))
                .is_err()
        );
    }

    #[test]
    fn the_share_leaves_out_what_does_not_compile() {
        let row = survivors(&[MUTANT, MUTANT]).row("limit/gcra.rs");
        assert_eq!(row, "| `limit/gcra.rs` | 12 | 7 | 1 | 2 | 2 | 80.0 % |");
    }
}
