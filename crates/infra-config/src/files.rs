//! Reading files, bounded, with errors that say which file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::dotenv::{self, Entry, Lookup, MAX_FILE, MAX_VALUE};
use crate::problem::{Place, Problem, ProblemKind};

/// The assignments of a `.env` file; `None` when there is no such file.
pub(crate) fn read_dotenv(
    path: &Path,
    lookup: Lookup<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Entry>> {
    match read(path, MAX_FILE) {
        Ok(bytes) => {
            let parsed = dotenv::parse_with(&bytes, lookup);
            let syntax = parsed
                .errors
                .iter()
                .map(|error| Problem::syntax(path, error));
            problems.extend(syntax);
            Some(parsed.entries)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            problems.push(file_problem(path, &error));
            Some(Vec::new())
        }
    }
}

/// The content of a file that a `_FILE` variable names, without line ends at its end.
pub(crate) fn read_value(path: &Path) -> Result<String, String> {
    let bytes = read(path, MAX_VALUE).map_err(|error| reason(&error))?;
    if bytes.len() > MAX_VALUE {
        return Err("the file that it names is larger than 64 KiB".to_owned());
    }
    let mut text = String::from_utf8(bytes).map_err(|_| "the file that it names is not UTF-8")?;
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    if text.trim().is_empty() {
        return Err("the file that it names is empty".to_owned());
    }
    Ok(text)
}

/// At most one byte more than `limit`, so that the caller sees when there is more.
fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(bound).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn file_problem(path: &Path, error: &io::Error) -> Problem {
    let place = Place::File(path.to_owned());
    let message = format!("the file is there and cannot be read: {}", error.kind());
    Problem::new(ProblemKind::File, place, message)
}

fn reason(error: &io::Error) -> String {
    format!("the file that it names cannot be read: {}", error.kind())
}
