//! What a run is granted: tools, with or without a rule, and files within the workspace.
//!
//! We decide, not the program, which lets some uses pass by itself. A rule means what it names and nothing besides.
//! File tools stay within the workspace whatever a client writes; only a rule of the owner's leads out of it.

mod shell;

use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};
use serde_json::Value;

/// Tools that are about files.
const FILE_TOOLS: [&str; 7] = ["Read", "Edit", "MultiEdit", "Write", "NotebookEdit", "Glob", "Grep"];
/// How many symbolic links a path may lead through.
const LINKS: usize = 40;

/// A tool, or part of what it can do: `Bash`, `Bash(git log:*)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant<'a> {
    pub tool: &'a str,
    /// What stands in the brackets.
    pub rule: Option<&'a str>,
}

impl<'a> Grant<'a> {
    /// Reads one. Nothing may follow it: the program would take that for another.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (tool, rule) = match text.split_once('(') {
            Some((tool, rest)) => (tool, Some(rest.strip_suffix(')')?)),
            None => (text, None),
        };
        let is_name = !tool.is_empty() && tool.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') && !tool.starts_with('-');
        let is_rule = |rule: &str| !rule.is_empty() && !rule.contains(['(', ')', ',', '\n', '\r', '\0']);
        (is_name && rule.is_none_or(is_rule)).then_some(Self { tool, rule })
    }

    /// True if the owner's list has it, or has all of which it is a part.
    #[must_use]
    pub fn is_within(&self, text: &str, owners: &[String]) -> bool {
        let part_of = |owners: &String| owners == self.tool && !is_file_tool(self.tool);
        owners.iter().any(|known| known == text || part_of(known))
    }
}

#[must_use]
pub fn is_file_tool(tool: &str) -> bool {
    FILE_TOOLS.contains(&tool)
}

/// True if grants cover a use, together where it is several commands.
#[must_use]
pub fn cover(grants: &[String], tool: &str, input: &Value, folder: &Path) -> bool {
    let mut of_it = grants.iter().filter_map(|text| Grant::parse(text)).filter(|grant| same_tool(grant.tool, tool)).peekable();
    if of_it.peek().is_none() {
        return false;
    }
    let rules: Option<Vec<&str>> = of_it.map(|grant| grant.rule.filter(|rule| *rule != "*")).collect();
    // One without a rule is enough.
    let Some(rules) = rules else { return true };
    let any = |fits: &dyn Fn(&str) -> bool| rules.iter().any(|rule| fits(rule));
    match tool {
        "Bash" => {
            let commands = input["command"].as_str().and_then(shell::commands);
            commands.is_some_and(|commands| commands.iter().all(|command| any(&|rule| shell::names(rule, command))))
        }
        "WebFetch" => any(&|rule| rule.strip_prefix("domain:").is_some_and(|domain| is_of(input["url"].as_str().unwrap_or_default(), domain))),
        _ if is_file_tool(tool) => {
            let paths = named(tool, input);
            !paths.is_empty() && paths.iter().all(|path| real(&folder.join(path.trim())).is_some_and(|path| any(&|rule| leads_to(rule, folder, &path))))
        }
        // What a rule of such a tool would mean nobody knows.
        _ => false,
    }
}

/// The program has two names for its sub-agents.
fn same_tool(one: &str, other: &str) -> bool {
    const AGENT: [&str; 2] = ["Agent", "Task"];
    one == other || (AGENT.contains(&one) && AGENT.contains(&other))
}

/// True for an address of a machine of that name.
fn is_of(url: &str, domain: &str) -> bool {
    let host = url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_ascii_lowercase));
    host.is_some_and(|host| host == domain.to_ascii_lowercase())
}

/// True if a file is meant by a rule: `//srv/**` from the root, `~/notes/*` from home, anything else from where the run works.
fn leads_to(rule: &str, folder: &Path, path: &Path) -> bool {
    let options = MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };
    let home = || std::env::home_dir().unwrap_or_default();
    let whole = match (rule.strip_prefix("//"), rule.strip_prefix("~/")) {
        (Some(rest), _) => PathBuf::from("/").join(rest),
        (None, Some(rest)) => home().join(rest),
        (None, None) => folder.join(rule.trim_start_matches("./").trim_start_matches('/')),
    };
    let pattern = Pattern::new(&whole.to_string_lossy());
    pattern.is_ok_and(|pattern| pattern.matches_path_with(path, options))
}

/// What a file tool's arguments name. A tool that names nothing works in the folder of the run.
fn named<'i>(tool: &str, input: &'i Value) -> Vec<&'i str> {
    let mut named: Vec<&str> = ["file_path", "path", "notebook_path"].iter().filter_map(|key| input[key].as_str()).collect();
    // What stands before the first wildcard of a pattern is a path.
    let pattern = input["pattern"].as_str().filter(|_| tool == "Glob").map(|pattern| pattern.split(['*', '?', '[', '{']).next().unwrap_or_default());
    named.extend(pattern);
    if named.is_empty() {
        named.push(".");
    }
    named
}

/// Folders and files that are nobody's business but the program's and ours, though the workspace may hold them.
#[derive(Debug, Clone, Default)]
pub struct Private {
    pub closed: Vec<PathBuf>,
    /// What lies in a closed folder and is open all the same.
    pub open: Vec<PathBuf>,
    /// What may be read, though not written, such as what a tool of the run itself wrote down.
    pub readable: Vec<PathBuf>,
}

impl Private {
    /// Why a file tool may not do that; `None` if it may. One that looks through folders may not begin above them either.
    #[must_use]
    pub fn refuses(&self, tool: &str, input: &Value, folder: &Path) -> Option<String> {
        let searches = matches!(tool, "Glob" | "Grep");
        let lies_in = |path: &Path, folders: &[PathBuf]| folders.iter().any(|folder| path.starts_with(folder));
        named(tool, input).into_iter().find_map(|named| {
            let path = real(&folder.join(named.trim())).unwrap_or_else(|| folder.join(named));
            if lies_in(&path, &self.open) || self.may_read(tool, &path) {
                return None;
            }
            if lies_in(&path, &self.closed) {
                return Some(format!("{named} is one of Claude Code's own files, or of Seaway's"));
            }
            let holds = searches && self.closed.iter().any(|closed| closed.starts_with(&path) && closed.exists());
            holds.then(|| format!("below {named} lie files of Claude Code's own, or of Seaway's; search in a narrower folder"))
        })
    }

    /// True for a file of the run's own that it may read.
    #[must_use]
    pub fn may_read(&self, tool: &str, path: &Path) -> bool {
        matches!(tool, "Read" | "Glob" | "Grep") && self.readable.iter().any(|folder| path.starts_with(folder))
    }

    /// The same for what a tool names.
    #[must_use]
    pub fn may_read_all(&self, tool: &str, input: &Value, folder: &Path) -> bool {
        named(tool, input).into_iter().all(|named| real(&folder.join(named.trim())).is_some_and(|path| self.may_read(tool, &path)))
    }
}

/// Why a file tool's arguments are no business of a run; `None` if all that they name lies within the roots.
#[must_use]
pub fn outside(tool: &str, input: &Value, folder: &Path, roots: &[PathBuf]) -> Option<String> {
    if !is_file_tool(tool) {
        return None;
    }
    let strays = |path: &&str| path.trim_start().starts_with('~') || !is_within(&folder.join(path.trim()), roots);
    match named(tool, input).into_iter().find(strays) {
        Some(path) => Some(format!("{path} is outside of the workspace of this run")),
        None => climbs(tool, input).then(|| "the pattern climbs out of the workspace of this run".to_owned()),
    }
}

/// True for a pattern that may mean what lies above where it begins: braces hold further paths.
fn climbs(tool: &str, input: &Value) -> bool {
    let pattern = input["pattern"].as_str().filter(|_| tool == "Glob");
    let parts = |pattern: &str| pattern.split(['/', '{', ',', '}']).any(|part| part == "..");
    pattern.is_some_and(|pattern| parts(pattern) || pattern.contains("{/") || pattern.contains(",/"))
}

fn is_within(path: &Path, roots: &[PathBuf]) -> bool {
    real(path).is_some_and(|path| roots.iter().any(|root| path.starts_with(root)))
}

/// Where an absolute path really leads, also where its end, or that of a link, is yet to be made.
fn real(path: &Path) -> Option<PathBuf> {
    let mut links = 0;
    let mut real = PathBuf::from("/");
    let mut rest: Vec<std::ffi::OsString> = parts(path);
    while let Some(part) = rest.pop() {
        if part == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&part);
        match std::fs::read_link(&next) {
            Ok(target) => {
                links += 1;
                if links > LINKS {
                    return None;
                }
                if target.is_absolute() {
                    real = PathBuf::from("/");
                }
                rest.extend(parts(&target));
            }
            Err(_) => real = next,
        }
    }
    Some(real)
}

/// The parts of a path, the last one first.
fn parts(path: &Path) -> Vec<std::ffi::OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_is_one_grant() {
        assert_eq!(Grant::parse("Bash(git log:*)"), Some(Grant { tool: "Bash", rule: Some("git log:*") }));
        assert_eq!(Grant::parse("Read"), Some(Grant { tool: "Read", rule: None }));
        for text in ["", "Read(x) Bash(*)", "Read Bash", "Read,Bash", "Bash(", "Bash()", "Bash(a) ", "Bash(a,b)", "Bash((a))", "--tools", "Bash(a\nb)", "Read\n", "(x)"] {
            assert_eq!(Grant::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_client_gets_a_part_of_what_the_owner_has_and_no_rule_for_files() {
        let owners = ["Read".to_owned(), "Bash(git log:*)".to_owned(), "WebFetch".to_owned(), "Edit(//srv/**)".to_owned()];
        let within = |text: &str| Grant::parse(text).is_some_and(|grant| grant.is_within(text, &owners));
        for text in ["Read", "Bash(git log:*)", "WebFetch(domain:example.org)", "Edit(//srv/**)"] {
            assert!(within(text), "{text}");
        }
        for text in ["Read(//etc/**)", "Read(*)", "Bash", "Bash(rm:*)", "Edit", "Write"] {
            assert!(!within(text), "{text}");
        }
    }

    #[test]
    fn file_tools_stay_within_the_workspace() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("a")).unwrap();
        for (link, target) in [("out", "/etc"), ("new", "/home/nobody-has-this"), ("in", "a/deeper"), ("loop", "loop"), ("up", "../..")] {
            std::os::unix::fs::symlink(target, root.join(link)).unwrap();
        }
        let roots = [root.clone()];
        let is_outside = |tool: &str, input: Value| outside(tool, &input, &root.join("a"), &roots).is_some();
        for inside in ["b.txt", "../new.txt", "../a/b", "../in/file", &root.join("deep/er").to_string_lossy(), " b.txt", "./x", "x/../y"] {
            assert!(!is_outside("Read", serde_json::json!({"file_path": inside})), "{inside}");
        }
        for beyond in ["/etc/passwd", "../../x", "../out/passwd", "../new", "../new/x", "../loop", "../up/x", "x/../../../y", "/", "~/.ssh/id", "~", " /etc/passwd"] {
            assert!(is_outside("Write", serde_json::json!({"file_path": beyond})), "{beyond}");
        }
        assert!(is_outside("Glob", serde_json::json!({"pattern": "/etc/*"})) && is_outside("Glob", serde_json::json!({"pattern": "*/../../*"})));
        assert!(!is_outside("Glob", serde_json::json!({"pattern": "**/*.rs"})) && !is_outside("Grep", serde_json::json!({"pattern": "/etc/.*"})));
        for climbing in ["{..,x}/*", "{a,../b}", "x/{/etc,y}/*", "{a,/etc}/*"] {
            assert!(is_outside("Glob", serde_json::json!({"pattern": climbing})), "{climbing}");
        }
        assert!(outside("Read", &Value::Null, &root, &[]).is_some(), "what names nothing is no permission");
        assert!(!is_outside("WebFetch", serde_json::json!({"path": "/etc"})));
    }

    #[test]
    fn grants_cover_what_they_name_and_nothing_besides() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        let grants = ["Bash(git log:*)", "Bash(echo:*)", "Read", "Edit(//srv/**)", "Write(notes/*.md)", "WebFetch(domain:example.org)", "Task"].map(str::to_owned);
        let covered = |tool: &str, input: Value| cover(&grants, tool, &input, &root);
        let bash = |line: &str| covered("Bash", serde_json::json!({"command": line}));
        for line in ["git log", "echo x", "git log | echo y && echo z"] {
            assert!(bash(line), "{line}");
        }
        for line in ["id", "ps aux", "lsof", "ip addr", "find .", "test -f /etc/shadow", "echo x && id", "echo x; id", "echo $(id)", "echo x > f", "git", ""] {
            assert!(!bash(line), "{line}");
        }
        let file = |tool: &str, path: &str| covered(tool, serde_json::json!({"file_path": path}));
        assert!(file("Read", "/anything") && file("Edit", "/srv/a/b") && file("Write", "notes/a.md") && file("Write", "x/../notes/a.md"));
        for (tool, path) in
            [("Edit", "/srv"), ("Edit", "/srvx/a"), ("Edit", "/srv/../etc/passwd"), ("Write", "notes/a/b.md"), ("Write", "a.md"), ("Write", "out/../notes/a.md"), ("Grep", "a")]
        {
            assert!(!file(tool, path), "{tool} {path}");
        }
        assert!(covered("WebFetch", serde_json::json!({"url": "https://Example.org/x"})) && covered("Agent", Value::Null));
        for url in ["https://example.org.evil/x", "https://evil/example.org", "https://sub.example.org", "nothing", "https://example.org@evil/"] {
            assert!(!covered("WebFetch", serde_json::json!({"url": url})), "{url}");
        }
        assert!(!covered("Bash", Value::Null) && !covered("New", Value::Null));
        assert!(cover(&["Bash(*)".to_owned()], "Bash", &serde_json::json!({"command": "echo $(id)"}), &root));
    }

    #[test]
    fn the_programs_own_files_are_closed_though_the_workspace_holds_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["state/sessions", "state/workspace", "tmp/out", "src"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::os::unix::fs::symlink(root.join("state"), root.join("src/link")).unwrap();
        let private = Private { closed: vec![root.join("state"), root.join("tmp")], open: vec![root.join("state/workspace")], readable: vec![root.join("tmp/out")] };
        let refused = |tool: &str, key: &str, path: &str| private.refuses(tool, &serde_json::json!({key: path}), &root).is_some();
        for (tool, key, path) in [
            ("Read", "file_path", "state/sessions/x"),
            ("Write", "file_path", "src/link/x"),
            ("Grep", "path", "."),
            ("Glob", "pattern", "**/*"),
            ("Grep", "other", "x"),
            ("Write", "file_path", "tmp/out/x"),
        ] {
            assert!(refused(tool, key, path), "{tool} {path}");
        }
        for (tool, key, path) in [
            ("Read", "file_path", "src/a"),
            ("Write", "file_path", "state/workspace/x"),
            ("Grep", "path", "src"),
            ("Glob", "pattern", "src/**"),
            ("Read", "file_path", "tmp/out/x"),
        ] {
            assert!(!refused(tool, key, path), "{tool} {path}");
        }
    }
}
