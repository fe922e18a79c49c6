//! The documents against the tree: whatever they name by path, command, option, scenario or target
//! must be there.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the text of every file below `folder` whose name ends with `ending`, joined.
fn read_all(folder: &str, ending: &str) -> String {
    let mut text = String::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    text
}

/// Returns every document for people, by its path in the repository.
fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for folder in [".", "docs"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                found.push(if folder == "." { name } else { format!("{folder}/{name}") });
            }
        }
    }
    assert!(found.len() > 10, "{found:?}");
    found
}

/// Returns the commands and names in a document: code spans, and the lines of code blocks without
/// their comments.
fn code(document: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_block = false;
    let mut command = String::new();
    for line in read(document).lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block || line.starts_with("    ") {
            let line = line.trim().split(" #").next().unwrap();
            let line = line.split("   ").next().unwrap().trim();
            command.push_str(line.trim_end_matches('\\'));
            if !line.ends_with('\\') {
                found.push(std::mem::take(&mut command));
            }
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

#[test]
fn paths_are_in_the_tree() {
    const FOLDERS: [&str; 11] = [
        "src/",
        "manager/src/",
        "tests/",
        "manager/tests/",
        "docs/",
        "initramfs/",
        "systemd/",
        "udev/",
        "fuzz/",
        "examples/",
        ".ci/",
    ];
    let mut missing = BTreeSet::new();
    for document in documents() {
        let folder = Path::new(&document).parent().unwrap().to_owned();
        for word in code(&document).iter().flat_map(|code| code.split_whitespace()) {
            let path = word.trim_matches(|sign| matches!(sign, ',' | ';' | ':'));
            let is_plain = !path.contains(['*', '<', '$', '{', '#']);
            if is_plain && FOLDERS.iter().any(|folder| path.starts_with(folder)) {
                let file = path.trim_end_matches("/.");
                if !root().join(file).exists() && !root().join(format!("{file}.rs")).exists() {
                    missing.insert(format!("{document}: {path}"));
                }
            }
        }
        for link in read(&document).split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            let (file, section) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => root().join(&document),
                file => root().join(&folder).join(file),
            };
            if !target.contains("://") && !path.exists() {
                missing.insert(format!("{document}: link to {target}"));
            } else if !target.contains("://") && !section.is_empty() {
                let headings = fs::read_to_string(path).unwrap();
                let mut headings = headings.lines().filter(|line| line.starts_with('#'));
                if !headings.any(|heading| anchor(heading) == section) {
                    missing.insert(format!("{document}: link to {target}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Returns the name by which links reach a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|sign| sign.is_alphanumeric() || matches!(sign, ' ' | '-' | '_'))
        .map(|sign| if sign == ' ' { '-' } else { sign })
        .collect()
}

#[test]
fn commands_and_options_exist() {
    let manager = read_all("manager/src/commands", ".rs");
    let agent = read("src/usage.rs");
    let bmc = read_all("src/bmc", ".rs");
    let builder = read("initramfs/firmcast-mkrecovery");
    let lab = read("tests/vm/lab.py");
    let simulator = read_all("tests/sim/src", ".rs");
    let known = |program: &str, option: &str| {
        let name = option.trim_start_matches('-');
        match program {
            "firmcast" => {
                let field = name.replace('-', "_");
                name == "help"
                    || name == "version"
                    || manager.contains(&format!(" {field}: "))
                    || manager.contains(&format!("long = \"{name}\""))
            }
            "firmcastd" => agent.contains(option) || bmc.contains(option),
            "firmcast-mkrecovery" => builder.contains(option),
            "lab.py" => lab.contains(option),
            _ => simulator.contains(option),
        }
    };
    let mut wrong = BTreeSet::new();
    let mut seen = 0;
    for document in documents() {
        for code in code(&document) {
            let mut words = code.split_whitespace();
            let Some(program) = words.next().and_then(is_program) else { continue };
            for word in words.take_while(|word| !matches!(*word, "|" | "&&" | ";")) {
                let word = word.trim_matches(|sign| matches!(sign, '[' | ']' | ',' | ';' | '"'));
                let option = word.split('=').next().unwrap();
                let is_option = option.strip_prefix("--").is_some_and(|name| {
                    !name.is_empty()
                        && name.chars().all(|sign| sign.is_ascii_lowercase() || sign == '-')
                });
                if is_option {
                    seen += 1;
                    if !known(program, option) {
                        wrong.insert(format!("{document}: {program} {option}"));
                    }
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} options found: the documents are read wrongly");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Returns which of this project's programs a word of a command line starts.
fn is_program(word: &str) -> Option<&'static str> {
    const PROGRAMS: [&str; 5] =
        ["firmcast", "firmcastd", "firmcast-mkrecovery", "lab.py", "firmcast-sim"];
    let name = word.rsplit('/').next().unwrap();
    PROGRAMS.into_iter().find(|program| *program == name)
}

#[test]
fn subcommands_exist() {
    let manager = read("manager/src/commands/mod.rs").to_lowercase();
    let agent = read("src/usage.rs");
    let mut wrong = BTreeSet::new();
    // The texts that keys are derived from are no commands.
    for document in documents().into_iter().filter(|name| name != "docs/PROTOCOL.md") {
        for code in code(&document) {
            let mut words = code.split_whitespace();
            let (Some(program), Some(word)) = (words.next(), words.next()) else { continue };
            let is_word = word.chars().all(|sign| sign.is_ascii_lowercase() || sign == '-');
            if !is_word || word.starts_with('-') {
                continue;
            }
            let exists = match program {
                "firmcast" => manager.contains(&format!("    {word}(")),
                "firmcastd" => agent.contains(&format!("words: \"{word}")),
                _ => continue,
            };
            if !exists {
                wrong.insert(format!("{document}: {program} {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_shows_a_claim_exists() {
    let scenarios = read_all("tests/vm/scenarios", ".py").replace('_', "-");
    let reasons = read("src/reason.rs");
    let mut wrong = BTreeSet::new();
    let mut seen = 0;
    for document in ["docs/CLAIMS.md", "docs/ARCHITECTURE.md"] {
        let text = read(document);
        for row in text.lines().filter(|line| line.starts_with('|')) {
            let Some(cell) = row.trim_end_matches(" |").rsplit(" | ").next() else { continue };
            for name in cell.split('`').skip(1).step_by(2) {
                let is_name = name.contains('-')
                    && !name.starts_with("firmcast")
                    && name.chars().all(|sign| sign.is_ascii_alphanumeric() || sign == '-')
                    && !name.starts_with('-');
                if !is_name {
                    continue;
                }
                seen += 1;
                let is_scenario = scenarios.contains(&format!("def {name}("));
                if !is_scenario && !reasons.contains(&format!("\"{name}\"")) {
                    wrong.insert(format!("{document}: {name}"));
                }
            }
        }
    }
    assert!(seen > 30, "only {seen} names found: the tables are read wrongly");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn make_targets_exist() {
    let makefile = read("Makefile");
    let mut wrong = BTreeSet::new();
    for document in documents() {
        for code in code(&document) {
            let mut words = code.split_whitespace();
            if words.next() != Some("make") {
                continue;
            }
            for target in words
                .take_while(|word| !matches!(*word, "#" | ">" | "|" | "&&" | ";"))
                .filter(|word| !word.contains('='))
            {
                if !makefile.contains(&format!("\n{target}:")) {
                    wrong.insert(format!("{document}: make {target}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn settings_are_documented_with_their_defaults() {
    let documented = read("docs/agent.toml");
    let config = read("src/agent/config.rs");
    let manual = read("docs/OPERATIONS.md");
    let settings = config.split("pub struct Config {").nth(1).unwrap();
    let settings = settings.split("\n}").next().unwrap();
    let mut seen = 0;
    for line in settings.lines().filter_map(|line| line.trim().strip_prefix("pub ")) {
        let name = line.split(':').next().unwrap();
        seen += 1;
        assert!(documented.contains(&format!("\n#{name} = ")), "docs/agent.toml lacks {name}");
    }
    assert!(seen > 5, "only {seen} settings found");
    let folder = "/var/lib/firmcast";
    assert!(config.contains(&format!("state_dir: \"{folder}\"")), "state_dir has another default");
    let kept = format!("{folder}/recovery");
    let builder = read("initramfs/firmcast-mkrecovery");
    assert!(
        builder.contains(&format!("INTO={kept}\n")) || builder.contains(&format!("INTO={kept} "))
    );
    assert!(documented.contains(&kept) && manual.contains(&kept));
    assert!(read("src/agent/preflight/recovery.rs").contains("join(\"recovery\")"));
}
