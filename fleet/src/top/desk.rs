//! What a person looks at, and what each key does.

use super::host::sheet;
use super::lines::lines;
use crate::model::{Event, RolloutState, Stamp};
use crate::picture::grid::Grid;
use crate::picture::host::HostPicture;
use crate::picture::mark::Mark;
use crate::picture::overview::Headline;
use crate::picture::seen::Seen;

/// Maximum number of places on the way back.
const VISITS_MAX: usize = 32;

/// What a person can look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// All rollouts.
    Rollouts,
    /// The rollout of a name.
    Rollout(String),
    /// The host of a name.
    Host(String),
}

/// What was read for a place.
#[derive(Clone, Debug)]
pub enum Picture {
    /// All rollouts, and how many dead hosts call for help.
    Rollouts(Vec<Headline>, usize),
    /// A rollout.
    Rollout(Box<Seen>),
    /// A host, and what happened to it, the last first.
    Host(Box<HostPicture>, Vec<Event>),
    /// There is nothing of that name.
    Missing,
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // They are what they are called.
pub enum Key {
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Letter(char),
}

/// What a person wants done with a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// The rollout's name.
    pub name: String,
    /// The revision that the person saw: if it has changed since, nothing is done.
    pub revision: i64,
    /// The state that it gets: paused or running.
    pub to: RolloutState,
}

impl Deed {
    /// What it is called.
    pub fn word(&self) -> &'static str {
        match self.to {
            RolloutState::Paused => "pause",
            _ => "resume",
        }
    }
}

/// What is to be done after a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Read what belongs to the place that is shown now.
    Read(Place),
    /// Do this, then read again.
    Do(Deed),
    /// End the program.
    Quit,
}

/// A place, and what is chosen there.
#[derive(Clone, Debug)]
struct Visit {
    place: Place,
    /// The row of a rollout, the cell of a host, or the first line that is shown.
    cursor: usize,
}

/// What a person looks at.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The way here; the last one is shown.
    visits: Vec<Visit>,
    picture: Option<Picture>,
    /// When the picture was read.
    read_at: Option<Stamp>,
    /// Why the store is away, and since when.
    trouble: Option<(String, Stamp)>,
    /// What is done if the next key says so.
    asked: Option<Deed>,
    told: String,
    is_help: bool,
}

impl Desk {
    /// Returns the desk of a person who wants to look at a place first.
    pub fn new(place: Place) -> Self {
        let mut visits = vec![Visit { place: Place::Rollouts, cursor: 0 }];
        if place != Place::Rollouts {
            visits.push(Visit { place, cursor: 0 });
        }
        Self {
            visits,
            picture: None,
            read_at: None,
            trouble: None,
            asked: None,
            told: String::new(),
            is_help: false,
        }
    }

    /// What is shown.
    pub fn place(&self) -> &Place {
        self.visits.last().map_or(&Place::Rollouts, |visit| &visit.place)
    }

    /// What was read of it; nothing before the first time.
    pub fn picture(&self) -> Option<&Picture> {
        self.picture.as_ref()
    }

    /// When that was read.
    pub fn read_at(&self) -> Option<Stamp> {
        self.read_at
    }

    /// The row, cell or line that is chosen.
    pub fn cursor(&self) -> usize {
        self.visits.last().map_or(0, |visit| visit.cursor)
    }

    /// Why the store is away, and since when.
    pub fn trouble(&self) -> Option<&(String, Stamp)> {
        self.trouble.as_ref()
    }

    /// What the person is asked about.
    pub fn asked(&self) -> Option<&Deed> {
        self.asked.as_ref()
    }

    /// What became of the last deed; empty when that is past.
    pub fn told(&self) -> &str {
        &self.told
    }

    /// Whether the keys are explained.
    pub fn is_help(&self) -> bool {
        self.is_help
    }

    /// Takes what was read for a place.
    pub fn take(&mut self, place: &Place, picture: Picture, at: Stamp) {
        self.trouble = None;
        if place == self.place() {
            (self.picture, self.read_at) = (Some(picture), Some(at));
            let last = self.rows(80).saturating_sub(1);
            if let Some(visit) = self.visits.last_mut() {
                visit.cursor = visit.cursor.min(last);
            }
        }
    }

    /// The store does not answer. What was read last stays.
    pub fn lose_store(&mut self, why: String, at: Stamp) {
        let since = self.trouble.take().map_or(at, |(_, since)| since);
        self.trouble = Some((why, since));
    }

    /// Takes what became of a deed.
    pub fn tell(&mut self, words: String) {
        self.told = words;
    }

    /// Does what a key says, on a screen of so many columns and lines.
    pub fn press(&mut self, key: Key, columns: u16, height: u16) -> Option<Wish> {
        self.told.clear();
        if let Some(deed) = self.asked.take() {
            return matches!(key, Key::Letter('y' | 'Y')).then_some(Wish::Do(deed));
        }
        if std::mem::take(&mut self.is_help) && key != Key::Letter('q') {
            return None;
        }
        match key {
            Key::Letter('q') => return Some(Wish::Quit),
            Key::Letter('?') => self.is_help = true,
            Key::Letter('p') => self.ask(RolloutState::Paused),
            Key::Letter('r') => self.ask(RolloutState::Running),
            Key::Letter('n') => self.find_trouble(),
            Key::Enter => return self.open(),
            Key::Escape => return self.back(),
            _ => self.step(key, columns, height),
        }
        None
    }

    fn ask(&mut self, to: RolloutState) {
        let Some(Picture::Rollout(seen)) = &self.picture else {
            "open a rollout first: Enter".clone_into(&mut self.told);
            return;
        };
        let rollout = &seen.found.rollout;
        let may = match to {
            RolloutState::Paused => {
                matches!(rollout.state, RolloutState::Scheduled | RolloutState::Running)
            }
            _ => rollout.state == RolloutState::Paused,
        };
        let name = rollout.name.clone();
        let deed = Deed { name, revision: rollout.revision, to };
        match may {
            true => self.asked = Some(deed),
            false => self.told = format!("there is nothing to {} now", deed.word()),
        }
    }

    fn go(&mut self) -> Option<Wish> {
        (self.picture, self.read_at) = (None, None);
        Some(Wish::Read(self.place().clone()))
    }

    fn open(&mut self) -> Option<Wish> {
        let cursor = self.cursor();
        let place = match self.picture.as_ref()? {
            Picture::Rollouts(lines, _) => Place::Rollout(lines.get(cursor)?.name.clone()),
            Picture::Rollout(seen) => {
                let grid = Grid::new(seen, seen.at);
                let place = grid.cells().nth(cursor)?.host;
                Place::Host(place.to_owned())
            }
            Picture::Host(host, _) => Place::Rollout(host.attempts.first()?.rollout.clone()),
            Picture::Missing => return None,
        };
        if self.visits.len() < VISITS_MAX {
            self.visits.push(Visit { place, cursor: 0 });
        }
        self.go()
    }

    fn back(&mut self) -> Option<Wish> {
        if self.visits.len() == 1 {
            return None;
        }
        self.visits.pop();
        self.go()
    }

    /// How many rows, cells or lines can be chosen.
    fn rows(&self, columns: u16) -> usize {
        match &self.picture {
            Some(Picture::Rollouts(lines, _)) => lines.len(),
            Some(Picture::Rollout(seen)) => seen.attempts.len(),
            Some(Picture::Host(host, events)) => sheet(host, events, columns.into()).len(),
            Some(Picture::Missing) | None => 0,
        }
    }

    fn step(&mut self, key: Key, columns: u16, height: u16) {
        let (rows, page) = (self.rows(columns), usize::from(height / 2).max(1));
        let cursor = self.cursor();
        let by_line = |lines: isize| match &self.picture {
            Some(Picture::Rollout(seen)) => {
                let grid = Grid::new(seen, seen.at);
                let starts = lines_of(&grid, columns);
                let line = starts.partition_point(|start| *start <= cursor).saturating_sub(1);
                let column = cursor - starts.get(line).copied().unwrap_or(0);
                let last = starts.len().saturating_sub(1);
                let line = line.saturating_add_signed(lines).min(last);
                let end = starts.get(line + 1).copied().unwrap_or(rows);
                let start = starts.get(line).copied().unwrap_or(0);
                (start + column).min(end.saturating_sub(1))
            }
            _ => cursor.saturating_add_signed(lines),
        };
        let page = isize::try_from(page).unwrap_or(1);
        let cursor = match key {
            Key::Up | Key::Letter('k') => by_line(-1),
            Key::Down | Key::Letter('j') => by_line(1),
            Key::PageUp => by_line(-page),
            Key::PageDown | Key::Letter(' ') => by_line(page),
            Key::Left | Key::Letter('h') => cursor.saturating_sub(1),
            Key::Right | Key::Letter('l') => cursor + 1,
            Key::Home | Key::Letter('g') => 0,
            Key::End | Key::Letter('G') => rows,
            _ => cursor,
        };
        if let Some(visit) = self.visits.last_mut() {
            visit.cursor = cursor.min(rows.saturating_sub(1));
        }
    }

    /// Goes to the next host that needs a person.
    fn find_trouble(&mut self) {
        let Some(Picture::Rollout(seen)) = &self.picture else { return };
        let grid = Grid::new(seen, seen.at);
        let marks: Vec<Mark> = grid.cells().map(|cell| cell.mark).collect();
        let later = self.cursor() + 1..marks.len();
        let before = 0..(self.cursor() + 1).min(marks.len());
        let found = later.chain(before).find(|index| marks[*index] <= Mark::Silent);
        match (found, self.visits.last_mut()) {
            (Some(index), Some(visit)) => visit.cursor = index,
            _ => "no host needs you".clone_into(&mut self.told),
        }
    }
}

/// The first cell of each line of a grid.
fn lines_of(grid: &Grid<'_>, columns: u16) -> Vec<usize> {
    lines(grid, columns.into()).iter().map(|line| line.first).collect()
}
