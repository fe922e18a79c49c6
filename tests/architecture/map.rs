//! The map in docs/ARCHITECTURE.md: which rooms there are, on which floor, and which are sans-IO.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::folder_of;

const ROOMS: &str = "### Who may use whom";
const UNSAFE_FILES: &str = "### Where unsafe code stands";

/// Which files of a room are sans-IO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SansIo {
    All,
    AllBut(Vec<String>),
    Only(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) floor: u32,
    pub(crate) sans_io: SansIo,
    pub(crate) apart_from: BTreeSet<String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Map {
    pub(crate) rooms: BTreeMap<String, Room>,
    pub(crate) unsafe_files: BTreeSet<String>,
}

impl Map {
    /// Reads the two tables out of the page.
    pub(crate) fn read(page: &str) -> Result<Self, String> {
        let mut map = Self::default();
        for row in table(page, ROOMS)? {
            let [room, floor, sans_io, apart_from] = row.as_slice() else {
                return Err(format!("{ROOMS}: four columns are expected, got {row:?}"));
            };
            let [room] = names(room).try_into().map_err(|_| format!("{room}: not one room"))?;
            let floor = floor.parse().map_err(|_| format!("{room}: floor {floor:?}"))?;
            let sans_io = match (sans_io.as_str(), names(sans_io)) {
                ("yes", _) => SansIo::All,
                ("no", _) => SansIo::Only(Vec::new()),
                (text, names) if text.starts_with("all but ") => SansIo::AllBut(names),
                (_, names) if !names.is_empty() => SansIo::Only(names),
                (text, _) => return Err(format!("{room}: sans-IO is {text:?}")),
            };
            let apart_from = names(apart_from).into_iter().collect();
            map.rooms.insert(room, Room { floor, sans_io, apart_from });
        }
        for row in table(page, UNSAFE_FILES)? {
            map.unsafe_files.extend(row.first().into_iter().flat_map(|cell| names(cell)));
        }
        Ok(map)
    }

    /// Returns the innermost room in which a file stands.
    pub(crate) fn room_of(&self, file: &str) -> Option<&str> {
        let around = self.rooms.keys().filter(|room| stands_in(file, room));
        around.max_by_key(|room| room.len()).map(String::as_str)
    }

    pub(crate) fn is_sans_io(&self, file: &str) -> bool {
        let Some(name) = self.room_of(file) else { return false };
        let is_listed =
            |files: &[String]| files.iter().any(|each| stands_in(file, &format!("{name}/{each}")));
        match &self.rooms[name].sans_io {
            SansIo::All => true,
            SansIo::AllBut(files) => !is_listed(files),
            SansIo::Only(files) => is_listed(files),
        }
    }
}

/// Returns whether a file is, or stands below, the room or file `place`.
fn stands_in(file: &str, place: &str) -> bool {
    let folder = if place.ends_with(".rs") { folder_of(place) } else { place.to_owned() };
    // The file beside a folder is part of its room: `flash.rs` of `flash/`.
    let beside = format!("{place}.rs");
    file == place || file == beside || file.starts_with(&format!("{folder}/")) && !is_root(place)
}

/// Returns whether this is a crate's first file: its folder is that of all its rooms.
fn is_root(place: &str) -> bool {
    place.ends_with("/main.rs") || place.ends_with("/lib.rs")
}

/// Returns the cells of the table below a heading, without its head.
fn table(page: &str, heading: &str) -> Result<Vec<Vec<String>>, String> {
    let missing = || format!("docs/ARCHITECTURE.md has no table below {heading:?}");
    let (_, below) = page.split_once(&format!("{heading}\n")).ok_or_else(missing)?;
    let lines = below.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    let cells = |row: &str| {
        let row = row.trim().trim_matches('|');
        row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    if rows.is_empty() { Err(missing()) } else { Ok(rows) }
}

/// Returns what stands between backquotes.
fn names(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(|name| name.trim_end_matches('/').to_owned()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const PAGE: &str = "\
# Page
### Who may use whom

Text.

| room | floor | sans-IO | keeps apart from |
| --- | --- | --- | --- |
| `src/main.rs` | 3 | no | `src/time.rs` |
| `src/high` | 2 | `machine.rs` | |
| `src/low` | 1 | all but `socket.rs` | |
| `src/time.rs` | 1 | yes | |

### Where unsafe code stands

| file | why |
| --- | --- |
| `src/low/socket.rs` | ioctl |
";

    #[test]
    fn the_tables_are_read() {
        let map = Map::read(PAGE).unwrap();
        assert_eq!(map.rooms["src/high"].floor, 2);
        assert!(map.rooms["src/main.rs"].apart_from.contains("src/time.rs"));
        assert!(map.rooms["src/low"].apart_from.is_empty());
        assert!(map.unsafe_files.contains("src/low/socket.rs"));
    }

    #[test]
    fn files_stand_in_the_innermost_room() {
        let map = Map::read(PAGE).unwrap();
        assert_eq!(map.room_of("src/low/mod.rs"), Some("src/low"));
        assert_eq!(map.room_of("src/low.rs"), Some("src/low"));
        assert_eq!(map.room_of("src/lower.rs"), None);
        assert_eq!(map.room_of("src/main.rs"), Some("src/main.rs"));
        assert_eq!(map.room_of("src/new.rs"), None);
    }

    #[test]
    fn sans_io_is_told_by_file() {
        let map = Map::read(PAGE).unwrap();
        assert!(map.is_sans_io("src/high/machine.rs") && map.is_sans_io("src/high/machine/a.rs"));
        assert!(!map.is_sans_io("src/high/mod.rs"));
        assert!(map.is_sans_io("src/low/mod.rs") && !map.is_sans_io("src/low/socket.rs"));
    }

    #[test]
    fn a_page_without_the_tables_is_an_error() {
        assert!(Map::read("# Page").is_err());
        assert!(Map::read(&PAGE.replace("| 2 |", "| two |")).is_err());
    }
}
