//! What a run is granted: tools, with or without a rule, and files within the workspace.
//!
//! The program decides by itself only where a rule of the owner's says so. File tools are never
//! left to a rule that a client wrote: where the file lies decides.

use std::path::{Component, Path, PathBuf};

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

/// Why a file tool's arguments are no business of a run; `None` if all that they name lies within the roots.
#[must_use]
pub fn outside(tool: &str, input: &str, folder: &Path, roots: &[PathBuf]) -> Option<String> {
    if !is_file_tool(tool) {
        return None;
    }
    let Ok(input) = serde_json::from_str::<serde_json::Value>(input) else { return Some("its arguments cannot be read".into()) };
    let mut named: Vec<&str> = ["file_path", "path", "notebook_path"].iter().filter_map(|key| input[key].as_str()).collect();
    // What stands before the first wildcard of a pattern is a path.
    let pattern = input["pattern"].as_str().filter(|_| tool == "Glob").map(|pattern| pattern.split(['*', '?', '[', '{']).next().unwrap_or_default());
    named.extend(pattern);
    let climbs = input["pattern"].as_str().is_some_and(|pattern| tool == "Glob" && pattern.split('/').any(|part| part == ".."));
    let strays = |path: &&str| path.trim_start().starts_with('~') || !is_within(&folder.join(path.trim()), roots);
    match named.into_iter().find(strays) {
        Some(path) => Some(format!("{path} is outside of the workspace of this run")),
        None => climbs.then(|| "the pattern climbs out of the workspace of this run".to_owned()),
    }
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
        let is_outside = |tool: &str, input: serde_json::Value| outside(tool, &input.to_string(), &root.join("a"), &roots).is_some();
        for inside in ["b.txt", "../new.txt", "../a/b", "../in/file", &root.join("deep/er").to_string_lossy(), " b.txt", "./x", "x/../y"] {
            assert!(!is_outside("Read", serde_json::json!({"file_path": inside})), "{inside}");
        }
        for beyond in ["/etc/passwd", "../../x", "../out/passwd", "../new", "../new/x", "../loop", "../up/x", "x/../../../y", "/", "~/.ssh/id", "~", " /etc/passwd"] {
            assert!(is_outside("Write", serde_json::json!({"file_path": beyond})), "{beyond}");
        }
        assert!(is_outside("Glob", serde_json::json!({"pattern": "/etc/*"})) && is_outside("Glob", serde_json::json!({"pattern": "*/../../*"})));
        assert!(!is_outside("Glob", serde_json::json!({"pattern": "**/*.rs"})) && !is_outside("Grep", serde_json::json!({"pattern": "/etc/.*"})));
        assert!(outside("Read", "{", &root, &[]).is_some(), "what cannot be read is no permission");
        assert!(!is_outside("WebFetch", serde_json::json!({"path": "/etc"})));
    }
}
