//! What must hold. Each rule returns what breaks it, as lines for whoever changed the code or the
//! map.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Graph, Use, circles, folder_of};
use super::map::Map;
use super::tokens::tokens;

/// What a sans-IO file never names, and what it would be. Any segment of a path counts.
const OUTSIDE_WORLD: [(&str, &[&str]); 6] = [
    (
        "a socket",
        &[
            "UdpSocket",
            "TcpStream",
            "TcpListener",
            "UnixStream",
            "UnixListener",
            "UnixDatagram",
            "ToSocketAddrs",
            "socket2",
            "mio",
            "netlink_sys",
        ],
    ),
    ("a file", &["fs", "File", "OpenOptions", "OwnedFd", "BorrowedFd", "RawFd", "AsFd", "AsRawFd"]),
    ("a clock", &["Instant", "SystemTime", "clock_gettime"]),
    ("a thread", &["thread"]),
    (
        "an unseeded random source",
        &["OsRng", "ThreadRng", "thread_rng", "getrandom", "from_entropy", "RandomState"],
    ),
    ("the system", &["nix", "libc", "process", "env", "stdin", "stdout", "stderr", "syslog"]),
];

/// Every file belongs to a room of the map, and every room of the map has a file.
pub(crate) fn rooms_exist(graph: &Graph, map: &Map) -> Vec<String> {
    let mut found = graph.problems.clone();
    // The first file of a library says what there is, and is no room.
    let homeless = (graph.files.keys())
        .filter(|file| !file.ends_with("/lib.rs") && map.room_of(file).is_none());
    found.extend(homeless.map(|file| format!("{file}: no room of the map")));
    let inhabited: BTreeSet<&str> =
        graph.files.keys().filter_map(|file| map.room_of(file)).collect();
    let empty = map.rooms.keys().filter(|room| !inhabited.contains(room.as_str()));
    found.extend(empty.map(|room| format!("{room}: a room of the map without any file")));
    found
}

/// A room uses rooms of lower floors only, and none of those that it keeps apart from.
pub(crate) fn nothing_points_upwards(graph: &Graph, map: &Map) -> Vec<String> {
    let mut found = Vec::new();
    for Use { from: file, to: other, line } in graph.uses.values() {
        let (Some(from), Some(to)) = (map.room_of(file), map.room_of(other)) else { continue };
        let (room, used) = (&map.rooms[from], &map.rooms[to]);
        if from != to && room.floor <= used.floor {
            let (floor, above) = (room.floor, used.floor);
            found.push(format!(
                "{file}:{line}: {from} on floor {floor} uses {to} on floor {above} ({other})"
            ));
        } else if room.apart_from.contains(to) {
            found.push(format!("{file}:{line}: {from} keeps apart from {to} ({other})"));
        }
    }
    let apart =
        map.rooms.iter().flat_map(|(from, room)| room.apart_from.iter().map(move |to| (from, to)));
    let unknown = apart.filter(|(_, to)| !map.rooms.contains_key(*to));
    found.extend(
        unknown.map(|(from, to)| format!("{from} keeps apart from {to}, which is no room")),
    );
    found
}

/// No two files use each other, at once or through others; neither do two folders.
///
/// A file and the modules below it are one module in several files: these may name what it defines,
/// as it may name them.
pub(crate) fn no_circles(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    let edges: Vec<(&str, &str)> = (graph.uses.keys())
        .map(|(from, to)| (from.as_str(), to.as_str()))
        .filter(|(from, to)| !from.starts_with(&format!("{}/", folder_of(to))))
        .collect();
    for circle in circles(edges.iter().copied()) {
        let inside = |file: &str| circle.contains(&file);
        let lines =
            edges.iter().filter(|(from, to)| inside(from) && inside(to)).map(|(from, to)| {
                let line = graph.uses[&((*from).to_owned(), (*to).to_owned())].line;
                format!("  {from}:{line} uses {to}")
            });
        found.push(format!("a circle of files:\n{}", lines.collect::<Vec<_>>().join("\n")));
    }
    for ((folder, circle), uses) in circles_of_folders(edges.iter().copied()) {
        found.push(format!("a circle in {folder}: {circle}\n{}", uses.join("\n")));
    }
    found
}

/// An exception that breaks nothing any more has to leave the list.
pub(crate) fn exceptions_are_needed(
    graph: &Graph,
    map: &Map,
    known: &[(&str, &str)],
) -> Vec<String> {
    let breaks = |known: &[(&str, &str)]| {
        let graph = graph.without(known);
        [nothing_points_upwards(&graph, map), no_circles(&graph)].concat().len()
    };
    let is_needed = |(from, to): (&str, &str)| {
        let others: Vec<_> = known.iter().copied().filter(|each| *each != (from, to)).collect();
        breaks(&others) > breaks(known)
    };
    let stale = known.iter().copied().filter(|each| !is_needed(*each));
    stale.map(|(from, to)| format!("{from} -> {to}: no exception any more, remove it")).collect()
}

fn use_line(from: &str, to: &str) -> String {
    format!("  {from} uses {to}")
}

/// For each folder the circles of what stands in it, where what stands below counts for it.
fn circles_of_folders<'a>(
    edges: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<(String, String), Vec<String>> {
    let mut siblings = BTreeMap::<String, Vec<(String, String, String)>>::new();
    for (from, to) in edges {
        let (a, b) = (folder_of(from), folder_of(to));
        let (a, b): (Vec<&str>, Vec<&str>) = (a.split('/').collect(), b.split('/').collect());
        let shared = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        if shared < a.len() && shared < b.len() {
            let below = |path: &[&str]| path[..=shared].join("/");
            let edge = (below(&a), below(&b), use_line(from, to));
            siblings.entry(a[..shared].join("/")).or_default().push(edge);
        }
    }
    let mut found = BTreeMap::new();
    for (folder, edges) in &siblings {
        let pairs = edges.iter().map(|(from, to, _)| (from.as_str(), to.as_str()));
        for circle in circles(pairs) {
            let inside = |node: &String| circle.contains(&node.as_str());
            let uses = edges.iter().filter(|(from, to, _)| inside(from) && inside(to));
            let uses = uses.map(|(_, _, line)| line.clone()).collect();
            found.insert((folder.clone(), circle.join(", ")), uses);
        }
    }
    found
}

/// A sans-IO file names nothing of the outside world, and uses sans-IO files only.
pub(crate) fn sans_io_stays_pure(graph: &Graph, map: &Map) -> Vec<String> {
    let mut found = Vec::new();
    for (file, source) in graph.files.iter().filter(|(file, _)| map.is_sans_io(file)) {
        let imports = source.imports.iter().map(|import| &import.named);
        for named in imports.chain(&source.paths) {
            let what = OUTSIDE_WORLD.iter().find(|(_, names)| {
                named.path.iter().any(|segment| names.contains(&segment.as_str()))
            });
            let is_own = source.items.values().any(|items| items.contains(&named.path[0]));
            if let Some((what, _)) = what.filter(|_| !is_own && !is_error_number(&named.path)) {
                let (line, path) = (named.line, named.path.join("::"));
                found.push(format!("{file}:{line}: a sans-IO file names {what}: {path}"));
            }
        }
    }
    let impure =
        graph.uses.values().filter(|each| map.is_sans_io(&each.from) && !map.is_sans_io(&each.to));
    found.extend(impure.map(|each| {
        format!("{}:{}: a sans-IO file uses {}, which is not", each.from, each.line, each.to)
    }));
    found
}

/// `libc::EIO` is only a number, with which a simulated chip fails as a real one does.
fn is_error_number(path: &[String]) -> bool {
    let name = path.last().map_or("", String::as_str);
    path.iter().any(|segment| segment == "libc")
        && name.starts_with('E')
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

/// Unsafe code stands in the files of the map alone, and there is some in each of them.
pub(crate) fn unsafe_stands_where_the_map_says(
    files: &BTreeMap<String, String>,
    map: &Map,
) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in files {
        let unsafe_token = tokens(text)
            .into_iter()
            .find(|token| matches!(token.text.as_str(), "unsafe" | "unsafe_code"));
        match (unsafe_token, map.unsafe_files.contains(file)) {
            (Some(token), false) => {
                found.push(format!("{file}:{}: unsafe code outside the map's files", token.line));
            }
            (None, true) => found.push(format!("{file}: the map says that it has unsafe code")),
            _ => {}
        }
    }
    let missing = map.unsafe_files.iter().filter(|file| !files.contains_key(*file));
    found.extend(missing.map(|file| format!("{file}: a file of the map that is missing")));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Crate, Files};
    use crate::map::tests::PAGE;

    const CRATES: [Crate; 2] =
        [Crate { name: "lib", root: "src/lib.rs" }, Crate { name: "bin", root: "src/main.rs" }];

    /// Returns a tree that breaks nothing, changed by some files.
    fn tree(changed: &[(&str, &str)]) -> Files {
        let mut files: Files = [
            ("src/lib.rs", "pub mod high; mod low; mod time;"),
            ("src/main.rs", "fn main() { lib::high::run() }"),
            ("src/high/mod.rs", "mod machine; pub fn run() { machine::step() }"),
            ("src/high/machine.rs", "use crate::low::Low; use crate::time::Time; pub fn step() {}"),
            ("src/low/mod.rs", "mod socket; pub struct Low;"),
            ("src/low/socket.rs", "use std::net::UdpSocket; fn f() { unsafe {} }"),
            ("src/time.rs", "pub struct Time;"),
        ]
        .map(|(file, text)| (file.to_owned(), text.to_owned()))
        .into();
        files.extend(changed.iter().map(|(file, text)| (file.to_string(), text.to_string())));
        files
    }

    fn broken(changed: &[(&str, &str)]) -> Vec<String> {
        let (files, map) = (tree(changed), Map::read(PAGE).unwrap());
        let graph = Graph::new(&CRATES, &files);
        [
            rooms_exist(&graph, &map),
            nothing_points_upwards(&graph, &map),
            no_circles(&graph),
            sans_io_stays_pure(&graph, &map),
            unsafe_stands_where_the_map_says(&files, &map),
        ]
        .concat()
    }

    #[track_caller]
    fn assert_broken(changed: &[(&str, &str)], expected: &str) {
        let found = broken(changed);
        assert!(found.iter().any(|line| line.contains(expected)), "{expected:?} in {found:?}");
    }

    #[test]
    fn a_right_tree_breaks_nothing() {
        assert_eq!(broken(&[]), Vec::<String>::new());
    }

    #[test]
    fn a_room_that_reaches_up_is_found() {
        let file = ("src/low/mod.rs", "mod socket; pub struct Low; use crate::high::run;");
        assert_broken(&[file], "src/low on floor 1 uses src/high on floor 2 (src/high/mod.rs)");
        let path = ("src/time.rs", "pub struct Time; fn f() { crate::low::Low; }");
        assert_broken(&[path], "src/time.rs on floor 1 uses src/low on floor 1");
    }

    #[test]
    fn a_room_that_does_not_keep_apart_is_found() {
        let file = ("src/main.rs", "fn main() { lib::high::run(); lib::time::Time; }");
        assert_broken(&[file], "src/main.rs keeps apart from src/time.rs");
        let page = PAGE.replace("| no | `src/time.rs` |", "| no | `src/gone` |");
        let graph = Graph::new(&CRATES, &tree(&[]));
        let found = nothing_points_upwards(&graph, &Map::read(&page).unwrap());
        assert_eq!(found, ["src/main.rs keeps apart from src/gone, which is no room"]);
    }

    #[test]
    fn a_room_that_the_map_does_not_know_is_found() {
        let lib = ("src/lib.rs", "pub mod high; mod low; mod time; mod other;");
        assert_broken(&[lib, ("src/other.rs", "")], "src/other.rs: no room of the map");
        assert_broken(&[lib], "src/other/mod.rs is missing");
    }

    #[test]
    fn two_files_that_use_each_other_are_found() {
        let files = [
            ("src/high/mod.rs", "mod machine; mod other; pub fn run() { machine::step() }"),
            (
                "src/high/machine.rs",
                "use super::other::Other; use crate::low::Low; use crate::time::Time; pub fn \
                step() {}",
            ),
            ("src/high/other.rs", "pub struct Other; fn f() { super::machine::step() }"),
        ];
        assert_broken(&files, "src/high/other.rs:1 uses src/high/machine.rs");
        let graph = Graph::new(&CRATES, &tree(&files));
        let map = Map::read(PAGE).unwrap();
        let known = [("src/high/other.rs", "src/high/machine.rs")];
        assert_eq!(no_circles(&graph.without(&known)), Vec::<String>::new());
        assert_eq!(exceptions_are_needed(&graph, &map, &known), Vec::<String>::new());
    }

    #[test]
    fn an_exception_that_is_mended_is_found() {
        let (graph, map) = (Graph::new(&CRATES, &tree(&[])), Map::read(PAGE).unwrap());
        let known = [("src/high/machine.rs", "src/low/mod.rs")];
        let found = exceptions_are_needed(&graph, &map, &known);
        assert!(found.len() == 1 && found[0].contains("remove it"), "{found:?}");
    }

    #[test]
    fn two_folders_that_use_each_other_are_found() {
        // No two files use each other here: a/one -> b/two, b/three -> a/four.
        let files = [
            ("src/high/mod.rs", "mod machine; mod a; mod b; pub fn run() { machine::step() }"),
            ("src/high/a.rs", "pub mod one; pub mod four;"),
            ("src/high/b.rs", "pub mod two; pub mod three;"),
            ("src/high/a/one.rs", "use crate::high::b::two::Two;"),
            ("src/high/a/four.rs", "pub struct Four;"),
            ("src/high/b/two.rs", "pub struct Two;"),
            ("src/high/b/three.rs", "use crate::high::a::four::Four;"),
        ];
        assert_broken(&files, "a circle in src/high: src/high/a, src/high/b");
    }

    #[test]
    fn sans_io_that_names_the_outside_world_is_found() {
        let with = |text: &'static str| {
            [(
                "src/low/mod.rs",
                match text {
                    "" => "mod socket; pub struct Low;",
                    text => text,
                },
            )]
        };
        for (text, what) in [
            ("mod socket; pub struct Low; use std::net::UdpSocket;", "a socket"),
            ("mod socket; pub struct Low; fn f() { std::fs::read(\"a\"); }", "a file"),
            ("mod socket; pub struct Low; fn f() { Instant::now(); }", "a clock"),
            ("mod socket; pub struct Low; use std::time::{Duration, SystemTime};", "a clock"),
            ("mod socket; pub struct Low; fn f() { std::thread::sleep(d) }", "a thread"),
            (
                "mod socket; pub struct Low; use rand_core::{OsRng, RngCore as _};",
                "an unseeded random",
            ),
        ] {
            assert_broken(&with(text), what);
        }
        assert_eq!(broken(&with("")), Vec::<String>::new());
        let uses = ("src/low/mod.rs", "mod socket; pub struct Low; use socket::f;");
        assert_broken(&[uses], "a sans-IO file uses src/low/socket.rs");
    }

    #[test]
    fn unsafe_code_elsewhere_is_found() {
        let file = ("src/time.rs", "pub struct Time; fn f() { unsafe {} } // unsafe");
        assert_broken(&[file], "src/time.rs:1: unsafe code outside");
        let allowed = ("src/time.rs", "#![allow(unsafe_code)]\npub struct Time;");
        assert_broken(&[allowed], "src/time.rs:1: unsafe code outside");
        let none = ("src/low/socket.rs", "use std::net::UdpSocket;");
        assert_broken(&[none], "src/low/socket.rs: the map says that it has unsafe code");
    }
}
