//! Holds the floors of the house: nobody imports from above, and no circle of files crosses a wall.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::Visit;
use syn::{Attribute, Item, UseTree};

/// The rooms, from the bottom to the top. A file that stands on another floor than its room is named by itself.
const FLOORS: &[&[&str]] = &[
    &[
        "answer",
        "causes",
        "confine",
        "drain",
        "fault",
        "grant",
        "log",
        "memory",
        "refreshed",
        "sync",
        "trusted",
    ],
    &["config"],
    &["cap", "process"],
    &["account"],
    &[
        "auth",
        "connect",
        "credential",
        "dial",
        "headers",
        "import",
        "instance",
        "plan",
        "record",
        "route",
        "service",
        "signin",
        "ticket",
    ],
    &["live", "store", "tunnel"],
    &["catalog", "ledger", "upstream", "workers"],
    // What handlers share holds the list of runs, and runs hold what handlers share.
    &["access", "admin", "agent/registry", "snapshot", "state"],
    &["agent", "exchange", "reload"],
    &["http"],
    &["app"],
    &["cli"],
];

/// Files, each by its path below `src` without its ending, with the files that each imports from.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn nobody_imports_from_above() {
    let mut wrong = Vec::new();
    for (from, all) in &imports() {
        for to in all {
            if floor(to) > floor(from) {
                wrong.push(format!(
                    "{from} imports {to}, which is {} floors above",
                    floor(to) - floor(from)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_imports_itself_by_a_detour() {
    for of in ["seaway", "wire", "http1"] {
        assert_eq!(
            circles(&imports_of(of)),
            Vec::<BTreeSet<String>>::new(),
            "circles of files in {of}"
        );
    }
}

#[test]
fn a_type_has_a_name_of_its_own() {
    for of in ["seaway", "wire", "http1"] {
        let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (file, source) in sources(of) {
            for item in syn::parse_file(&source).unwrap().items {
                let name = match item {
                    Item::Struct(item) => item.ident,
                    Item::Enum(item) => item.ident,
                    Item::Trait(item) => item.ident,
                    Item::Type(item) => item.ident,
                    _ => continue,
                };
                named.entry(name.to_string()).or_default().push(file.clone());
            }
        }
        named.retain(|_, files| files.len() > 1);
        assert!(named.is_empty(), "one name for several types of {of}: {named:?}");
    }
}

/// What a file is for: the first sentence of its first line.
fn purpose(source: &str) -> String {
    let first = source.lines().next().and_then(|line| line.strip_prefix("//! "));
    let line = first.expect("a file begins with what it is for").trim_end_matches('.');
    line.split(". ").next().unwrap().to_owned()
}

/// The map as ARCHITECTURE.md holds it: a line for each file.
fn map() -> String {
    let mut map = String::new();
    for (of, title) in [
        ("http1", "crates/http1/src"),
        ("wire", "crates/wire/src"),
        ("seaway", "crates/seaway/src"),
    ] {
        map.push_str(&format!("{title}\n"));
        for (file, source) in sources(of) {
            map.push_str(&format!("  {file:<40} {}\n", purpose(&source)));
        }
    }
    map
}

#[test]
fn every_test_that_the_threats_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/threats.md")).unwrap();
    let mut code = String::new();
    for folder in [
        "crates/http1/src",
        "crates/http1/tests",
        "crates/wire/src",
        "crates/wire/tests",
        "crates/seaway/src",
        "crates/seaway/tests",
    ] {
        let mut files = Vec::new();
        walk(&root.join(folder), &mut files);
        for file in files {
            code.push_str(&fs::read_to_string(file).unwrap());
        }
    }
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.matches('|').count() == 4);
    let (mut named, mut missing) = (0, Vec::new());
    for test in rows
        .filter_map(|row| row.rsplit('|').nth(1))
        .flat_map(|last| last.split('`').skip(1).step_by(2))
    {
        named += 1;
        if !code.contains(&format!("fn {test}(")) {
            missing.push(test);
        }
    }
    assert!(named > 20 && missing.is_empty(), "{named} named, missing {missing:?}");
}

fn walk(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn the_map_has_a_line_for_every_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md");
    let text = fs::read_to_string(&path).unwrap();
    let begins = text.find("crates/http1/src\n").expect("the map begins so");
    let ends = begins + text[begins..].find("```").expect("the map ends so");
    #[expect(clippy::disallowed_methods, reason = "whoever runs it may have it written")]
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        fs::write(&path, [&text[..begins], &map(), &text[ends..]].concat()).unwrap();
    } else {
        assert_eq!(text[begins..ends], map(), "UPDATE_CORPUS=1 writes it anew");
    }
}

/// What only some files may name: a crate of others, and the room that knows it.
const KEPT_IN: &[(&str, &str)] = &[("axum", "http"), ("rusqlite", "store"), ("clap", "cli")];

#[test]
fn some_crates_are_known_to_one_room() {
    let mut wrong = Vec::new();
    for (file, source) in sources("seaway") {
        for path in paths(&source) {
            for (name, home) in KEPT_IN {
                if path.first().is_some_and(|first| first == name) && room(&file) != *home {
                    wrong.push(format!("{file} names {name}, which is for {home}"));
                }
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_import_is_seen() {
    let source = "
        use crate::{app::{self, App}, config as c};
        use super::neighbour::Thing;
        fn f() { crate::cli::run(); say!(crate::surface::x, \"crate::no\"); }
        #[cfg(test)] mod tests { use crate::exchange::E; }
    ";
    let files =
        ["app", "config", "cli", "surface", "exchange", "store", "store/neighbour", "store/here"]
            .map(str::to_owned);
    let found: Vec<String> = imported("store/here", source, &files.into()).into_iter().collect();
    assert_eq!(found, ["app", "cli", "config", "store/neighbour", "surface"]);
    assert!(floor("app") > floor("store/here"));
    let circle = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")];
    let imports = circle.map(|(from, to)| (from.to_owned(), BTreeSet::from([to.to_owned()])));
    assert_eq!(circles(&imports.into()), [BTreeSet::from(["a", "b", "c"].map(str::to_owned))]);
}

fn room(file: &str) -> &str {
    file.split('/').next().unwrap()
}

fn floor(file: &str) -> usize {
    let of = |name: &str| FLOORS.iter().position(|rooms| rooms.contains(&name));
    of(file)
        .or_else(|| of(room(file)))
        .unwrap_or_else(|| panic!("{file} has no floor: give its room one"))
}

/// The source of each file of a crate.
fn sources(of: &str) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(of).join("src");
    let mut sources = BTreeMap::new();
    read(&root, &root, &mut sources);
    sources
}

/// All that a file names.
fn paths(source: &str) -> Vec<Vec<String>> {
    let mut paths = Paths::default();
    paths.visit_file(&syn::parse_file(source).unwrap());
    paths.0
}

fn imports() -> Imports {
    imports_of("seaway")
}

fn imports_of(of: &str) -> Imports {
    let sources = sources(of);
    let files = sources.keys().cloned().collect();
    sources.iter().map(|(file, source)| (file.clone(), imported(file, source, &files))).collect()
}

fn read(root: &Path, folder: &Path, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            read(root, &path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let name =
                path.strip_prefix(root).unwrap().with_extension("").to_string_lossy().into_owned();
            // What puts the modules together, and tests, which may look at everything.
            if !matches!(name.as_str(), "lib" | "main") && !name.ends_with("/tests") {
                into.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
}

/// The files of the crate that a file names, in `use` or elsewhere; what stands below itself does not count.
fn imported(file: &str, source: &str, files: &BTreeSet<String>) -> BTreeSet<String> {
    let own: Vec<&str> = file.split('/').collect();
    let mut found = BTreeSet::new();
    for path in paths(source) {
        let mut rest = path.as_slice();
        let mut at: Vec<&str> = match rest.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("super") => own.clone(),
            _ => continue,
        };
        while let Some("crate" | "super") = rest.first().map(String::as_str) {
            if rest[0] == "super" {
                at.pop();
            }
            rest = &rest[1..];
        }
        at.extend(rest.iter().map(String::as_str));
        let named = (1..=at.len())
            .rev()
            .map(|length| at[..length].join("/"))
            .find(|name| files.contains(name));
        found.extend(named.filter(|name| name != file));
    }
    found
}

/// Paths that begin with `crate` or `super`.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl Paths {
    fn tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&with(path.ident.to_string()), &path.tree),
            UseTree::Name(name) => self.0.push(with(name.ident.to_string())),
            UseTree::Rename(name) => self.0.push(with(name.ident.to_string())),
            UseTree::Glob(_) => self.0.push(before.to_vec()),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree)),
        }
    }
}

fn is_of_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|ident| ident == "test")
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(module) if is_of_tests(&module.attrs) => {}
            Item::Use(import) => self.tree(&[], &import.tree),
            _ => syn::visit::visit_item(self, item),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }

    /// What is handed to a macro is only words.
    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.visit_path(&called.path);
        let text = called.tokens.to_string().replace(' ', "");
        let mut in_text = false;
        let bare: String = text
            .chars()
            .map(|c| {
                in_text ^= c == '"';
                if in_text { '"' } else { c }
            })
            .collect();
        for word in bare.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':') {
            self.0.push(word.split("::").map(str::to_owned).collect());
        }
    }
}

/// Files that reach each other.
fn circles(imports: &Imports) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|file| (file.as_str(), reach(imports, file))).collect();
    let mut circles: Vec<BTreeSet<String>> = Vec::new();
    for (file, from_here) in &reached {
        let circle: BTreeSet<String> = from_here
            .iter()
            .filter(|other| reached.get(*other).is_some_and(|back| back.contains(file)))
            .map(|name| (*name).to_owned())
            .collect();
        if circle.len() > 1 && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

/// All files that are imported from a file, directly or not.
fn reach<'a>(imports: &'a Imports, file: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = vec![file];
    while let Some(file) = next.pop() {
        for other in imports.get(file).into_iter().flatten() {
            if reached.insert(other.as_str()) {
                next.push(other);
            }
        }
    }
    reached
}
