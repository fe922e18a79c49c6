//! Any lists of locks, any files of logind's, any names of control groups, any answer of a helper:
//! understood or not, and never more than one line of each.

#![no_main]

use firmcast::host::work::{
    Work, inhibitor, is_machine, scheduled, session, workload, write_locks,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (locks, _) = write_locks(&text);
    assert!(locks.len() <= text.lines().count());
    for said in [inhibitor(&text), session(&text)].into_iter().flatten().flatten() {
        assert!(!said.contains('\n'));
    }
    let _ = scheduled(&text);
    let (parent, name) = text.split_once('/').unwrap_or(("", &text));
    let _ = (workload(parent, name), is_machine(name));
    if let Some(work) = Work::from_text(&text) {
        assert_eq!(Work::from_text(&work.to_text()), Some(work));
    }
});
