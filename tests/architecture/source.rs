//! One file: which modules it declares, what it imports, and which paths it names.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{Token, tokens};

/// A path as it was written, the module it was written in, and the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// The inline modules of the file around it.
    pub(crate) inside: Vec<String>,
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// What `use` binds to a name in a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) named: Named,
    /// `*` for a glob.
    pub(crate) name: String,
    /// `pub use`: the module passes the name on.
    pub(crate) is_passed_on: bool,
}

/// What the code of a file says, without its tests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// Modules in files of their own.
    pub(crate) modules: Vec<String>,
    /// Of these, the ones that exist in tests only.
    pub(crate) test_modules: BTreeSet<String>,
    /// Inline modules, with the modules around them.
    pub(crate) inline: Vec<Vec<String>>,
    /// Items by the inline module that defines them.
    pub(crate) items: BTreeMap<Vec<String>, BTreeSet<String>>,
    pub(crate) imports: Vec<Import>,
    /// Every path and every single word.
    pub(crate) paths: Vec<Named>,
}

const ITEMS: [&str; 9] =
    ["struct", "enum", "union", "trait", "fn", "const", "static", "type", "macro_rules"];

impl Source {
    /// Reads a file.
    pub(crate) fn read(text: &str) -> Self {
        let mut reader = Reader {
            tokens: tokens(text),
            at: 0,
            inside: Vec::new(),
            depths: Vec::new(),
            depth: 0,
            source: Self::default(),
        };
        reader.read();
        reader.source
    }
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    /// The inline modules around, and at which depth of braces each began.
    inside: Vec<String>,
    depths: Vec<usize>,
    depth: usize,
    source: Source,
}

impl Reader {
    fn read(&mut self) {
        while self.at < self.tokens.len() {
            self.step();
        }
    }

    fn text(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |token| &token.text)
    }

    fn step(&mut self) {
        match self.text(0) {
            "{" => {
                self.depth += 1;
                self.at += 1;
            }
            "}" => {
                self.depth = self.depth.saturating_sub(1);
                if self.depths.last() == Some(&self.depth) {
                    self.depths.pop();
                    self.inside.pop();
                }
                self.at += 1;
            }
            "#" if self.is_for_tests() => self.skip_test_item(),
            "mod" if self.text(2) == ";" || self.text(2) == "{" => self.module(),
            "use" => self.imports(),
            _ if self.tokens[self.at].is_word() => self.word(),
            _ => self.at += 1,
        }
    }

    /// Returns whether an attribute for tests starts here: `#[test]`, `#[cfg(test)]` and the like.
    fn is_for_tests(&self) -> bool {
        if self.text(1) != "[" {
            return false;
        }
        let end = self.end_of_brackets(self.at + 1);
        let inside: Vec<&str> =
            self.tokens[self.at + 2..end - 1].iter().map(|token| token.text.as_str()).collect();
        inside == ["test"]
            || inside == ["cfg", "(", "test", ")"]
            || inside.starts_with(&["cfg", "(", "all", "(", "test", ","])
    }

    /// Returns the place after the bracket that closes the one at `open`.
    fn end_of_brackets(&self, open: usize) -> usize {
        let mut depth = 0;
        for (at, token) in self.tokens.iter().enumerate().skip(open) {
            match token.text.as_str() {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at + 1;
            }
        }
        self.tokens.len()
    }

    fn skip_test_item(&mut self) {
        while self.text(0) == "#" {
            self.at = self.end_of_brackets(self.at + 1);
        }
        let start = self.at;
        while self.at < self.tokens.len() {
            match self.text(0) {
                ";" | "," => {
                    self.at += 1;
                    break;
                }
                "{" => {
                    self.at = self.end_of_brackets(self.at);
                    // `use a::{b};` goes on after the brace.
                    if self.text(0) != ";" {
                        break;
                    }
                }
                "(" | "[" => self.at = self.end_of_brackets(self.at),
                _ => self.at += 1,
            }
        }
        let item = &self.tokens[start..self.at.min(self.tokens.len())];
        let declared = item.iter().position(|token| token.is("mod")).map(|at| &item[at..]);
        if let Some([_, name, end]) = declared
            && end.is(";")
        {
            self.source.test_modules.insert(name.text.clone());
        }
    }

    fn module(&mut self) {
        let name = self.text(1).to_owned();
        if self.text(2) == ";" {
            self.source.modules.push(name);
        } else {
            self.inside.push(name);
            self.depths.push(self.depth);
            self.depth += 1;
            self.source.inline.push(self.inside.clone());
        }
        self.at += 3;
    }

    fn imports(&mut self) {
        // `pub use`, `pub(crate) use`, `pub(in crate::image) use`
        let before = self.at.checked_sub(1).map(|at| self.tokens[at].text.as_str());
        let is_passed_on = matches!(before, Some("pub" | ")"));
        self.at += 1;
        if self.text(0) == "<" {
            // A bound: `impl Trait + use<'a>`.
            return;
        }
        self.import_tree(Vec::new(), is_passed_on);
    }

    /// Reads `a::b`, `a::*`, `a as b` or `a::{.., ..}`, up to the mark after it.
    fn import_tree(&mut self, mut path: Vec<String>, is_passed_on: bool) {
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let mut name = None;
        loop {
            match self.text(0).to_owned().as_str() {
                "{" => {
                    self.at += 1;
                    while !matches!(self.text(0), "}" | "") {
                        self.import_tree(path.clone(), is_passed_on);
                        if self.text(0) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "," | ";" | "}" | "" => break,
                "as" => {
                    name = Some(self.text(1).to_owned());
                    self.at += 2;
                }
                "::" => self.at += 1,
                "*" => {
                    name = Some("*".to_owned());
                    self.at += 1;
                }
                "self" if !path.is_empty() => self.at += 1,
                word => {
                    path.push(word.to_owned());
                    self.at += 1;
                }
            }
        }
        let Some(name) = name.or_else(|| path.last().cloned()) else { return };
        let named = Named { inside: self.inside.clone(), path, line };
        self.source.imports.push(Import { named, name, is_passed_on });
    }

    fn word(&mut self) {
        let line = self.tokens[self.at].line;
        if ITEMS.contains(&self.text(0)) {
            let ahead = if self.text(0) == "macro_rules" { 2 } else { 1 };
            let name = self.text(ahead).to_owned();
            self.source.items.entry(self.inside.clone()).or_default().insert(name);
        }
        // The words of `pub(in crate::image)` are no imports.
        if self.text(0) == "pub" && self.text(1) == "(" {
            self.at = self.end_of_brackets(self.at + 1);
            return;
        }
        let is_member = self.at > 0 && self.tokens[self.at - 1].is(".");
        let mut path = vec![self.text(0).to_owned()];
        self.at += 1;
        while self.text(0) == "::" && self.tokens.get(self.at + 1).is_some_and(Token::is_word) {
            path.push(self.text(1).to_owned());
            self.at += 2;
        }
        if !is_member {
            self.source.paths.push(Named { inside: self.inside.clone(), path, line });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(text: &str) -> Vec<String> {
        let name = |import: Import| format!("{} = {}", import.name, import.named.path.join("::"));
        Source::read(text).imports.into_iter().map(name).collect()
    }

    fn names(source: &Source, path: &str) -> bool {
        source.paths.iter().any(|named| named.path.join("::") == path)
    }

    #[test]
    fn trees_of_imports_are_taken_apart() {
        assert_eq!(
            imports("use crate::a::{self, b::{C, D as E}, f::*};\nuse super::g;"),
            [
                "a = crate::a",
                "C = crate::a::b::C",
                "E = crate::a::b::D",
                "* = crate::a::f",
                "g = super::g"
            ]
        );
    }

    #[test]
    fn only_public_imports_are_passed_on() {
        let source = Source::read("use a::B; pub use a::C; pub(crate) use a::D;");
        let passed: Vec<bool> = source.imports.iter().map(|import| import.is_passed_on).collect();
        assert_eq!(passed, [false, true, true]);
    }

    #[test]
    fn paths_are_found_in_code_and_in_macros() {
        let source =
            Source::read("#[error(\"{}\", super::a::b(x))] fn f() { crate::c::D::new().e }");
        assert!(names(&source, "super::a::b"));
        assert!(names(&source, "crate::c::D::new"));
        assert!(!names(&source, "e"), "a field is no path");
    }

    #[test]
    fn tests_are_left_out() {
        let source = Source::read(
            "#[cfg(test)] mod a { use crate::b; }\n#[cfg(test)]\nmod tests;\nmod c;\n\
             #[cfg(test)] use crate::{d, e};\n#[test] fn f() { crate::g() } fn h() { crate::i() }",
        );
        assert_eq!(source.imports, []);
        assert_eq!(source.modules, ["c"]);
        assert!(source.test_modules.contains("tests"));
        assert!(names(&source, "crate::i") && !names(&source, "crate::g"));
    }

    #[test]
    fn inline_modules_have_paths_of_their_own() {
        let source = Source::read("mod a { fn f() { super::b() } } fn g() { c::d() }");
        let at = |path: &str| {
            let found = source.paths.iter().find(|named| named.path.join("::") == path);
            found.map(|named| named.inside.clone())
        };
        assert_eq!(at("super::b"), Some(vec!["a".to_owned()]));
        assert_eq!(at("c::d"), Some(vec![]));
    }

    #[test]
    fn visibility_is_no_import() {
        let source = Source::read("pub(in crate::image) fn f() {}");
        assert!(!names(&source, "crate::image"));
    }
}
