use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::desk::{Desk, Key, Picture, Place, Wish};
use super::paint::Paint;
use super::view::draw;
use crate::model::{Event, EventKind, RolloutState};
use crate::picture::host::HostPicture;
use crate::picture::overview::{Headline, progress};
use crate::picture::samples::{NOON, Sample, attempt, seen};
use crate::rollout::samples::host;

/// What stands on a screen of a size, a line each.
fn screen(desk: &Desk, paint: Paint, (columns, height): (u16, u16)) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, height)).expect("a screen");
    terminal.draw(|frame| draw(frame, desk, NOON, paint)).expect("drawn");
    let buffer = terminal.backend().buffer();
    let cells: Vec<&str> = buffer.content().iter().map(|cell| cell.symbol()).collect();
    cells.chunks(usize::from(columns).max(1)).map(<[&str]>::concat).collect()
}

fn on(place: Place, picture: Picture) -> Desk {
    let mut desk = Desk::new(place.clone());
    desk.take(&place, picture, NOON);
    desk
}

fn rollout(sample: &Sample) -> Desk {
    on(Place::Rollout("winter".into()), Picture::Rollout(Box::new(seen(sample))))
}

fn rollouts() -> Desk {
    let found = seen(&Sample { reason: "a \u{1b}[2J reason", ..Sample::default() }).found;
    let line = |name: &str| {
        let line = Headline::new(&found.rollout, "2.1.0", progress(&[]));
        Headline { name: name.to_owned(), ..line }
    };
    let lines = ["winter", "世界世界世界世界世界世界世界", "a\u{1b}[2J\u{202e}b", ""].map(line);
    on(Place::Rollouts, Picture::Rollouts(lines.to_vec(), 2))
}

fn one_host() -> Desk {
    let mut known = host("h\u{9b}5\u{7}", "berlin", "r1\n\n", "世");
    known.labels.insert("\u{1b}]0;x\u{7}".into(), "v".repeat(300));
    let failed = crate::model::Attempt { detail: "block 7\r".into(), ..attempt(5, 0, 5) };
    let picture = HostPicture::new(known, vec![("winter".into(), failed)], NOON);
    let event = Event {
        id: 1,
        at: NOON,
        rollout: Some(1),
        host: Some("h5".into()),
        by: "w1".into(),
        kind: EventKind::Ended,
        detail: "failed: write-failed".into(),
    };
    on(Place::Host("h5".into()), Picture::Host(Box::new(picture), vec![event]))
}

#[track_caller]
fn assert_shows(screen: &[String], words: &[&str]) {
    for word in words {
        let is_there = screen.iter().any(|line| line.contains(word));
        assert!(is_there, "{word:?} is not on the screen:\n{}", screen.join("\n"));
    }
}

#[test]
fn a_paused_rollout_says_why_and_what_to_type() {
    let reason = "2 of 3 hosts failed in rack \"berlin/r1\"; the limit is 2";
    let places = vec![(0, 1, 5), (0, 1, 6), (0, 2, 4), (1, 1, 3), (1, 0, 0)];
    let paused = Sample { state: RolloutState::Paused, reason, places, ..Sample::default() };
    let mut desk = rollout(&paused);
    let shown = screen(&desk, Paint::Full, (80, 24));
    assert_shows(
        &shown,
        &[
            "PAUSED  version 2.1.0, by ann 1 h ago",
            "$ firmcast-fleet rollout resume winter",
            "1 confirmed, 2 failed, 1 in flight, 1 planned",
            "wave canary         running",
            "  ! 1 unsafe  X 1 failed  F 1 flashing  . 1 waiting  C 1 confirmed",
            "berlin r1 !X",
            "h0 failed, and not known to be safe to reset: the flash could not be written",
            "p pause  r resume",
        ],
    );
    // Nothing happens with one key.
    assert_eq!(desk.press(Key::Letter('p'), 80, 24), None);
    assert_shows(&screen(&desk, Paint::Plain, (80, 24)), &["there is nothing to pause now"]);
    assert_eq!(desk.press(Key::Letter('r'), 80, 24), None);
    assert_shows(&screen(&desk, Paint::Plain, (80, 24)), &["resume rollout winter? y or n"]);
    assert_eq!(desk.press(Key::Letter('n'), 80, 24), None);
    desk.press(Key::Letter('r'), 80, 24);
    let Some(Wish::Do(deed)) = desk.press(Key::Letter('y'), 80, 24) else { panic!("no deed") };
    assert_eq!((deed.revision, deed.to), (3, RolloutState::Running));

    desk.lose_store("no route to host".into(), NOON - 60_000_000);
    desk.lose_store("no route to host".into(), NOON);
    let shown = screen(&desk, Paint::Plain, (80, 24));
    assert_shows(
        &shown,
        &["the store is away, since Fri 2026-01-02 11:59 UTC, 1 min ago", "PAUSED"],
    );
}

#[test]
fn ten_thousand_hosts_are_on_one_screen_and_each_can_be_reached() {
    // One of a hundred has failed, in 200 racks of 50.
    let state = |index: usize| if index % 100 == 99 { 6 } else { 4 };
    let places = (0..10_000).map(|index| (index % 5, index % 200, state(index)));
    let mut desk = rollout(&Sample { places: places.collect(), ..Sample::default() });
    let shown = screen(&desk, Paint::Palette, (80, 24));
    assert_shows(&shown, &["9900 confirmed, 100 failed", "X 100 failed  C 9900 confirmed"]);
    desk.press(Key::Letter('n'), 80, 24);
    assert_shows(&screen(&desk, Paint::Plain, (80, 24)), &["failed: the bundle is for another"]);
    desk.press(Key::Down, 80, 24);
    assert_shows(&screen(&desk, Paint::Plain, (80, 24)), &[" confirmed: the host booted and"]);
    desk.press(Key::End, 80, 24);
    let Some(Wish::Read(Place::Host(last))) = desk.press(Key::Enter, 80, 24) else {
        panic!("no host")
    };
    assert_eq!(last.len(), 5, "{last}");
    assert_eq!(desk.press(Key::Escape, 80, 24), Some(Wish::Read(Place::Rollout("winter".into()))));
    assert_eq!(desk.cursor(), 9_999);
}

#[test]
fn a_host_with_a_failure_says_what_its_flash_holds_and_what_to_do() {
    let shown = screen(&one_host(), Paint::Full, (80, 24));
    assert_shows(
        &shown,
        &[
            "h\\u{9b}5\\u{7}: failed, and not known to be safe to reset",
            "flash   neither all of the old nor all of the new",
            "reset   not safe: leave the host on",
            "to do   see the detail for the failing block",
            "$ firmcast-fleet rollout retry winter",
            "began   Fri 2026-01-02 11:40 UTC, took 10 min, by w1",
        ],
    );
}

fn keys() -> impl Strategy<Value = Vec<Key>> {
    use Key::{Down, End, Enter, Escape, Home, Left, Letter, PageDown, PageUp, Right, Up};
    let keys = [Down, End, Enter, Escape, Home, Left, PageDown, PageUp, Right, Up];
    let letters = "?prnyghjklG x".chars().map(Letter);
    let all: Vec<Key> = keys.into_iter().chain(letters).collect();
    prop::collection::vec(prop::sample::select(all), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_size_is_drawn_on_after_any_keys(
        which in 0..4_usize,
        keys in keys(),
        places in prop::collection::vec((0..5_usize, 0..9_usize, 0..8_usize), 0..90),
        columns in 0..120_u16,
        height in 0..50_u16,
    ) {
        let mut desk = match which {
            0 => rollouts(),
            1 => one_host(),
            2 => Desk::new(Place::Rollout("none".into())),
            _ => rollout(&Sample { places, ..Sample::default() }),
        };
        for key in keys {
            if let Some(Wish::Read(place)) = desk.press(key, columns, height) {
                desk.take(&place, Picture::Missing, NOON);
            }
            for line in screen(&desk, Paint::Full, (columns, height)) {
                prop_assert!(!line.chars().any(char::is_control), "{:?}", line);
            }
        }
    }
}
