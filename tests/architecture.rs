//! Keeps the map in docs/ARCHITECTURE.md true: reads the imports of all files, and compares them
//! with the tables of the page.
//!
//! | file | what it does |
//! | --- | --- |
//! | `tokens.rs`, `source.rs` | a file as words; its imports and paths, without its tests |
//! | `graph.rs` | which file uses which, followed through `pub use` |
//! | `map.rs` | the tables of docs/ARCHITECTURE.md |
//! | `rules.rs` | what must hold |
#![allow(clippy::unwrap_used)]

#[path = "architecture/graph.rs"]
mod graph;
#[path = "architecture/map.rs"]
mod map;
#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/source.rs"]
mod source;
#[path = "architecture/tokens.rs"]
mod tokens;

use std::path::Path;

use graph::{Crate, Files, Graph};
use map::Map;

const CRATES: [Crate; 6] = [
    Crate { name: "firmcast", root: "src/lib.rs" },
    Crate { name: "firmcastd", root: "src/main.rs" },
    Crate { name: "firmcast_manager", root: "manager/src/lib.rs" },
    Crate { name: "firmcast_command", root: "manager/src/main.rs" },
    Crate { name: "firmcast_fleet", root: "fleet/src/lib.rs" },
    Crate { name: "firmcast_fleet_command", root: "fleet/src/main.rs" },
];

/// Uses that point upwards or close a circle, and are still to be turned round. What is mended has
/// to leave the list.
const KNOWN: &[(&str, &str)] = &[];

#[test]
fn every_file_is_in_a_room_of_the_map() {
    let (files, map) = read();
    assert_holds(&rules::rooms_exist(&Graph::new(&CRATES, &files), &map));
}

#[test]
fn nothing_points_upwards() {
    let (files, map) = read();
    let graph = Graph::new(&CRATES, &files).without(KNOWN);
    assert_holds(&rules::nothing_points_upwards(&graph, &map));
}

#[test]
fn every_known_exception_is_still_needed() {
    let (files, map) = read();
    assert_holds(&rules::exceptions_are_needed(&Graph::new(&CRATES, &files), &map, KNOWN));
}

#[test]
fn no_two_files_and_no_two_folders_use_each_other() {
    let (files, _) = read();
    assert_holds(&rules::no_circles(&Graph::new(&CRATES, &files).without(KNOWN)));
}

#[test]
fn sans_io_rooms_name_nothing_of_the_outside_world() {
    let (files, map) = read();
    assert_holds(&rules::sans_io_stays_pure(&Graph::new(&CRATES, &files), &map));
}

#[test]
fn unsafe_code_stands_in_the_syscall_files() {
    let (files, map) = read();
    assert_holds(&rules::unsafe_stands_where_the_map_says(&files, &map));
}

#[track_caller]
fn assert_holds(broken: &[String]) {
    let lines = broken.join("\n");
    assert!(broken.is_empty(), "change the code, or the map in docs/ARCHITECTURE.md:\n{lines}");
}

/// All files of the crates, and the map.
fn read() -> (Files, Map) {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Files::new();
    for folder in ["src", "manager/src", "fleet/src"] {
        read_folder(top, folder, &mut files);
    }
    let page =
        std::fs::read_to_string(top.join("docs/ARCHITECTURE.md")).expect("the page is there");
    (files, Map::read(&page).unwrap())
}

fn read_folder(top: &Path, folder: &str, files: &mut Files) {
    for entry in std::fs::read_dir(top.join(folder)).expect("a folder of the crate") {
        let entry = entry.expect("an entry of the folder");
        let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            read_folder(top, &name, files);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(entry.path()).expect("a source file");
            files.insert(name, text);
        }
    }
}
