//! Which characters may not stand in a line as they are.
//!
//! A log line is read by machines and by terminals. Line breaks would forge lines, control
//! characters would move the cursor, and bidirectional marks would make a reader see another text
//! than is there.

/// How a character is written that may not stand as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quoting {
    /// Inside of a JSON string: `"` and `\` are escaped too, code points as `\u0085`.
    Json,
    /// Unquoted console text: code points as `\u{85}`; a backslash stays.
    Plain,
    /// Inside of quotes on the console and in logfmt: as `Plain`, and `"` and `\` escaped.
    Quoted,
}

/// 1: may need an escape, alone or with the bytes that follow. Computed once.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which would refuse"
)]
const SUSPECT: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let control = byte < 0x20 || byte == 0x7f;
        let quote = byte == b'"' as usize || byte == b'\\' as usize;
        // First bytes of U+0080..U+00BF, U+0600..U+063F, U+2000..U+2FFF and U+F000..U+FFFF.
        let lead = byte == 0xc2 || byte == 0xd8 || byte == 0xe2 || byte == 0xef;
        table[byte] = control || quote || lead;
        byte += 1;
    }
    table
};

/// Appends the text with everything escaped that `quoting` says.
pub(crate) fn write_escaped(out: &mut Vec<u8>, text: &str, quoting: Quoting) {
    let mut done = 0;
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(step) = bytes.iter().skip(from).position(|b| suspect(*b)) {
        let at = from + step;
        let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) else {
            break;
        };
        from = at + c.len_utf8();
        if is_unsafe(c) || (matches!(c, '"' | '\\') && quoting != Quoting::Plain) {
            out.extend_from_slice(bytes.get(done..at).unwrap_or_default());
            write_escape(out, c, quoting);
            done = from;
        }
    }
    out.extend_from_slice(bytes.get(done..).unwrap_or_default());
}

fn suspect(byte: u8) -> bool {
    SUSPECT.get(byte as usize).is_some_and(|s| *s)
}

/// C0, DEL, C1 (with NEL), line and paragraph separators, bidirectional controls, BOM.
pub(crate) fn is_unsafe(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn write_escape(out: &mut Vec<u8>, c: char, quoting: Quoting) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        c => write_code_point(out, c as u32, quoting),
    }
}

/// All unsafe characters have at most four hex digits.
fn write_code_point(out: &mut Vec<u8>, code: u32, quoting: Quoting) {
    let digits = [12, 8, 4, 0].map(|shift| hex_digit(code >> shift & 15));
    if quoting == Quoting::Json {
        out.extend_from_slice(b"\\u");
        out.extend_from_slice(&digits);
    } else {
        out.extend_from_slice(b"\\u{");
        let first = digits.iter().position(|d| *d != b'0').unwrap_or(3);
        out.extend_from_slice(digits.get(first..).unwrap_or_default());
        out.push(b'}');
    }
}

fn hex_digit(nibble: u32) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble as u8,
        _ => b'a' + (nibble as u8 - 10),
    }
}

/// Appends a number in decimal.
pub(crate) fn write_int(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the shortest text that reads back as the same number; NaN and infinities as words.
pub(crate) fn write_float(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(if value.is_nan() {
            b"NaN"
        } else if value > 0.0 {
            b"Infinity"
        } else {
            b"-Infinity"
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str, quoting: Quoting) -> String {
        let mut out = Vec::new();
        write_escaped(&mut out, text, quoting);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn trap_13_no_control_line_or_bidi_character_is_left() {
        let all: String = (0..0x3000)
            .chain(0xfe00..0xffff)
            .filter_map(char::from_u32)
            .collect();
        for quoting in [Quoting::Json, Quoting::Plain, Quoting::Quoted] {
            assert!(!escaped(&all, quoting).chars().any(is_unsafe));
        }
        let json: String =
            serde_json::from_str(&format!("\"{}\"", escaped(&all, Quoting::Json))).unwrap();
        assert_eq!(json, all);
    }

    #[test]
    fn escapes_are_short_and_other_text_stays() {
        let text = "a\"b\\c\n\u{7f}é\u{85}\u{202e}…日本";
        assert_eq!(
            escaped(text, Quoting::Json),
            "a\\\"b\\\\c\\n\\u007fé\\u0085\\u202e…日本"
        );
        assert_eq!(
            escaped(text, Quoting::Plain),
            "a\"b\\c\\n\\u{7f}é\\u{85}\\u{202e}…日本"
        );
        assert_eq!(escaped("", Quoting::Json), "");
    }

    #[test]
    fn trap_10_numbers_read_back_as_the_same_number() {
        for value in [0.1, -0.0, 1e300, 5e-324, 1e16, 123456789.125, f64::MAX] {
            let mut out = Vec::new();
            write_float(&mut out, value);
            let back: f64 = serde_json::from_slice(&out).unwrap();
            assert_eq!(back.to_bits(), value.to_bits());
        }
    }
}
