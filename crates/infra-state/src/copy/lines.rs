//! Export and import as JSON lines.
//!
//! A line for each key: `{"key":"position","text":"12"}`. Bytes that are no text come as
//! `"hex"`, and a value that will expire has `"expires_at_ms"`, in milliseconds since 1970.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use infra_core::Classify;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

use super::Copy;
use super::report::{CopyError, CopyReport};
use super::run::each;
use super::selection::Role;
use super::transfer::{ATTEMPTS, Moved, Transfer, pause};
use crate::error::{Error, Result as StateResult};

const PAGE: usize = 500;
/// What a line may have beside its value: key, names, expiry.
const BESIDE_THE_VALUE: usize = 16 * 1024;
/// A byte of a value has at most six in JSON.
const WIDEST: usize = 6;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<u64>,
}

impl Copy {
    /// Writes the keys of the source as JSON lines; the target is not used. Counts what was
    /// written as copied.
    ///
    /// # Errors
    /// A store that does not answer, or an output that does not take the lines.
    pub async fn export<W: AsyncWrite + Unpin + Send>(
        &self,
        out: &mut W,
    ) -> Result<CopyReport, CopyError> {
        let mut report = CopyReport::default();
        let mut keys = self.from.scan(&self.prefix);
        loop {
            let mut page = Vec::with_capacity(PAGE);
            while page.len() < PAGE
                && let Some(key) = keys.next().await
            {
                report.scanned += 1;
                match key? {
                    key if self.selection.role(&key) == Role::Data => page.push(key),
                    _ => report.left_out += 1,
                }
            }
            if page.is_empty() {
                break;
            }
            self.export_page(page, out, &mut report).await?;
        }
        let line = report.copied;
        let flushed = out.flush().await;
        flushed.map_err(|source| CopyError::Lines { line, source })?;
        Ok(report)
    }

    async fn export_page<W: AsyncWrite + Unpin + Send>(
        &self,
        page: Vec<String>,
        out: &mut W,
        report: &mut CopyReport,
    ) -> Result<(), CopyError> {
        let from = self.from.clone();
        let entries = each(page, self.at_once, move |key| {
            let from = from.clone();
            async move {
                let entry = from.get_entry(&key).await;
                (key, entry)
            }
        });
        for (key, entry) in entries.await? {
            let Some(entry) = entry? else {
                report.vanished += 1;
                continue;
            };
            let line = line_of(key, &entry.value, entry.ttl);
            let number = report.copied + 1;
            let failed = |source| CopyError::Lines {
                line: number,
                source,
            };
            let mut text = serde_json::to_vec(&line).map_err(|e| failed(e.into()))?;
            text.push(b'\n');
            out.write_all(&text).await.map_err(failed)?;
            report.copied += 1;
        }
        Ok(())
    }

    /// Reads JSON lines into the target; the source is not used. What a key that is there already
    /// becomes is the policy's business; what has expired meanwhile is counted as vanished.
    ///
    /// # Errors
    /// A line that cannot be read, by its number; a store that does not answer. The lines before
    /// it are in the target then.
    pub async fn import<R: AsyncBufRead + Unpin + Send>(
        &self,
        input: &mut R,
    ) -> Result<CopyReport, CopyError> {
        let transfer = Transfer {
            from: self.from.clone(),
            to: self.to.clone(),
            on_conflict: self.on_conflict,
            removes: false,
            dry: false,
            patience: ATTEMPTS,
        };
        let allowed = self.to.capabilities().max_value_bytes;
        let longest = allowed
            .saturating_mul(WIDEST)
            .saturating_add(BESIDE_THE_VALUE);
        let mut report = CopyReport::default();
        let mut text = Vec::new();
        for line in 1_u64.. {
            let failed = |source| CopyError::Lines { line, source };
            text.clear();
            if !read_line(input, &mut text, longest).await.map_err(failed)? {
                break;
            }
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let (key, value, life) = parse(&text).map_err(failed)?;
            report.scanned += 1;
            match life {
                Life::Over => report.vanished += 1,
                _ if value.len() > allowed => report.too_large(&key, value.len()),
                Life::Ends(_) | Life::Lasts => {
                    let moved = store(&transfer, &key, value, life.left()).await;
                    count(&mut report, moved)?;
                }
            }
        }
        Ok(report)
    }
}

async fn store(
    transfer: &Transfer,
    key: &str,
    value: Bytes,
    life: Option<Duration>,
) -> StateResult<Moved> {
    for tried in 1..=ATTEMPTS {
        let attempt = async {
            let found = transfer.to.get_entry(key).await?;
            transfer.put(key, found, value.clone(), life).await
        };
        match attempt.await {
            Ok(Some(moved)) => return Ok(moved),
            Ok(None) => {}
            Err(error) if error.is_transient() && tried < ATTEMPTS => sleep(pause(tried)).await,
            Err(error) => return Err(error),
        }
    }
    Ok(Moved::Unsettled)
}

fn count(report: &mut CopyReport, moved: Result<Moved, Error>) -> Result<(), CopyError> {
    match moved {
        Ok(Moved::Copied(_)) => report.copied += 1,
        Ok(Moved::Unchanged) => report.unchanged += 1,
        Ok(Moved::Kept) => report.kept += 1,
        Ok(Moved::Refused) => report.refused += 1,
        Ok(Moved::Vanished) => report.vanished += 1,
        Ok(Moved::Unsettled | Moved::Oversize(_)) => report.unsettled += 1,
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(error) => report.failure(&error),
    }
    Ok(())
}

fn line_of(key: String, value: &[u8], ttl: Option<Duration>) -> Line {
    let text = std::str::from_utf8(value).ok().map(str::to_owned);
    let hex = match text {
        Some(_) => None,
        None => Some(to_hex(value)),
    };
    let expires_at_ms = ttl.map(|left| {
        let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        now_ms().saturating_add(left)
    });
    Line {
        key,
        text,
        hex,
        expires_at_ms,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Lasts,
    Ends(Duration),
    Over,
}

impl Life {
    fn left(self) -> Option<Duration> {
        match self {
            Life::Ends(left) => Some(left),
            Life::Lasts | Life::Over => None,
        }
    }
}

fn parse(text: &[u8]) -> io::Result<(String, Bytes, Life)> {
    // The parser's own messages may repeat what is written there.
    let line: Line = serde_json::from_slice(text).map_err(|error| {
        invalid(format!(
            "no JSON object with key and text or hex, at column {}",
            error.column()
        ))
    })?;
    let value = match (line.text, line.hex) {
        (Some(text), None) => Bytes::from(text),
        (None, Some(hex)) => Bytes::from(
            of_hex(&hex)
                .ok_or_else(|| invalid("`hex` is not pairs of hexadecimal digits".to_owned()))?,
        ),
        _ => return Err(invalid("either `text` or `hex` is needed".to_owned())),
    };
    let life = match line.expires_at_ms {
        None => Life::Lasts,
        Some(at) => match at.saturating_sub(now_ms()) {
            0 => Life::Over,
            left => Life::Ends(Duration::from_millis(left)),
        },
    };
    Ok((line.key, value, life))
}

/// Reads up to a line end; false at the end of the input.
async fn read_line<R: AsyncBufRead + Unpin>(
    input: &mut R,
    line: &mut Vec<u8>,
    longest: usize,
) -> io::Result<bool> {
    loop {
        let read = input.fill_buf().await?;
        if read.is_empty() {
            return Ok(!line.is_empty());
        }
        let (taken, ended) = match memchr::memchr(b'\n', read) {
            Some(at) => (at + 1, true),
            None => (read.len(), false),
        };
        line.extend_from_slice(read.get(..taken).unwrap_or_default());
        input.consume(taken);
        if line.len() > longest {
            return Err(invalid("it is longer than any value that fits".to_owned()));
        }
        if ended {
            return Ok(true);
        }
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

fn of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| u8::try_from(char::from(digit).to_digit(16)?).ok();
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    pairs.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn m11_any_value_survives_a_line(key in "[^\\p{C}]{1,20}", value: Vec<u8>) {
            let line = serde_json::to_vec(&line_of(key.clone(), &value, None)).unwrap();
            proptest::prop_assert!(!line.contains(&b'\n'));
            let (again, bytes, life) = parse(&line).unwrap();
            proptest::prop_assert_eq!((again, &bytes[..], life), (key, &value[..], Life::Lasts));
        }

        #[test]
        fn any_line_is_read_or_refused_without_a_panic(line: Vec<u8>) {
            let _ = parse(&line);
        }
    }

    #[test]
    fn m11_bad_lines_are_refused_and_not_repeated() {
        for line in [
            r#"{"key":"k"}"#,
            r#"{"key":"k","text":"canary","hex":"00"}"#,
            r#"{"key":"k","hex":"canary"}"#,
            r#"{"key":"k","hex":"0"}"#,
            r#"{"key":"k","text":canary}"#,
            r#"{"key":"k","canary":"x","text":"y"}"#,
            "canary",
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }
}
