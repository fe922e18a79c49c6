//! Which file uses which: modules of all crates, and their imports followed through every `pub use`
//! to the file that defines the item.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::source::{Named, Source};

/// Files by their paths from the top of the repository.
pub(crate) type Files = BTreeMap<String, String>;

/// A crate: how others name it, and its first file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crate {
    pub(crate) name: &'static str,
    pub(crate) root: &'static str,
}

/// That a file names something of another one, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Use {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) line: usize,
}

/// A module: the crate and the names down to it.
type ModulePath = Vec<String>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    /// The files that are no tests.
    pub(crate) files: BTreeMap<String, Source>,
    /// The first use of each file by another.
    pub(crate) uses: BTreeMap<(String, String), Use>,
    /// What is missing or cannot be read.
    pub(crate) problems: Vec<String>,
    /// The file of each module, and the inline modules that lead to it inside of that file.
    modules: BTreeMap<ModulePath, (String, Vec<String>)>,
    /// How files name crates.
    crates: BTreeSet<String>,
}

impl Graph {
    pub(crate) fn new(crates: &[Crate], files: &Files) -> Self {
        let mut graph = Self {
            crates: crates.iter().map(|each| each.name.to_owned()).collect(),
            ..Self::default()
        };
        for each in crates {
            graph.load(vec![each.name.to_owned()], each.root, files);
        }
        let all: Vec<String> = graph.files.keys().cloned().collect();
        for file in all {
            graph.find_uses(&file);
        }
        graph
    }

    /// The same graph without some uses.
    pub(crate) fn without(&self, left_out: &[(&str, &str)]) -> Self {
        let is_left_out = |each: &Use| left_out.contains(&(each.from.as_str(), each.to.as_str()));
        let kept = self.uses.iter().filter(|(_, each)| !is_left_out(each));
        let uses = kept.map(|(key, each)| (key.clone(), each.clone())).collect();
        Self { uses, ..self.clone() }
    }

    fn load(&mut self, module: ModulePath, file: &str, files: &Files) {
        let Some(text) = files.get(file) else {
            self.problems.push(format!("{file} is missing"));
            return;
        };
        let source = Source::read(text);
        self.modules.insert(module.clone(), (file.to_owned(), Vec::new()));
        for inline in &source.inline {
            let path = [module.as_slice(), inline.as_slice()].concat();
            self.modules.insert(path, (file.to_owned(), inline.clone()));
        }
        let folder = folder_of(file);
        for child in &source.modules {
            let path = [module.as_slice(), std::slice::from_ref(child)].concat();
            let (flat, own) = (format!("{folder}/{child}.rs"), format!("{folder}/{child}/mod.rs"));
            self.load(path, if files.contains_key(&flat) { &flat } else { &own }, files);
        }
        self.files.insert(file.to_owned(), source);
    }

    fn find_uses(&mut self, file: &str) {
        let source = self.files[file].clone();
        let Some(module) = self.module_of(file) else { return };
        let imported = source.imports.iter().filter(|import| !self.only_passes_on(&module, import));
        let named = imported.map(|import| &import.named).chain(&source.paths);
        let mut found = Vec::new();
        for named in named {
            let inside = [module.as_slice(), &named.inside].concat();
            if let Some(to) = self.file_of(&inside, named)
                && to != file
            {
                found.push(Use { from: file.to_owned(), to, line: named.line });
            }
        }
        for each in found {
            let key = (each.from.clone(), each.to.clone());
            let first = self.uses.entry(key).or_insert_with(|| each.clone());
            first.line = first.line.min(each.line);
        }
    }

    fn module_of(&self, file: &str) -> Option<ModulePath> {
        let found =
            self.modules.iter().find(|(_, (other, inline))| other == file && inline.is_empty());
        found.map(|(module, _)| module.clone())
    }

    /// A module that passes on what its own children define does not use them.
    fn only_passes_on(&self, module: &[String], import: &super::source::Import) -> bool {
        let inside = [module, &import.named.inside].concat();
        import.is_passed_on
            && self
                .resolve(&inside, &import.named.path, 0)
                .is_some_and(|(target, _)| target.starts_with(module))
    }

    /// Returns the file that defines what a path means. None for what is foreign, local, or only a
    /// module.
    fn file_of(&self, inside: &[String], named: &Named) -> Option<String> {
        let (module, item) = self.resolve(inside, &named.path, 0)?;
        item?;
        self.modules.get(&module).map(|(file, _)| file.clone())
    }

    /// Returns the module that a path leads to, and the item in it.
    fn resolve(
        &self,
        inside: &[String],
        path: &[String],
        depth: usize,
    ) -> Option<(ModulePath, Option<String>)> {
        const DEPTH_MAX: usize = 16;
        if depth > DEPTH_MAX {
            return None;
        }
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" => inside[..1].to_vec(),
            "self" => inside.to_vec(),
            "super" => inside[..inside.len().checked_sub(1).filter(|left| *left > 0)?].to_vec(),
            name if self.crates.contains(name) => vec![name.to_owned()],
            _ => return self.find(inside, path, depth),
        };
        match rest.first().map(String::as_str) {
            None => Some((start, None)),
            Some("super") => self.resolve(&start, rest, depth + 1),
            Some(_) => self.find(&start, rest, depth),
        }
    }

    /// Follows names from a module down.
    fn find(
        &self,
        module: &[String],
        path: &[String],
        depth: usize,
    ) -> Option<(ModulePath, Option<String>)> {
        let (first, rest) = path.split_first()?;
        let child = [module, std::slice::from_ref(first)].concat();
        if self.modules.contains_key(&child) {
            return match rest.is_empty() {
                true => Some((child, None)),
                false => self.find(&child, rest, depth),
            };
        }
        if self.defines(module, first) {
            return Some((module.to_vec(), Some(first.clone())));
        }
        let (file, inline) = self.modules.get(module)?;
        let source = self.files.get(file)?;
        let here = source.imports.iter().filter(|import| import.named.inside == *inline);
        let (globs, plain): (Vec<_>, Vec<_>) = here.partition(|import| import.name == "*");
        if let Some(import) = plain.iter().find(|import| import.name == *first) {
            // `use error::Error;` in a module that has another `error` does not lead back to
            // itself.
            if import.named.path.first() == Some(first) && !self.leads_out(import) {
                return None;
            }
            let path = [import.named.path.as_slice(), rest].concat();
            return self.resolve(module, &path, depth + 1);
        }
        globs.iter().find_map(|glob| {
            let (target, item) = self.resolve(module, &glob.named.path, depth + 1)?;
            let is_module = item.is_none() && self.defines(&target, first);
            is_module.then(|| (target, Some(first.clone())))
        })
    }

    fn leads_out(&self, import: &super::source::Import) -> bool {
        let first = import.named.path.first().map(String::as_str);
        first.is_some_and(|first| {
            matches!(first, "crate" | "self" | "super") || self.crates.contains(first)
        })
    }

    fn defines(&self, module: &[String], name: &str) -> bool {
        let Some((file, inline)) = self.modules.get(module) else { return false };
        let items = self.files.get(file).and_then(|source| source.items.get(inline));
        items.is_some_and(|items| items.contains(name))
    }
}

/// Returns where the modules stand that a file declares.
pub(crate) fn folder_of(file: &str) -> String {
    let path = Path::new(file);
    let parent = path.parent().map_or(String::new(), |parent| parent.display().to_string());
    match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("mod" | "lib" | "main") | None => parent,
        Some(stem) => format!("{parent}/{stem}"),
    }
}

/// Sets of nodes that reach each other, each in order; single nodes are left out.
pub(crate) fn circles<'a>(edges: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Vec<&'a str>> {
    // What has nothing before it or nothing after it is in no circle.
    let mut kept: BTreeSet<(&str, &str)> = edges.collect();
    loop {
        let (from, to): (BTreeSet<&str>, BTreeSet<&str>) = kept.iter().copied().unzip();
        let before = kept.len();
        kept.retain(|(a, b)| to.contains(a) && from.contains(b));
        if kept.len() == before {
            break;
        }
    }
    let mut next = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (from, to) in kept {
        next.entry(from).or_default().insert(to);
    }
    let reach = |from: &'a str| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(node) = open.pop() {
            let fresh = next.get(node).into_iter().flatten().filter(|to| reached.insert(**to));
            open.extend(fresh.copied().collect::<Vec<_>>());
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        next.keys().map(|node| (*node, reach(node))).collect();
    let mut found = BTreeSet::new();
    for (node, of_node) in &reached {
        let circle: Vec<&str> = of_node
            .iter()
            .filter(|other| reached.get(**other).is_some_and(|back| back.contains(node)))
            .copied()
            .collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIB: Crate = Crate { name: "lib", root: "src/lib.rs" };
    const BIN: Crate = Crate { name: "bin", root: "bin/src/main.rs" };

    fn uses(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let files = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        let graph = Graph::new(&[LIB, BIN], &files);
        graph.uses.into_keys().collect()
    }

    fn pair(from: &str, to: &str) -> (String, String) {
        (from.to_owned(), to.to_owned())
    }

    const EMPTY_BIN: (&str, &str) = ("bin/src/main.rs", "");

    #[test]
    fn imports_are_followed_to_the_file_that_defines_the_item() {
        let found = uses(&[
            EMPTY_BIN,
            ("src/lib.rs", "pub mod a; mod c;"),
            ("src/a/mod.rs", "mod b; pub use b::B;"),
            ("src/a/b.rs", "pub struct B;"),
            ("src/c.rs", "use crate::a::B;"),
        ]);
        assert_eq!(found, [pair("src/c.rs", "src/a/b.rs")]);
    }

    #[test]
    fn a_parent_that_only_passes_on_is_in_no_circle() {
        let passing = uses(&[
            EMPTY_BIN,
            ("src/lib.rs", "mod a;"),
            ("src/a.rs", "mod b; pub use b::B; pub struct A;"),
            ("src/a/b.rs", "use super::A; pub struct B;"),
        ]);
        assert_eq!(passing, [pair("src/a/b.rs", "src/a.rs")]);
        let using = uses(&[
            EMPTY_BIN,
            ("src/lib.rs", "mod a;"),
            ("src/a.rs", "mod b; pub use b::B; pub struct A(B);"),
            ("src/a/b.rs", "use super::A; pub struct B;"),
        ]);
        assert_eq!(using, [pair("src/a.rs", "src/a/b.rs"), pair("src/a/b.rs", "src/a.rs")]);
    }

    #[test]
    fn modules_with_another_name_and_without_use_are_found() {
        let found = uses(&[
            EMPTY_BIN,
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "use crate::b as other; fn f() { other::g() }"),
            ("src/b.rs", "pub fn g() { crate::a::f() }"),
        ]);
        assert_eq!(found, [pair("src/a.rs", "src/b.rs"), pair("src/b.rs", "src/a.rs")]);
    }

    #[test]
    fn other_crates_and_siblings_of_the_parent_are_found() {
        let found = uses(&[
            ("bin/src/main.rs", "mod a; use lib::x::X; fn main() { a::f() }"),
            ("bin/src/a.rs", "mod b; pub fn f() {}"),
            ("bin/src/a/b.rs", "use super::super::helper; pub fn f() {}"),
            ("src/lib.rs", "pub mod x;"),
            ("src/x.rs", "pub struct X;"),
        ]);
        assert_eq!(
            found,
            [pair("bin/src/main.rs", "bin/src/a.rs"), pair("bin/src/main.rs", "src/x.rs")]
        );
    }

    #[test]
    fn globs_are_followed() {
        let found = uses(&[
            EMPTY_BIN,
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "use crate::b::*; fn f() { g() }"),
            ("src/b.rs", "pub fn g() {}"),
        ]);
        assert_eq!(found, [pair("src/a.rs", "src/b.rs")]);
    }

    #[test]
    fn circles_of_any_length_are_found() {
        let edges = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e", "f"), ("f", "e")];
        assert_eq!(circles(edges.into_iter()), [vec!["a", "b", "c"], vec!["e", "f"]]);
        assert_eq!(circles([("a", "b"), ("b", "c"), ("a", "c")].into_iter()).len(), 0);
    }
}
