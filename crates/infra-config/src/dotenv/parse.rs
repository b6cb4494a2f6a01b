//! From bytes to assignments.

use std::collections::HashMap;

use super::cursor::{Cursor, is_blank};
use super::{Entry, MAX_FILE, MAX_VALUE, MAX_VALUES, Parsed, SyntaxError, SyntaxErrorKind as Kind};

/// Where `${NAME}` looks beside the lines above.
#[derive(Clone, Copy)]
pub struct Lookup<'a> {
    /// Asked first: the process environment.
    pub over: &'a dyn Fn(&str) -> Option<String>,
    /// Asked last: the file of lower precedence.
    pub under: &'a dyn Fn(&str) -> Option<String>,
}

/// Parses a file whose references can only name its own lines.
///
/// ```
/// let parsed = infra_config::dotenv::parse(b"HOST=db # ours\nURL=\"redis://${HOST}:6379\"\n");
/// assert!(parsed.errors.is_empty());
/// assert_eq!(parsed.entries[1].value, "redis://db:6379");
/// ```
pub fn parse(bytes: &[u8]) -> Parsed {
    let nothing = |_: &str| None;
    let lookup = Lookup {
        over: &nothing,
        under: &nothing,
    };
    parse_with(bytes, lookup)
}

/// Parses a file. Never panics, whatever the bytes.
pub fn parse_with(bytes: &[u8], lookup: Lookup<'_>) -> Parsed {
    let error = |cursor: Cursor<'_>, kind| Parsed {
        entries: Vec::new(),
        errors: vec![cursor.error(kind)],
    };
    if bytes.len() > MAX_FILE {
        return error(Cursor::new(""), Kind::FileTooLarge);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Parser::new(lookup).run(text),
        Err(utf8) => {
            let valid = bytes.get(..utf8.valid_up_to()).unwrap_or_default();
            let mut cursor = Cursor::new(std::str::from_utf8(valid).unwrap_or_default());
            while cursor.next().is_some() {}
            error(cursor, Kind::NotUtf8)
        }
    }
}

struct Parser<'l> {
    lookup: Lookup<'l>,
    parsed: Parsed,
    /// Each key's line and, unless its value was in error, its place among the entries.
    keys: HashMap<String, (usize, Option<usize>)>,
    /// Bytes of all values so far.
    total: usize,
}

impl<'l> Parser<'l> {
    fn new(lookup: Lookup<'l>) -> Self {
        Parser {
            lookup,
            parsed: Parsed::default(),
            keys: HashMap::new(),
            total: 0,
        }
    }

    fn run(mut self, text: &str) -> Parsed {
        let mut cursor = Cursor::new(text.strip_prefix('\u{feff}').unwrap_or(text));
        while let Some(c) = cursor.peek() {
            match c {
                '\n' | ' ' | '\t' => drop(cursor.next()),
                '#' => cursor.skip_line(),
                _ => self.assignment(&mut cursor),
            }
        }
        self.parsed
            .errors
            .sort_by_key(|error| (error.line, error.column));
        self.parsed
    }

    /// Parses one assignment, and leaves the cursor where the next may start.
    fn assignment(&mut self, cursor: &mut Cursor<'_>) {
        let start = *cursor;
        let (key, key_at) = match name_and_equals(cursor) {
            Ok(found) => found,
            Err(error) => {
                self.parsed.errors.push(error);
                cursor.skip_line();
                return;
            }
        };
        let line = key_at.line();
        if let Some((first_line, _)) = self.keys.get(key) {
            let kind = Kind::Duplicate {
                first_line: *first_line,
            };
            self.parsed.errors.push(key_at.error(kind));
        }
        let known_errors = self.parsed.errors.len();
        let value = self.value(cursor);
        if value.is_none() {
            // A quote that never ends: go on with the line below the one where it started.
            *cursor = start;
            cursor.skip_line();
        }
        let sound = self.parsed.errors.len() == known_errors;
        let place = self.parsed.entries.len();
        let known = (line, sound.then_some(place));
        self.keys.entry(key.to_owned()).or_insert(known);
        if let (Some(value), true) = (value, sound) {
            self.parsed.entries.push(Entry {
                key: key.to_owned(),
                value,
                line,
            });
        }
    }

    /// `None` when a quote is not closed.
    fn value(&mut self, cursor: &mut Cursor<'_>) -> Option<String> {
        let before = *cursor;
        cursor.skip_blanks();
        let start = *cursor;
        let value = match cursor.peek() {
            Some('#') if before.peek() != Some('#') => {
                cursor.skip_line();
                String::new()
            }
            Some(quote @ ('\'' | '"')) => {
                let value = self.quoted(cursor, quote)?;
                self.after_quote(cursor);
                value
            }
            _ => self.unquoted(cursor),
        };
        self.total += value.len();
        if value.len() > MAX_VALUE || self.total > MAX_VALUES {
            self.parsed.errors.push(start.error(Kind::TooLong));
            return Some(String::new());
        }
        Some(value)
    }

    fn quoted(&mut self, cursor: &mut Cursor<'_>, quote: char) -> Option<String> {
        let opening = *cursor;
        cursor.next();
        let errors_before = self.parsed.errors.len();
        let mut value = String::new();
        loop {
            let here = *cursor;
            match cursor.next() {
                None => {
                    // What seemed wrong inside was perhaps not meant to be inside.
                    self.parsed.errors.truncate(errors_before);
                    self.parsed.errors.push(opening.error(Kind::UnclosedQuote));
                    return None;
                }
                Some(c) if c == quote => return Some(value),
                Some('\\') if quote == '"' => match cursor.next().and_then(unescape) {
                    Some(c) => value.push(c),
                    None => self.parsed.errors.push(here.error(Kind::UnknownEscape)),
                },
                Some('$') if quote == '"' && cursor.peek() == Some('{') => {
                    self.reference(cursor, here, &mut value);
                }
                Some(c) => self.literal(here, c, &mut value),
            }
        }
    }

    fn after_quote(&mut self, cursor: &mut Cursor<'_>) {
        let closing = *cursor;
        cursor.skip_blanks();
        let comment = cursor.peek() == Some('#') && closing.peek() != Some('#');
        if !cursor.at_line_end() && !comment {
            self.parsed.errors.push(cursor.error(Kind::TextAfterQuote));
        }
        cursor.skip_line();
    }

    fn unquoted(&mut self, cursor: &mut Cursor<'_>) -> String {
        let mut value = String::new();
        // Blanks at the end do not count, unless a reference brought them.
        let mut end = 0;
        while !cursor.at_line_end() {
            let here = *cursor;
            let Some(c) = cursor.next() else { break };
            match c {
                '#' if here_follows_blank(&value, end) => {
                    cursor.skip_line();
                    break;
                }
                '\'' | '"' => self.parsed.errors.push(here.error(Kind::QuoteInside)),
                '$' if cursor.peek() == Some('{') => {
                    self.reference(cursor, here, &mut value);
                    end = value.len();
                }
                _ => self.literal(here, c, &mut value),
            }
            if !is_blank(c) {
                end = value.len();
            }
        }
        value.truncate(end);
        value
    }

    fn literal(&mut self, here: Cursor<'_>, c: char, value: &mut String) {
        if c.is_control() && c != '\t' && c != '\n' {
            self.parsed.errors.push(here.error(Kind::ControlCharacter));
        }
        value.push(c);
    }

    /// Replaces `${NAME}` or `${NAME:-default}`, the cursor being behind the `$`.
    fn reference(&mut self, cursor: &mut Cursor<'_>, dollar: Cursor<'_>, value: &mut String) {
        cursor.next();
        let name = cursor.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        let default = cursor.eat(":-").then(|| {
            cursor.take_while(|c| !matches!(c, '}' | '\n' | '"' | '\'' | '$') && !c.is_control())
        });
        if !is_name(name) || !cursor.eat("}") {
            self.parsed.errors.push(dollar.error(Kind::BadReference));
            // What follows belongs to it: one mistake, one error.
            cursor.take_while(|c| !matches!(c, '}' | '\n' | '"' | '\''));
            return;
        }
        match (self.resolve(name), default) {
            (Some(found), None) => value.push_str(&found),
            (Some(found), Some(_)) if !found.is_empty() => value.push_str(&found),
            (_, Some(default)) => value.push_str(default),
            (None, None) => self
                .parsed
                .errors
                .push(dollar.error(Kind::UndefinedReference)),
        }
        if value.len() > MAX_VALUE {
            // The value is refused for it; until then it must not grow further.
            value.truncate(0);
            self.parsed.errors.push(dollar.error(Kind::TooLong));
        }
    }

    fn resolve(&self, name: &str) -> Option<String> {
        if let Some(value) = (self.lookup.over)(name) {
            return Some(value);
        }
        match self.keys.get(name) {
            // A line in error was reported already: do not report those that refer to it.
            Some((_, None)) => Some(String::new()),
            Some((_, Some(place))) => self.parsed.entries.get(*place).map(|e| e.value.clone()),
            None => (self.lookup.under)(name),
        }
    }
}

/// Whether the place after `value` follows a blank; `end` is where its last non-blank ends.
fn here_follows_blank(value: &str, end: usize) -> bool {
    value.len() > end
}

/// Parses `[export] NAME =` and the blanks around it.
fn name_and_equals<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a str, Cursor<'a>), SyntaxError> {
    let mut ahead = *cursor;
    if ahead.eat("export") && ahead.peek().is_some_and(is_blank) {
        ahead.skip_blanks();
        if ahead.peek() != Some('=') {
            *cursor = ahead;
        }
    }
    let at = *cursor;
    let name = cursor.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name(name) {
        return Err(at.error(Kind::BadName));
    }
    if cursor
        .peek()
        .is_some_and(|c| c != '=' && c != '\n' && !is_blank(c))
    {
        return Err(cursor.error(Kind::BadName));
    }
    cursor.skip_blanks();
    if !cursor.eat("=") {
        return Err(cursor.error(Kind::MissingEquals));
    }
    Ok((name, at))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

fn unescape(c: char) -> Option<char> {
    match c {
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        '\\' | '"' | '$' => Some(c),
        _ => None,
    }
}
