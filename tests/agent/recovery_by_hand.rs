//! Recovery begun by hand, on a machine that runs.

use std::process::{Command, Output};

use crate::process::{can_make_namespaces, text};

/// As root of a user namespace of its own, from which nothing resets the machine.
fn harmless(more: &[&str], arguments: &[&str]) -> Output {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--map-root-user"])
        .args(more)
        .arg("timeout")
        .args(["--foreground", "9"]);
    command.arg(env!("CARGO_BIN_EXE_firmcastd")).args(arguments).output().unwrap()
}

#[test]
fn the_recovery_environment_does_not_begin_on_a_machine_that_runs() {
    if !can_make_namespaces() {
        return;
    }
    let output = harmless(&[], &["recover"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("that needs --resets-this-machine"), "{output:?}");
    let output = harmless(&[], &["rescue", "--hook"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("this is no initramfs"), "{output:?}");
    // PID 1, as in a container.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "--pid", "--fork", "--kill-child"]);
    let output = command.arg(env!("CARGO_BIN_EXE_firmcastd")).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("this is no initramfs"), "{output:?}");
}

#[test]
fn whoever_asked_for_recovery_by_hand_is_told_the_error_and_nothing_is_reset() {
    if !can_make_namespaces() {
        return;
    }
    // Here nothing was handed over. With an error PID 1 would reboot after 60 s.
    let output = harmless(&[], &["recover", "--resets-this-machine"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
