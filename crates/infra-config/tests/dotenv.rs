//! The `.env` dialect, line by line.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use infra_config::dotenv::{Lookup, SyntaxErrorKind as Kind, parse, parse_with};
use proptest::prelude::*;

/// Lines that are read, and the value of `K` in them.
const READ: &[(&str, &str)] = &[
    ("K=v", "v"),
    ("K = v", "v"),
    ("\tK\t=\tv\t", "v"),
    ("export K=v", "v"),
    ("export\tK=v", "v"),
    ("\u{feff}K=v", "v"),
    ("K=v\r\n", "v"),
    ("K=", ""),
    ("K= ", ""),
    ("K=''", ""),
    ("K=\"\"", ""),
    ("K=a b", "a b"),
    ("K=a b  # c", "a b"),
    ("K=a\t# c", "a"),
    ("K=a#b", "a#b"),
    ("K=#b", "#b"),
    ("K= #b", ""),
    ("K=''  # c", ""),
    ("K='#'", "#"),
    ("K=a=b=c", "a=b=c"),
    ("K=0123456789", "0123456789"),
    ("K=1.10", "1.10"),
    ("K=pa$$word", "pa$$word"),
    ("K=$X", "$X"),
    ("K=pa$", "pa$"),
    ("K='pa$$word'", "pa$$word"),
    ("K=\"pa$$word\"", "pa$$word"),
    ("K='${X}'", "${X}"),
    ("K=\"\\${X}\"", "${X}"),
    ("X=1\nK=${X}", "1"),
    ("X=1\nK=a${X}b${X}", "a1b1"),
    ("X=1\nK=\"a ${X} b\"", "a 1 b"),
    ("X='1 # 2'\nK=${X}", "1 # 2"),
    ("X='1 '\nK=${X}", "1 "),
    ("X='a  '\nK=${X}  # c", "a  "),
    ("K=${X:-d}", "d"),
    ("K=${X:-}", ""),
    ("K=${X:-a #b}", "a #b"),
    ("X=\nK=${X:-d}", "d"),
    ("X=1\nK=${X:-d}", "1"),
    ("K=${OVER}", "from above"),
    ("OVER=mine\nK=${OVER}", "from above"),
    ("K=${UNDER}", "from below"),
    ("UNDER=mine\nK=${UNDER}", "mine"),
    ("K=a\\tb", "a\\tb"),
    ("K=C:\\temp", "C:\\temp"),
    ("K='a\\tb'", "a\\tb"),
    ("K=\"a\\tb\\n\\\\\\\"\\r\\$\"", "a\tb\n\\\"\r$"),
    ("K='a\nb'", "a\nb"),
    ("K=\"a\r\n#b\r\n\"", "a\n#b\n"),
    ("K='it is \"quoted\"'", "it is \"quoted\""),
    ("K=\"it's\"", "it's"),
    ("K=`a`", "`a`"),
    ("K=ä€😀", "ä€😀"),
    ("# c\n\n  # d\nK=v\n\n", "v"),
    ("K=v # a 'quote' in a comment", "v"),
    (
        "K=redis://u:p%40@h:6379/0?x=1#f",
        "redis://u:p%40@h:6379/0?x=1#f",
    ),
    ("export=1\nK=v", "v"),
    ("_K2=1\nK=v", "v"),
];

/// Lines that are refused, with line and column.
const REFUSED: &[(&str, usize, usize, Kind)] = &[
    ("K", 1, 2, Kind::MissingEquals),
    ("export K", 1, 9, Kind::MissingEquals),
    ("K v", 1, 3, Kind::MissingEquals),
    ("K: v", 1, 2, Kind::BadName),
    ("1K=v", 1, 1, Kind::BadName),
    ("K-1=v", 1, 2, Kind::BadName),
    ("a.b=v", 1, 2, Kind::BadName),
    ("=v", 1, 1, Kind::BadName),
    ("'K'=v", 1, 1, Kind::BadName),
    ("Kä=v", 1, 2, Kind::BadName),
    ("K='a", 1, 3, Kind::UnclosedQuote),
    ("K=\"a\nX=1\n", 1, 3, Kind::UnclosedQuote),
    ("K='it\\'s'", 1, 8, Kind::TextAfterQuote),
    ("K=\"a\"b", 1, 6, Kind::TextAfterQuote),
    ("K='a'#b", 1, 6, Kind::TextAfterQuote),
    ("K=it's", 1, 5, Kind::QuoteInside),
    ("K=a\"b", 1, 4, Kind::QuoteInside),
    ("K=\"a\\qb\"", 1, 5, Kind::UnknownEscape),
    ("K=${X}", 1, 3, Kind::UndefinedReference),
    ("K=\"${X}\"", 1, 4, Kind::UndefinedReference),
    ("K=${K}", 1, 3, Kind::UndefinedReference),
    ("K=a${", 1, 4, Kind::BadReference),
    ("K=${}", 1, 3, Kind::BadReference),
    ("K=${1}", 1, 3, Kind::BadReference),
    ("K=${X-d}", 1, 3, Kind::BadReference),
    ("K=${X:?d}", 1, 3, Kind::BadReference),
    ("K=${X:-${Y}}", 1, 3, Kind::BadReference),
    ("K=1\n\nK=2", 3, 1, Kind::Duplicate { first_line: 1 }),
    ("K=a\u{0}b", 1, 4, Kind::ControlCharacter),
    ("K=a\rX=b", 1, 4, Kind::ControlCharacter),
    ("# c\r\n  Ä=1", 2, 3, Kind::BadName),
];

fn with_surroundings(text: &str) -> infra_config::dotenv::Parsed {
    let over = |name: &str| (name == "OVER").then(|| "from above".to_owned());
    let under = |name: &str| (name == "UNDER").then(|| "from below".to_owned());
    let lookup = Lookup {
        over: &over,
        under: &under,
    };
    parse_with(text.as_bytes(), lookup)
}

#[test]
fn trap_24_lines_are_read_as_written() {
    for (text, value) in READ {
        let parsed = with_surroundings(text);
        assert_eq!(parsed.errors, [], "{text:?}");
        let entry = parsed
            .entries
            .iter()
            .find(|entry| entry.key == "K")
            .unwrap();
        assert_eq!(entry.value, *value, "{text:?}");
    }
}

#[test]
fn trap_24_ambiguous_lines_are_refused_with_their_position() {
    for (text, line, column, kind) in REFUSED {
        let parsed = with_surroundings(text);
        let found: Vec<_> = parsed
            .errors
            .iter()
            .map(|e| (e.line, e.column, e.kind))
            .collect();
        assert_eq!(found, [(*line, *column, *kind)], "{text:?}");
    }
}

#[test]
fn trap_35_every_error_of_a_file_is_reported() {
    let text = "A=1\nB\nC='x\nD=\"\\q\"\nE=${C}${NOPE}\nA=2\n";
    let found: Vec<_> = parse(text.as_bytes())
        .errors
        .iter()
        .map(|e| (e.line, e.column))
        .collect();
    assert_eq!(found, [(2, 2), (3, 3), (4, 4), (5, 7), (6, 1)]);
}

#[test]
fn trap_23_no_error_and_no_debug_output_holds_a_part_of_the_file() {
    let canaries = [
        "canary-4711",
        "canary4711 = 'x",
        "K=canary4711'",
        "K='canary4711' canary4711",
        "K=\"canary4711\\q\"",
        "K=${canary4711}",
        "K=canary4711",
    ];
    for text in canaries {
        let parsed = parse(text.as_bytes());
        let printed = format!(
            "{parsed:?} {:?}",
            parsed
                .errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        );
        assert!(!printed.contains("canary"), "{text:?}: {printed}");
    }
}

#[test]
fn trap_34_bytes_that_are_not_utf8_are_refused_with_their_position() {
    let parsed = parse(b"A=1\nB=\xff\n");
    let error = &parsed.errors[0];
    assert_eq!(
        (error.line, error.column, error.kind),
        (2, 3, Kind::NotUtf8)
    );
}

#[test]
fn expansion_is_bounded() {
    let mut text = String::from("A0=xxxxxxxxxxxxxxxx\n");
    for n in 1..64 {
        text.push_str(&format!("A{n}=${{A{0}}}${{A{0}}}\n", n - 1));
    }
    let parsed = parse(text.as_bytes());
    assert!(
        parsed
            .errors
            .iter()
            .any(|error| error.kind == Kind::TooLong)
    );
    let total: usize = parsed.entries.iter().map(|entry| entry.value.len()).sum();
    assert!(total < 1 << 20, "{total}");
    assert_eq!(
        parse(&vec![b'#'; (1 << 20) + 1]).errors[0].kind,
        Kind::FileTooLarge
    );
}

#[test]
fn a_large_file_takes_linear_time() {
    let lines = (0..40_000).map(|n| format!("K{n}='${{X}}' # c\n"));
    let text: String = lines.collect();
    let parsed = parse(text.as_bytes());
    assert_eq!((parsed.errors.len(), parsed.entries.len()), (0, 40_000));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_parser_never_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        parse(&bytes);
    }

    #[test]
    fn the_parser_never_panics_on_nearly_valid_text(
        text in r#"(([A-C]|export )?[ =]?(['"$\{\}\\#a:\-\r\n\t]|\$\{A\}|\$\{B:-x\}){0,8}\n?){0,12}"#
    ) {
        let parsed = parse(text.as_bytes());
        for error in &parsed.errors {
            prop_assert!(error.line >= 1 && error.column >= 1);
            prop_assert!(error.line <= text.lines().count().max(1) + 1);
        }
    }

    #[test]
    fn any_printable_value_survives_single_or_double_quotes(value in "[^'\\p{Cc}]{0,40}") {
        let single = parse(format!("K='{value}'").as_bytes());
        prop_assert_eq!(&single.errors, &vec![]);
        prop_assert_eq!(&single.entries[0].value, &value);
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
        let double = parse(format!("K=\"{escaped}\"").as_bytes());
        prop_assert_eq!(&double.errors, &vec![]);
        prop_assert_eq!(&double.entries[0].value, &value);
    }

    #[test]
    fn an_unquoted_value_is_never_changed(value in r"[!-&(-~]([ -!#-&(-~]{0,30}[!#-&(-~])?") {
        prop_assume!(!value.contains(" #") && !value.contains("${") && !value.contains('"'));
        let parsed = parse(format!("K={value}").as_bytes());
        prop_assert_eq!(&parsed.errors, &vec![]);
        prop_assert_eq!(&parsed.entries[0].value, &value);
    }
}

/// The corpus of the fuzz target, on every run of the tests.
#[test]
fn the_fuzzers_corpus_does_not_panic() {
    let corpus = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fuzz/corpus/dotenv"
    );
    let files: Vec<_> = std::fs::read_dir(corpus).unwrap().collect();
    assert!(!files.is_empty());
    for file in files {
        parse(&std::fs::read(file.unwrap().path()).unwrap());
    }
}
