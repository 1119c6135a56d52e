//! Which module may use which, and where outside crates may be named: the rules of ARCHITECTURE.md.
//!
//! Sources are read as text, line by line, comments left out. Tests keep to the directions too, but may use an
//! outside crate to play the other end.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, highest first: each may use those below it. Modules of one layer never use each other.
const LAYERS: [&[&str]; 9] = [
    &["main"],
    &["cli"],
    &["node"],
    &["edge"],
    &["vault", "mailbox", "p2p", "turn", "federation"],
    &["cluster"],
    &["store"],
    &["wire"],
    &["domain"],
];

/// What every layer but the lowest may use. These use the lowest, and of each other only what [`ALSO`] says.
const TOOLS: [&str; 4] = ["runtime", "observe", "security", "config"];

/// Pairs beyond that: the first may use the second.
const ALSO: [(&str, &str); 6] = [
    ("cli", "bench"),
    ("bench", "domain"),
    ("bench", "wire"),
    ("bench", "security"),
    ("observe", "config"),
    ("config", "security"),
];

/// Outside crates, and the only places, as paths begin, that name them.
const AT_THE_RIM: [(&str, &[&str]); 5] = [
    ("chitchat", &["cluster/membership", "cluster/gossip"]),
    ("tonic", &["cluster/", "federation/", "edge/admin", "cli/admin"]),
    ("rocksdb", &["store/rocks"]),
    ("axum", &["edge/"]),
    ("libp2p", &["p2p"]),
];

#[test]
fn modules_use_only_what_lies_below_them() {
    let mut broken = String::new();
    for source in sources() {
        for (number, line) in source.code() {
            for used in modules_named(line) {
                if let Some(rule) = rule_against(source.module(), used) {
                    writeln!(broken, "{}:{number}: {rule}", source.path).unwrap();
                }
            }
            if source.climbs_out(line) {
                let rule = "`super` leaves the module here, which hides a direction: name it by `crate::`";
                writeln!(broken, "{}:{number}: {rule}", source.path).unwrap();
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn outside_crates_stay_at_the_rim() {
    let mut broken = String::new();
    for source in sources() {
        let places = |places: &[&str]| places.iter().any(|place| source.path.starts_with(&format!("src/{place}")));
        for (name, allowed) in AT_THE_RIM.into_iter().filter(|(_, allowed)| !places(allowed)) {
            for (number, _) in source.code_but_tests().filter(|(_, line)| paths_below(line, name).next().is_some()) {
                writeln!(broken, "{}:{number}: {name} may be named in {allowed:?} only", source.path).unwrap();
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn the_reader_of_sources_sees_what_it_should() {
    assert_eq!(modules_named("use crate::domain::ids;").collect::<Vec<_>>(), ["domain"]);
    assert_eq!(modules_named("use crate::{config::Config, edge};").collect::<Vec<_>>(), [""]);
    assert_eq!(modules_named("fn f(a: crate::store::A) -> waystation::node::B").collect::<Vec<_>>(), ["store", "node"]);
    assert_eq!(modules_named("let subcrate::x = mycrate::y;").count(), 0);
    assert_eq!(paths_below("let x = ::tonic::Status::ok(tonic_prost::y)", "tonic").count(), 1);
    assert_eq!(rule_against("vault", "edge").is_some(), rule_against("vault", "turn").is_some());
    assert!(rule_against("vault", "wire").is_none() && rule_against("domain", "runtime").is_some());
    assert!(rule_against("security", "config").is_some() && rule_against("novel", "domain").is_some());
}

/// Why `user` may not use `used`, if it may not.
fn rule_against(user: &str, used: &str) -> Option<String> {
    let height = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    let lowest = LAYERS.len() - 1;
    if used.is_empty() {
        return Some("one `use` names modules of several layers: write one for each".to_owned());
    }
    let allowed = user == used
        || ALSO.contains(&(user, used))
        || match (height(user), height(used)) {
            (Some(user), Some(used)) => user < used,
            (Some(user), None) => user < lowest && TOOLS.contains(&used),
            (None, Some(used)) => used == lowest && TOOLS.contains(&user),
            (None, None) => false,
        };
    if allowed {
        return None;
    }
    let order = LAYERS.map(|layer| layer.join(", ")).join(" → ");
    Some(match (height(user), height(used)) {
        (Some(a), Some(b)) if a == b => format!("{user} may not use {used}: services never use each other"),
        (Some(a), Some(b)) if a > b => format!("{user} may not use {used}: the arrows go {order}"),
        _ => format!("{user} may not use {used}: no rule in tests/it/layers.rs allows it"),
    })
}

/// One source file.
struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
}

impl Source {
    /// The module of the crate's root that it belongs to.
    fn module(&self) -> &str {
        let inner = self.path.trim_start_matches("src/");
        inner.split_once('/').map_or(inner.trim_end_matches(".rs"), |(module, _)| module)
    }

    /// Its lines with their numbers, comments left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().map(|line| line.find("//").map_or(line, |at| &line[..at]));
        lines.enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The same up to the tests, which stand last in a file or in files of their own.
    fn code_but_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        let all_tests = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        self.code().take_while(move |(_, line)| !all_tests && line.trim() != "#[cfg(test)]")
    }

    /// Whether `line` climbs by `super` to the crate's root. In an inline module one `super` leads to the file.
    fn climbs_out(&self, line: &str) -> bool {
        let steps = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        let depth = steps.split('/').count() + usize::from(line.starts_with(' '));
        line.contains(&"super::".repeat(depth)) && self.path != "src/lib.rs"
    }
}

/// The modules of this crate that `line` names from the root.
fn modules_named(line: &str) -> impl Iterator<Item = &str> {
    paths_below(line, "crate").chain(paths_below(line, "waystation")).map(first_name)
}

/// What follows `name::` wherever that begins a path in `line`.
fn paths_below<'a>(line: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let prefix = format!("{name}::");
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let starts: Vec<_> = line
        .match_indices(&prefix)
        .filter(|(at, _)| !line[..*at].ends_with(part_of_name))
        .map(|(at, found)| &line[at + found.len()..])
        .collect();
    starts.into_iter()
}

/// The first name of a path; empty for a group in braces.
fn first_name(path: &str) -> &str {
    path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(path)
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    assert!(files.len() > 50, "only {} files found below src", files.len());
    let source = |file: PathBuf| Source {
        path: file.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/"),
        text: fs::read_to_string(&file).unwrap(),
    };
    files.into_iter().map(source).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}
