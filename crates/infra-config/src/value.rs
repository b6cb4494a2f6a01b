//! From text to typed values: by the declared kind, never by the look of the text.

use std::cmp::Ordering;
use std::time::Duration;

use infra_core::Secret;

use crate::setting::{Choice, Kind, Secrecy, Setting};
use crate::suggest;

/// A value that was checked against its setting's kind.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Of a text, log level or custom kind.
    Text(String),
    /// Of a choice: the word as declared.
    Word(&'static str),
    /// Of an integer.
    Integer(i64),
    /// Of a number.
    Number(f64),
    /// Of a boolean.
    Boolean(bool),
    /// Of a duration.
    Duration(Duration),
    /// Of a size, in bytes.
    Size(u64),
    /// Of a URL, and of every secret setting whatever its kind.
    Secret(Secret),
}

impl Value {
    /// How two values of the same ordered kind compare; `None` for others.
    pub(crate) fn compare(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Integer(this), Value::Integer(other)) => Some(this.cmp(other)),
            (Value::Number(this), Value::Number(other)) => this.partial_cmp(other),
            (Value::Duration(this), Value::Duration(other)) => Some(this.cmp(other)),
            (Value::Size(this), Value::Size(other)) => Some(this.cmp(other)),
            _ => None,
        }
    }
}

/// Why a text is no value of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// What was found; never a secret.
    pub(crate) found: String,
    /// What was probably meant, or what to do.
    pub(crate) hint: Option<String>,
}

impl Mismatch {
    fn new(found: impl Into<String>) -> Self {
        Mismatch {
            found: found.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn meant(self, word: Option<&str>) -> Self {
        match word {
            Some(word) => self.hint(format!("did you mean `{word}`?")),
            None => self,
        }
    }
}

/// The log level words, as they are suggested.
const LEVELS: &[&str] = &["TRACE", "DEBUG", "INFO", "WARNING", "WARN", "ERROR", "OFF"];

impl Setting {
    /// The typed value of a text that is not empty.
    pub(crate) fn parse(&self, raw: &str, features: &[&str]) -> Result<Value, Mismatch> {
        let parsed = self.kind.parse(raw, features);
        match self.secrecy {
            Secrecy::Plain => parsed,
            Secrecy::MaskedUrl => parsed.map(|_| Value::Secret(Secret::from(raw.trim()))),
            // The mismatch of a secret says how long it is, and no more.
            Secrecy::Secret => match parsed {
                Ok(_) => Ok(Value::Secret(Secret::from(raw))),
                Err(_) => Err(Mismatch::new(shape(raw))),
            },
        }
    }
}

impl Kind {
    /// What is expected, to go on with "expected ...".
    pub fn expected(&self) -> String {
        self.expected_of(|_| true)
    }

    /// [`expected`](Kind::expected), of a choice only the words that are there.
    pub(crate) fn expected_with(&self, features: &[&str]) -> String {
        self.expected_of(|choice| choice.is_present(features))
    }

    fn expected_of(&self, keep: impl Fn(&Choice) -> bool) -> String {
        match self {
            Kind::Text => "text".to_owned(),
            Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Number { min, max } => format!("a number from {min} to {max}"),
            Kind::Boolean => "true or false (also yes/no, on/off, 1/0)".to_owned(),
            Kind::Duration { min, max } => {
                format!("a duration with a unit from {min:?} to {max:?}, such as `250ms` or `30s`")
            }
            Kind::Size { min, max } => {
                format!("a size with a unit from {min} B to {max} B, such as `512KiB`")
            }
            Kind::Choice(choices) => format!("one of {}", words(choices, keep)),
            Kind::LogLevel => {
                "a level (trace, debug, info, warning, error, off) or directives such as \
                 `info,app=debug`"
                    .to_owned()
            }
            Kind::Url { schemes } => format!("a URL starting with {}://", schemes.join(":// or ")),
            Kind::Custom { expected, .. } => (*expected).to_owned(),
        }
    }

    /// Whether values of this kind can be put in order with those of the other.
    pub(crate) fn is_ordered_with(&self, other: &Kind) -> bool {
        matches!(
            (self, other),
            (Kind::Integer { .. }, Kind::Integer { .. })
                | (Kind::Number { .. }, Kind::Number { .. })
                | (Kind::Duration { .. }, Kind::Duration { .. })
                | (Kind::Size { .. }, Kind::Size { .. })
        )
    }

    fn parse(&self, raw: &str, features: &[&str]) -> Result<Value, Mismatch> {
        let trimmed = raw.trim();
        match *self {
            Kind::Text => Ok(Value::Text(raw.to_owned())),
            Kind::Integer { min, max } => integer(trimmed, min, max),
            Kind::Number { min, max } => number(trimmed, min, max),
            Kind::Boolean => boolean(trimmed),
            Kind::Duration { min, max } => duration(trimmed, min, max),
            Kind::Size { min, max } => size(trimmed, min, max),
            Kind::Choice(choices) => choice(trimmed, choices, features),
            Kind::LogLevel => log_level(trimmed),
            Kind::Url { schemes } => url(trimmed, schemes),
            Kind::Custom { accepts, .. } if accepts(raw) => Ok(Value::Text(raw.to_owned())),
            Kind::Custom { .. } => Err(Mismatch::new(quoted(raw))),
        }
    }
}

fn integer(text: &str, min: i64, max: i64) -> Result<Value, Mismatch> {
    match text.parse::<i64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
        _ => Err(Mismatch::new(quoted(text))),
    }
}

fn number(text: &str, min: f64, max: f64) -> Result<Value, Mismatch> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && min <= number && number <= max => {
            Ok(Value::Number(number))
        }
        _ => Err(Mismatch::new(quoted(text))),
    }
}

fn boolean(text: &str) -> Result<Value, Mismatch> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(Value::Boolean(true)),
        "false" | "no" | "off" | "0" => Ok(Value::Boolean(false)),
        _ => Err(Mismatch::new(quoted(text))),
    }
}

/// Splits `1.5s` into its number and its unit.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

fn duration(text: &str, min: Duration, max: Duration) -> Result<Value, Mismatch> {
    let (number, unit) = split_unit(text);
    let nanos_per_unit: u128 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        "" if !number.is_empty() => {
            let hint = format!("a unit is needed: `{number}s` or `{number}ms`?");
            return Err(Mismatch::new(quoted(text)).hint(hint));
        }
        _ => return Err(Mismatch::new(quoted(text))),
    };
    let nanos = scaled(number, nanos_per_unit).and_then(|nanos| u64::try_from(nanos).ok());
    match nanos.map(Duration::from_nanos) {
        Some(duration) if min <= duration && duration <= max => Ok(Value::Duration(duration)),
        _ => Err(Mismatch::new(quoted(text))),
    }
}

/// `number`, which may have a fraction, times `unit`; `None` unless that is a whole number.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 15 {
        return None;
    }
    let divisor = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let whole = whole.parse::<u128>().ok()?.checked_mul(unit)?;
    let fraction = fraction.parse::<u128>().ok()?.checked_mul(unit)?;
    (fraction % divisor == 0).then(|| whole.checked_add(fraction / divisor))?
}

fn size(text: &str, min: u64, max: u64) -> Result<Value, Mismatch> {
    let (number, unit) = split_unit(text);
    let bytes_per_unit: u128 = match unit.to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "" if !number.is_empty() => {
            let hint = format!("a unit is needed: `{number}B` or `{number}MiB`?");
            return Err(Mismatch::new(quoted(text)).hint(hint));
        }
        _ => return Err(Mismatch::new(quoted(text))),
    };
    match scaled(number, bytes_per_unit).and_then(|bytes| u64::try_from(bytes).ok()) {
        Some(bytes) if (min..=max).contains(&bytes) => Ok(Value::Size(bytes)),
        _ => Err(Mismatch::new(quoted(text))),
    }
}

fn choice(text: &str, choices: &'static [Choice], features: &[&str]) -> Result<Value, Mismatch> {
    let Some(choice) = choices.iter().find(|c| c.word.eq_ignore_ascii_case(text)) else {
        let nearest = suggest::nearest(text, choices.iter().map(|choice| choice.word));
        return Err(Mismatch::new(quoted(text)).meant(nearest));
    };
    if choice.is_present(features) {
        return Ok(Value::Word(choice.word));
    }
    let has = format!(
        "this build has {}",
        words(choices, |c| c.is_present(features))
    );
    let hint = match choice.feature {
        Some(feature) if crate::builtin::BACKEND_FEATURES.contains(&feature) => {
            format!("enable the cargo feature `{feature}` of `infra` for it; {has}")
        }
        _ => format!("it is not part of this version; {has}"),
    };
    Err(Mismatch::new(format!("`{}`", choice.word)).hint(hint))
}

impl Choice {
    pub(crate) fn is_present(&self, features: &[&str]) -> bool {
        self.feature
            .is_none_or(|feature| features.contains(&feature))
    }
}

fn words(choices: &[Choice], keep: impl Fn(&Choice) -> bool) -> String {
    let kept: Vec<&str> = choices.iter().filter(|c| keep(c)).map(|c| c.word).collect();
    kept.join(", ")
}

fn log_level(text: &str) -> Result<Value, Mismatch> {
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let mut targets = Vec::new();
    // A bare word that is no level must not pass as a target: it would silence everything.
    for part in text.split(',').map(str::trim) {
        let (target, word) = match part.split_once('=') {
            Some((target, word)) => (Some(target.trim_end()), word.trim_start()),
            None => (None, part),
        };
        let found = if part == text {
            quoted(text)
        } else {
            format!("the part {}", quoted(part))
        };
        if !is_level(word) {
            let nearest = suggest::nearest(word, LEVELS.iter().copied());
            return Err(Mismatch::new(found).meant(nearest));
        }
        if target.is_some_and(|target| !is_target(target)) {
            return Err(Mismatch::new(found).hint("a target must stand before the `=`"));
        }
        if targets.contains(&target) {
            return Err(Mismatch::new(found).hint("it says a level for the second time"));
        }
        targets.push(target);
    }
    Ok(Value::Text(text.to_owned()))
}

/// Whether a text can be the target of a log line: a module path or the like.
fn is_target(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_:-./@".contains(&b);
    !text.is_empty() && text.bytes().all(allowed)
}

/// Checks what can be checked without knowing the server. No message holds a part of the URL
/// other than its scheme.
fn url(text: &str, schemes: &[&str]) -> Result<Value, Mismatch> {
    if text.starts_with(['"', '\'']) {
        let hint = "leave the quotes away: what set the variable has kept them";
        return Err(Mismatch::new("text in quotes").hint(hint));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(Mismatch::new("text without `://`"));
    };
    if !schemes
        .iter()
        .any(|known| known.eq_ignore_ascii_case(scheme))
    {
        let plain = scheme.len() <= 16
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '+');
        let found = if plain {
            format!("the scheme `{scheme}`")
        } else {
            "no scheme".to_owned()
        };
        let nearest = suggest::nearest(scheme, schemes.iter().copied()).filter(|_| plain);
        return Err(Mismatch::new(found).meant(nearest));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Mismatch::new(
            "a URL with a blank or control character in it",
        ));
    }
    let host_and_path = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let authority = host_and_path
        .split(['/', '?', '#'])
        .next()
        .unwrap_or_default();
    for server in authority.split(',') {
        let (host, port) = split_port(server);
        if host.is_empty() {
            return Err(Mismatch::new("a URL without a host"));
        }
        if !matches!(port.map(str::parse::<u16>), None | Some(Ok(1..))) {
            return Err(Mismatch::new(
                "a URL with a port that is no number from 1 to 65535",
            ));
        }
    }
    Ok(Value::Text(text.to_owned()))
}

/// Splits `host:port`; the colons of an IPv6 address in brackets belong to the host.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let after_address = authority.rfind(']').map_or(0, |end| end + 1);
    match authority
        .get(after_address..)
        .and_then(|tail| tail.rfind(':'))
    {
        Some(at) => {
            let (host, port) = authority.split_at(after_address + at);
            (host, port.strip_prefix(':'))
        }
        None => (authority, None),
    }
}

/// The text in backquotes, on one line, cut at 40 characters.
fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// What may be said about a secret.
fn shape(text: &str) -> String {
    let class = match text.chars().count() {
        0..8 => "fewer than 8",
        8..32 => "8 to 31",
        _ => "32 or more",
    };
    format!("a secret text of {class} characters")
}
