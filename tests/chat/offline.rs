//! The window over the real engine without a network: no connection is attempted.
#![cfg(target_os = "linux")]

use super::*;
use crate::namespace::{self, Counters};

#[test]
fn without_a_network_the_window_answers() {
    namespace::run("offline::inside");
}

#[test]
#[ignore = "runs in a namespace, by the test above"]
fn inside() {
    let begun = namespace::begin();
    let folder = tempfile::tempdir().expect("a folder");
    let mut harness = real(folder.path(), Place::BuiltIn, true);
    draw_until(&mut harness, "loading", |s| s.engine.loaded().is_some());
    ask(&mut harness, "What can you do?");
    // The picker lists only models on this machine.
    harness.get_by_label_contains("Model: ").click();
    harness.run_steps(2);
    draw_until(&mut harness, "the list of models", |s| s.models.iter().all(|m| m.facts.is_some()));
    assert_eq!(harness.state().state.dialog, Some(Dialog::Models));
    drop(harness);
    assert_eq!(Counters::read(), begun, "the window opened a connection");
}
