//! Readers of what an update tells that stop reading.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::host::Script;
use crate::lab::{Manager, Server, quick, wait_for_record};
use crate::stuck_pipe;

#[test]
fn a_reader_that_stops_holds_up_no_update_and_gets_its_results_later() {
    let manager = Manager::new();
    let host = Server::start(0, quick(), &manager);
    manager.enrol(&[&host]);
    let start = |pipe, how: &[&str]| manager.update_command(how).stdout(pipe).spawn().unwrap();
    let (reader, pipe) = stuck_pipe::stuck_pipe();
    let mut update = start(pipe, &["--all", "--json"]);
    wait_for_record(&manager, "\"finished\"");
    assert_eq!(update.try_wait().unwrap(), None, "results are still to be read");
    let told = reader.read();
    assert!(told.contains("\"confirmed\"") && told.contains("\"finished\""), "{told}");
    assert_eq!(stuck_pipe::wait(&mut update).code(), Some(0));

    // An operator who waits for no reader.
    std::fs::remove_dir_all(manager.path("state/campaigns")).unwrap();
    let (_reader, pipe) = stuck_pipe::stuck_pipe();
    let mut update = start(pipe, &["--all", "--dry-run"]);
    wait_for_record(&manager, "\"finished\"");
    assert_eq!(stuck_pipe::end(&mut update, Signal::SIGTERM).code(), Some(0));

    // In the midst of it.
    drop(host);
    std::fs::remove_dir_all(manager.path("state/campaigns")).unwrap();
    let slow = Script { recovery_boot: Duration::from_secs(60), ..quick() };
    let host = Server::start(0, slow, &manager);
    manager.enrol(&[&host]);
    let (_reader, pipe) = stuck_pipe::stuck_pipe();
    let mut update = start(pipe, &["--all"]);
    wait_for_record(&manager, "entering-recovery");
    kill(Pid::from_raw(update.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    wait_for_record(&manager, "\"finished\"");
    assert_eq!(stuck_pipe::end(&mut update, Signal::SIGINT).code(), Some(1));
}

/// As `firmcast update 2>&1 | less`, with a warning before the campaign and one behind it.
#[test]
fn a_reader_of_errors_that_stops_holds_up_no_update() {
    let manager = Manager::new();
    let host = Server::start(0, quick(), &manager);
    manager.enrol(&[&host]);
    let start = |pipe, errors| {
        let mut command = manager.update_command(&["--all", "--dry-run"]);
        command.stdout(pipe).stderr(errors).spawn().unwrap()
    };
    let mut update = start(Stdio::null(), Stdio::null());
    assert_eq!(stuck_pipe::wait(&mut update).code(), Some(0));
    let stamps = manager.path("state/stamps.json");
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&stamps).unwrap()).unwrap();
    let week_us = 7 * 24 * 3600 * 1_000_000;
    for last in kept["last"].as_object_mut().unwrap().values_mut() {
        *last = (last.as_u64().unwrap() + week_us).into();
    }
    std::fs::write(&stamps, kept.to_string()).unwrap();

    std::fs::remove_dir_all(manager.path("state/campaigns")).unwrap();
    let ((_reader, pipe), (errors, error_pipe)) =
        (stuck_pipe::stuck_pipe(), stuck_pipe::stuck_pipe());
    let mut update = start(pipe, error_pipe);
    wait_for_record(&manager, "\"finished\"");
    assert_eq!(stuck_pipe::end(&mut update, Signal::SIGTERM).code(), Some(0));
    drop(errors);

    // Who reads again gets the warning.
    let (errors, error_pipe) = stuck_pipe::stuck_pipe();
    let mut update = start(Stdio::null(), error_pipe);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(errors.read().contains("WARNING: the clock is"));
    assert_eq!(stuck_pipe::wait(&mut update).code(), Some(0));

    // What is wrong before anything starts holds up no signal either.
    std::fs::remove_file(manager.path("b.fcb")).unwrap();
    let (_reader, pipe) = stuck_pipe::stuck_pipe();
    let mut update = start(Stdio::null(), pipe);
    std::thread::sleep(Duration::from_millis(100));
    let status = stuck_pipe::end(&mut update, Signal::SIGTERM);
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
}
