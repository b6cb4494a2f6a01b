//! Each program runs to its end and shows what it says.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

fn output_of(program: &str) -> String {
    let output = Command::new(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}{errors}", output.status);
    text
}

#[test]
fn axum_answers_refusals_with_their_status_and_a_time() {
    let text = output_of(env!("CARGO_BIN_EXE_axum-service"));
    assert!(text.contains("quote 6: 429"), "{text}");
    assert!(text.contains("slow report: 504"), "{text}");
    assert!(text.contains("[503, 504, 504]"), "{text}");
}

#[test]
fn reqwest_waits_as_asked_and_sends_no_order_twice() {
    let text = output_of(env!("CARGO_BIN_EXE_reqwest-retry-after"));
    assert!(text.contains("after 3 tries"), "{text}");
    assert!(text.contains("order sent 1 time"), "{text}");
}

#[test]
fn tonic_repeats_breaks_and_recovers() {
    let text = output_of(env!("CARGO_BIN_EXE_tonic-client"));
    assert!(text.contains("price 101.5 after 3 calls"), "{text}");
    assert!(text.contains("5 of 20 calls"), "{text}");
    assert!(text.contains("the breaker is closed"), "{text}");
}
