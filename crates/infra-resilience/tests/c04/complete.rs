//! No row of the conformance table is left out: each is run on both shells, or stands in
//! [`ELSEWHERE`] with the reason and the tests that prove it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The table: the letter of each group and how many rows it has.
const TABLE: [(char, u32); 8] = [
    ('b', 26), // breaker
    ('r', 14), // retry
    ('k', 6),  // bulkhead
    ('l', 11), // rate limiter
    ('t', 5),  // time limit
    ('h', 5),  // hedge
    ('f', 1),  // fallback
    ('c', 6),  // composition
];

/// A suite: its file below `tests`, without the ending, and its text.
type Suite = (String, String);

/// All suites there are.
fn suites() -> Vec<Suite> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let (mut folders, mut suites) = (vec![tests.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&tests).unwrap().with_extension("");
                let name = name.to_str().unwrap().replace('\\', "/");
                suites.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    suites
}

/// A row that no suite runs on both shells: why, and the tests that prove it.
struct Elsewhere {
    row: &'static str,
    why: &'static str,
    proof: &'static [(&'static str, &'static str)],
}

const ELSEWHERE: [Elsewhere; 7] = [
    Elsewhere {
        row: "b23",
        why: "speaks of `poll_ready` and of layers that are applied again: a plain call has neither",
        proof: &[
            (
                "tower",
                "b23_rejection_comes_from_call_and_inner_readiness_is_not_asked_while_open",
            ),
            (
                "tower",
                "b23_clones_and_layers_applied_again_share_one_state",
            ),
        ],
    },
    Elsewhere {
        row: "b25",
        why: "all interleavings of the state machine that is below both shells, by loom",
        proof: &[
            (
                "loom/of_breaker",
                "b25_the_last_permit_goes_to_one_of_two_threads",
            ),
            (
                "loom/of_breaker",
                "b25_a_trip_and_a_success_leave_one_legal_state",
            ),
            (
                "loom/of_breaker",
                "b25_the_end_of_a_lease_and_a_result_have_one_winner",
            ),
        ],
    },
    Elsewhere {
        row: "b26",
        why: "needs a binary whose allocator counts; that one calls through both shells",
        proof: &[
            ("allocations", "b26_admitted_calls_allocate_nothing"),
            ("allocations", "b26_rejected_calls_allocate_nothing"),
            ("allocations", "b26_a_breaker_layer_allocates_nothing"),
        ],
    },
    Elsewhere {
        row: "r14",
        why: "speaks of `poll_ready` before each attempt: a plain operation has none",
        proof: &[(
            "tower",
            "r14_readiness_is_asked_before_every_attempt_and_its_error_is_final",
        )],
    },
    Elsewhere {
        row: "c02",
        why: "a tower stack is put together by its types: no code sees two of its layers before \
              the first call, so there is nobody who could refuse; a pipeline has a builder",
        proof: &[
            (
                "pipeline/main",
                "c02_parts_that_do_not_fit_are_refused_with_both_values",
            ),
            (
                "pipeline/main",
                "c02_a_time_limit_outside_of_the_breaker_only_is_warned_about",
            ),
        ],
    },
    Elsewhere {
        row: "c04",
        why: "is this suite",
        proof: &[(
            "c04/complete",
            "c04_every_row_runs_on_both_shells_or_says_why_not",
        )],
    },
    Elsewhere {
        row: "c05",
        why: "needs a binary whose allocator counts; that one calls through both shells",
        proof: &[
            (
                "allocations",
                "c05_the_happy_path_through_all_layers_allocates_nothing",
            ),
            (
                "allocations",
                "c05_a_five_layer_tower_stack_allocates_nothing",
            ),
        ],
    },
];

/// The rows whose tests are in the lists that run on both shells, with those tests.
fn on_both_shells() -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for (file, text) in suites() {
        let lists = ["on_both_shells", "on_every_shell"].map(|name| format!("\n{name}! {{\n"));
        for list in lists.iter().flat_map(|start| text.split(start).skip(1)) {
            let names = list.lines().take_while(|line| *line != "}");
            // Lists of another kind have attributes.
            let names = names.filter(|line| !line.contains('#'));
            for name in names.map(|line| line.trim().trim_end_matches(',')) {
                assert!(text.contains(&format!("fn {name}<")), "{file}: {name}");
                if let Some(row) = row_of(name) {
                    found.entry(row).or_default().push(name.to_owned());
                }
            }
        }
    }
    found
}

/// `b07` of `b07_failed_probes_lengthen_the_wait_until_closed`.
fn row_of(test: &str) -> Option<String> {
    let (row, _) = test.split_once('_')?;
    let (group, number) = row.split_at_checked(1)?;
    let number: String = number.chars().take_while(char::is_ascii_digit).collect();
    (number.len() == 2).then(|| format!("{group}{number}"))
}

#[test]
fn c04_every_row_runs_on_both_shells_or_says_why_not() {
    let both = on_both_shells();
    let elsewhere: BTreeSet<_> = ELSEWHERE.iter().map(|other| other.row.to_owned()).collect();
    assert_eq!(elsewhere.len(), ELSEWHERE.len(), "a row stands there twice");
    let rows = TABLE
        .iter()
        .flat_map(|(group, count)| (1..=*count).map(move |number| format!("{group}{number:02}")));
    let rows: BTreeSet<String> = rows.collect();
    for row in &rows {
        match (both.get(row), elsewhere.contains(row)) {
            (Some(_), false) | (None, true) => {}
            (Some(tests), true) => panic!("{row} runs on both shells after all: {tests:?}"),
            (None, false) => panic!("{row} neither runs on both shells nor says why not"),
        }
    }
    let unknown: Vec<_> = both
        .keys()
        .chain(&elsewhere)
        .filter(|row| !rows.contains(*row))
        .collect();
    assert!(unknown.is_empty(), "not in the table: {unknown:?}");
}

#[test]
fn c04_what_is_proved_elsewhere_is_there() {
    let suites = suites();
    for other in ELSEWHERE {
        assert!(!other.why.is_empty() && !other.proof.is_empty());
        for (file, test) in other.proof {
            let text = &suites.iter().find(|(name, _)| name == file).expect(file).1;
            assert!(row_of(test).is_some_and(|row| row == other.row), "{test}");
            assert!(
                text.contains(&format!("fn {test}()")),
                "{file} has no {test}"
            );
        }
    }
}
