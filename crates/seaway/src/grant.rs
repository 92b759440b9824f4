//! What a run is granted: tools, with or without a rule, and files within the workspace.
//!
//! We decide, not the program, which lets some uses pass by itself. A rule means what it names and nothing besides.
//! File tools stay within the workspace whatever a client writes; only a rule of the owner's leads out of it.

mod shell;

use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};
use serde_json::Value;

/// Tools that are about files.
const FILE_TOOLS: [&str; 7] =
    ["Read", "Edit", "MultiEdit", "Write", "NotebookEdit", "Glob", "Grep"];
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
    pub fn parse(text: &'a str) -> Option<Self> {
        let (tool, rule) = match text.split_once('(') {
            Some((tool, rest)) => (tool, Some(rest.strip_suffix(')')?)),
            None => (text, None),
        };
        let is_name = !tool.is_empty()
            && tool.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
            && !tool.starts_with('-');
        let is_rule =
            |rule: &str| !rule.is_empty() && !rule.contains(['(', ')', ',', '\n', '\r', '\0']);
        (is_name && rule.is_none_or(is_rule)).then_some(Self { tool, rule })
    }

    /// True if the owner's list has it, or has all of which it is a part.
    pub fn is_within(&self, text: &str, owners: &[String]) -> bool {
        let part_of = |owners: &String| owners == self.tool && !is_file_tool(self.tool);
        owners.iter().any(|known| known == text || part_of(known))
    }
}

pub fn is_file_tool(tool: &str) -> bool {
    FILE_TOOLS.contains(&tool)
}

/// Where a run works, and what `~` means to it.
#[derive(Debug, Clone)]
pub struct RunPlace {
    /// Where it began: what rules without a beginning are about.
    pub folder: PathBuf,
    /// Where the program is now: a command may have led it elsewhere. What is named without a beginning lies there.
    pub cwd: PathBuf,
    pub home: PathBuf,
}

impl RunPlace {
    /// The file or folder that is meant by a text, where it really leads; `None` for what may mean something else to the program.
    fn meant(&self, text: &str) -> Option<PathBuf> {
        // The program takes blanks from both ends, and has another idea of what is one.
        if text.starts_with(is_blank) || text.ends_with(is_blank) || text.contains('\0') {
            return None;
        }
        // It also writes letters with marks as one letter, where we would see another name.
        if text.chars().any(|c| ('\u{300}'..='\u{36f}').contains(&c)) {
            return None;
        }
        let path = match text.strip_prefix('~') {
            None => self.cwd.join(text),
            Some("") => self.home.clone(),
            Some(rest) => self.home.join(rest.strip_prefix('/')?.trim_start_matches('/')),
        };
        real(&path)
    }

    /// All that a file tool's arguments name, where it really leads; `None` if some of that cannot be told.
    fn named(&self, tool: &str, input: &Value) -> Option<Vec<PathBuf>> {
        let mut texts = Vec::new();
        for key in ["file_path", "path", "notebook_path"] {
            match &input[key] {
                Value::Null => {}
                Value::String(text) => texts.push(text.clone()),
                _ => return None,
            }
        }
        let searches = is_search(tool);
        if tool == "Glob" {
            let pattern =
                input["pattern"].as_str().filter(|pattern| !pattern.starts_with(is_blank))?;
            // What stands before the first wildcard of a pattern is a path, below the one that is named.
            let fixed = pattern.split(['*', '?', '[', '{']).next().unwrap_or_default();
            let fixed = if fixed.len() < pattern.len() {
                fixed
                    .rsplit_once('/')
                    .map_or("", |(folder, _)| if folder.is_empty() { "/" } else { folder })
            } else {
                fixed
            };
            let below = texts.first().map_or_else(|| self.cwd.clone(), |path| self.cwd.join(path));
            let whole = if fixed.starts_with(['/', '~']) {
                fixed.to_owned()
            } else {
                below.join(fixed).to_string_lossy().into_owned()
            };
            texts
                .push(whole.trim_end_matches('/').to_owned() + if whole == "/" { "/" } else { "" });
        }
        if texts.is_empty() {
            // Where the program is, for a tool that looks through folders; nothing that anybody could judge for another.
            return if searches { Some(vec![real(&self.cwd)?]) } else { None };
        }
        texts.iter().map(|text| self.meant(text)).collect()
    }
}

/// What the program may take for a blank: more than what is one here.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control() || c == '\u{feff}'
}

fn is_search(tool: &str) -> bool {
    matches!(tool, "Glob" | "Grep")
}

/// How far grants go for a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    Not,
    /// The tool is granted as such.
    Whole,
    /// A rule names this use.
    ByRule,
}

/// Tells whether grants cover a use, together where it is several commands.
pub fn cover(grants: &[String], tool: &str, input: &Value, place: &RunPlace) -> Cover {
    let of_it: Vec<Grant<'_>> = grants
        .iter()
        .filter_map(|text| Grant::parse(text))
        .filter(|grant| same_tool(grant.tool, tool))
        .collect();
    let rules: Vec<&str> =
        of_it.iter().filter_map(|grant| grant.rule).filter(|rule| *rule != "*").collect();
    let any = |fits: &dyn Fn(&str) -> bool| rules.iter().any(|rule| fits(rule));
    let named = match tool {
        _ if rules.is_empty() => false,
        "Bash" => {
            let commands = input["command"].as_str().and_then(shell::commands);
            commands.is_some_and(|commands| {
                commands.iter().all(|command| any(&|rule| shell::names(rule, command)))
            })
        }
        "WebFetch" => any(&|rule| {
            rule.strip_prefix("domain:")
                .is_some_and(|domain| is_of(input["url"].as_str().unwrap_or_default(), domain))
        }),
        _ if is_file_tool(tool) => place.named(tool, input).is_some_and(|paths| {
            paths.iter().all(|path| any(&|rule| leads_to(rule, place, path, is_search(tool))))
        }),
        // What a rule of such a tool would mean nobody knows.
        _ => false,
    };
    match named {
        true => Cover::ByRule,
        false if rules.len() < of_it.len() => Cover::Whole,
        false => Cover::Not,
    }
}

/// The program has two names for its sub-agents.
fn same_tool(one: &str, other: &str) -> bool {
    const AGENT: [&str; 2] = ["Agent", "Task"];
    one == other || (AGENT.contains(&one) && AGENT.contains(&other))
}

/// True for an address of a machine of that name.
fn is_of(url: &str, domain: &str) -> bool {
    let host =
        url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_ascii_lowercase));
    host.is_some_and(|host| host == domain.to_ascii_lowercase())
}

/// True if a file is meant by a rule: `//srv/**` from the root, `~/notes/*` from home, anything else from where the run works.
/// What stands before the first wildcard leads where its links lead. With `below` a folder is meant if all in it is.
fn leads_to(rule: &str, place: &RunPlace, path: &Path, below: bool) -> bool {
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: false,
    };
    let (from, rest) = match (rule.strip_prefix("//"), rule.strip_prefix("~/")) {
        (Some(rest), _) => (Path::new("/"), rest),
        (None, Some(rest)) => (place.home.as_path(), rest),
        (None, None) => {
            (place.folder.as_path(), rule.trim_start_matches("./").trim_start_matches('/'))
        }
    };
    let wild = rest.find(['*', '?', '[']).unwrap_or(rest.len());
    let (fixed, wild) = rest.split_at(if wild == rest.len() {
        wild
    } else {
        rest[..wild].rfind('/').map_or(0, |at| at + 1)
    });
    let Some(fixed) = real(&from.join(fixed)) else { return false };
    let whole = if wild.is_empty() {
        Pattern::escape(&fixed.to_string_lossy())
    } else {
        format!("{}/{wild}", Pattern::escape(fixed.to_string_lossy().trim_end_matches('/')))
    };
    let Ok(pattern) = Pattern::new(&whole) else { return false };
    pattern.matches_path_with(path, options)
        || (below && wild.ends_with("**") && pattern.matches_path_with(&path.join("x"), options))
}

/// Folders and files that are nobody's business but the program's and ours, though the workspace may hold them.
#[derive(Debug, Clone, Default)]
pub struct Private {
    pub closed: Vec<PathBuf>,
    /// The same for all whose path begins so.
    pub closed_names: Vec<String>,
    /// What lies in a closed folder and is open all the same.
    pub open: Vec<PathBuf>,
    /// What may be read, though not written, such as what a tool of the run itself wrote down.
    pub readable: Vec<PathBuf>,
}

impl Private {
    /// Why a file tool may not do that; `None` if it may. One that looks through folders may not begin above them either.
    pub fn refuses(&self, tool: &str, input: &Value, place: &RunPlace) -> Option<String> {
        let Some(paths) = place.named(tool, input) else {
            return Some("what it names cannot be told for sure; name it without `~USER`, blanks at its ends or letters made of two".into());
        };
        let lies_in = |path: &Path, folders: &[PathBuf]| {
            folders.iter().any(|folder| path.starts_with(folder))
        };
        let is_named = |path: &Path| {
            self.closed_names.iter().any(|name| path.to_string_lossy().starts_with(name.as_str()))
        };
        paths.into_iter().find_map(|path| {
            if lies_in(&path, &self.open) || self.may_read(tool, &path) {
                return None;
            }
            let shown = path.display();
            if lies_in(&path, &self.closed) || is_named(&path) {
                return Some(format!("{shown} is one of Claude Code's own files, or of Seaway's"));
            }
            let above = self.closed.iter().any(|closed| closed.starts_with(&path) && closed.exists()) || self.closed_names.iter().any(|name| Path::new(name).starts_with(&path));
            (is_search(tool) && above).then(|| format!("below {shown} lie files of Claude Code's own, or of Seaway's; search in a narrower folder"))
        })
    }

    /// True for a file of the run's own that it may read.
    fn may_read(&self, tool: &str, path: &Path) -> bool {
        (tool == "Read" || is_search(tool))
            && self.readable.iter().any(|folder| path.starts_with(folder))
    }

    /// The same for all that a tool names.
    pub fn may_read_all(&self, tool: &str, input: &Value, place: &RunPlace) -> bool {
        place
            .named(tool, input)
            .is_some_and(|paths| paths.iter().all(|path| self.may_read(tool, path)))
    }
}

/// Why a file tool's arguments are no business of a run; `None` if all that they name lies within the roots.
pub fn outside(tool: &str, input: &Value, place: &RunPlace, roots: &[PathBuf]) -> Option<String> {
    if !is_file_tool(tool) {
        return None;
    }
    let Some(paths) = place.named(tool, input) else {
        return Some("what it names cannot be told for sure".into());
    };
    match paths.iter().find(|path| !roots.iter().any(|root| path.starts_with(root))) {
        Some(path) => Some(format!("{} is outside of the workspace of this run", path.display())),
        None => climbs(tool, input)
            .then(|| "the pattern climbs out of the workspace of this run".to_owned()),
    }
}

/// True for a pattern that may mean what lies above where it begins: braces hold further paths.
fn climbs(tool: &str, input: &Value) -> bool {
    let pattern = input["pattern"].as_str().filter(|_| tool == "Glob");
    let parts = |pattern: &str| pattern.split(['/', '{', ',', '}']).any(|part| part == "..");
    pattern.is_some_and(|pattern| {
        parts(pattern) || ["{/", ",/", "{~", ",~"].iter().any(|start| pattern.contains(start))
    })
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
        assert_eq!(
            Grant::parse("Bash(git log:*)"),
            Some(Grant { tool: "Bash", rule: Some("git log:*") })
        );
        assert_eq!(Grant::parse("Read"), Some(Grant { tool: "Read", rule: None }));
        for text in [
            "",
            "Read(x) Bash(*)",
            "Read Bash",
            "Read,Bash",
            "Bash(",
            "Bash()",
            "Bash(a) ",
            "Bash(a,b)",
            "Bash((a))",
            "--tools",
            "Bash(a\nb)",
            "Read\n",
            "(x)",
        ] {
            assert_eq!(Grant::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_client_gets_a_part_of_what_the_owner_has_and_no_rule_for_files() {
        let owners = [
            "Read".to_owned(),
            "Bash(git log:*)".to_owned(),
            "WebFetch".to_owned(),
            "Edit(//srv/**)".to_owned(),
        ];
        let within =
            |text: &str| Grant::parse(text).is_some_and(|grant| grant.is_within(text, &owners));
        for text in ["Read", "Bash(git log:*)", "WebFetch(domain:example.org)", "Edit(//srv/**)"] {
            assert!(within(text), "{text}");
        }
        for text in ["Read(//etc/**)", "Read(*)", "Bash", "Bash(rm:*)", "Edit", "Write"] {
            assert!(!within(text), "{text}");
        }
    }

    fn place(folder: &Path) -> RunPlace {
        RunPlace {
            folder: folder.to_owned(),
            cwd: folder.to_owned(),
            home: "/home/of-the-owner".into(),
        }
    }

    #[test]
    fn what_is_named_lies_where_the_program_is_and_rules_are_about_where_it_began() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("sub/src")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("sub/link")).unwrap();
        let moved = RunPlace { cwd: root.join("sub"), ..place(&root) };
        let roots = [root.clone()];
        let grep = |path: &str| serde_json::json!({"pattern": "x", "path": path});
        assert!(
            outside("Grep", &grep("link"), &moved, &roots).is_some()
                && outside("Grep", &grep("link"), &place(&root), &roots).is_none()
        );
        let rule = ["Grep(src/**)".to_owned()];
        assert_eq!(
            (
                cover(&rule, "Grep", &grep("src"), &moved),
                cover(&rule, "Grep", &grep("../src"), &moved)
            ),
            (Cover::Not, Cover::ByRule)
        );
        let private = Private { closed: vec![root.join("sub/src")], ..Private::default() };
        assert!(private.refuses("Grep", &serde_json::json!({"pattern": "x"}), &moved).is_some());
    }

    /// Paths that lead out of the workspace.
    const BEYOND: &[&str] = &[
        "/etc/passwd",
        "../../x",
        "../out/passwd",
        "../new",
        "../new/x",
        "../loop",
        "../up/x",
        "x/../../../y",
        "/",
        "~/.ssh/id",
        "~",
        "~root/x",
        " /etc/passwd",
        "\u{feff}/etc/passwd",
        "\u{feff}~/.claude",
        "a\u{feff}",
        "\u{a0}/etc",
        "\u{2003}/etc",
        "\u{b}/etc",
        "../\u{e9}/passwd",
        "../e\u{301}/passwd",
        "a\0b",
        "",
    ];

    #[test]
    fn file_tools_stay_within_the_workspace() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("a")).unwrap();
        for (link, target) in [
            ("out", "/etc"),
            ("new", "/home/nobody-has-this"),
            ("in", "a/deeper"),
            ("loop", "loop"),
            ("up", "../.."),
            ("\u{e9}", "/etc"),
        ] {
            std::os::unix::fs::symlink(target, root.join(link)).unwrap();
        }
        let roots = [root.clone()];
        let is_outside = |tool: &str, input: Value| {
            outside(tool, &input, &place(&root.join("a")), &roots).is_some()
        };
        for inside in [
            "b.txt",
            "../new.txt",
            "../a/b",
            "../in/file",
            &root.join("deep/er").to_string_lossy(),
            "./x",
            "x/../y",
            "a b",
            "\u{fc}",
        ] {
            assert!(!is_outside("Read", serde_json::json!({"file_path": inside})), "{inside}");
        }
        for beyond in BEYOND {
            for (tool, key) in
                [("Write", "file_path"), ("Grep", "path"), ("NotebookEdit", "notebook_path")]
            {
                assert!(
                    is_outside(tool, serde_json::json!({key: beyond})) || beyond.is_empty(),
                    "{tool} {beyond:?}"
                );
            }
        }
        for pattern in [
            "/etc/*",
            "*/../../*",
            "{..,x}/*",
            "{a,../b}",
            "x/{/etc,y}/*",
            "{a,/etc}/*",
            "~/*",
            "{~,x}/*",
            "../../*",
            "/*",
            "\u{feff}/etc/*",
        ] {
            assert!(is_outside("Glob", serde_json::json!({"pattern": pattern})), "{pattern}");
        }
        assert!(
            is_outside("Glob", serde_json::json!({"pattern": "*", "path": "/etc"}))
                && is_outside("Glob", serde_json::json!({"path": "."}))
        );
        for pattern in ["**/*.rs", "*.rs", "src/**", "b.txt", "../a/*"] {
            assert!(
                pattern.contains("..")
                    || !is_outside("Glob", serde_json::json!({"pattern": pattern})),
                "{pattern}"
            );
        }
        assert!(
            !is_outside("Grep", serde_json::json!({"pattern": "/etc/.*"}))
                && !is_outside("WebFetch", serde_json::json!({"path": "/etc"}))
        );
        for odd in [
            Value::Null,
            serde_json::json!({"file_path": ["/etc/passwd"]}),
            serde_json::json!({"file_path": 7}),
            serde_json::json!({"file_path": "a", "path": {}}),
        ] {
            assert!(is_outside("Read", odd.clone()), "{odd}");
        }
    }

    #[test]
    fn grants_cover_what_they_name_and_nothing_besides() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (work, home) = (root.join("work[1]"), root.join("home"));
        for folder in [&work, &home, &root.join("srv")] {
            std::fs::create_dir(folder).unwrap();
        }
        std::os::unix::fs::symlink("/etc", work.join("out")).unwrap();
        std::os::unix::fs::symlink(root.join("srv"), root.join("link")).unwrap();
        let place = RunPlace { cwd: work.clone(), folder: work, home };
        let linked = format!("Edit(/{}/**)", root.join("link").display());
        let grants = [
            "Bash(git log:*)",
            "Bash(echo:*)",
            "Read",
            "Read(//srv/**)",
            &linked,
            "Write(notes/*.md)",
            "Grep(src/**)",
            "Glob(src/**)",
            "WebFetch(domain:example.org)",
            "Task",
            "Edit(~/mine/*)",
            "NotebookEdit(*)",
        ]
        .map(str::to_owned);
        let covered = |tool: &str, input: Value| cover(&grants, tool, &input, &place);
        let bash = |line: &str| covered("Bash", serde_json::json!({"command": line})) != Cover::Not;
        for line in ["git log", "echo x", "git log | echo y && echo z", "echo *"] {
            assert!(bash(line), "{line}");
        }
        for line in [
            "id",
            "ps aux",
            "lsof",
            "ip addr",
            "find .",
            "test -f /etc/shadow",
            "echo x && id",
            "echo x; id",
            "echo $(id)",
            "echo x > f",
            "git",
            "git lo*",
            "ech? x",
            "",
        ] {
            assert!(!bash(line), "{line}");
        }
        let file = |tool: &str, path: &str| covered(tool, serde_json::json!({"file_path": path}));
        assert_eq!(
            (file("Read", "/anything"), file("Read", "/srv/a"), file("NotebookEdit", "/x")),
            (Cover::Whole, Cover::ByRule, Cover::Whole)
        );
        let srv = root.join("srv");
        for (tool, path) in [
            ("Edit", srv.join("a/b").to_string_lossy().as_ref()),
            ("Edit", root.join("link/a").to_string_lossy().as_ref()),
            ("Edit", "~/mine/x"),
            ("Write", "notes/a.md"),
            ("Write", "x/../notes/a.md"),
        ] {
            assert_eq!(file(tool, path), Cover::ByRule, "{tool} {path}");
        }
        for (tool, path) in [
            ("Edit", "/srv"),
            ("Edit", "/srvx/a"),
            ("Edit", "/srv/../etc/passwd"),
            ("Edit", "~/mine/x/y"),
            ("Write", "notes/a/b.md"),
            ("Write", "a.md"),
            ("Write", "out/../notes/a.md"),
            ("Write", "../work1/notes/a.md"),
        ] {
            assert_eq!(file(tool, path), Cover::Not, "{tool} {path}");
        }
        let searched = |tool: &str, input: Value| covered(tool, input) == Cover::ByRule;
        assert!(
            searched("Grep", serde_json::json!({"pattern": "x", "path": "src"}))
                && searched("Glob", serde_json::json!({"pattern": "src/**/*.rs"}))
                && searched("Glob", serde_json::json!({"pattern": "*", "path": "src/a"}))
        );
        assert!(
            !searched("Grep", serde_json::json!({"pattern": "x"}))
                && !searched("Grep", serde_json::json!({"pattern": "x", "path": "~/src"}))
                && !searched("Glob", serde_json::json!({"pattern": "**"}))
        );
        assert_eq!(
            (
                covered("WebFetch", serde_json::json!({"url": "https://Example.org/x"})),
                covered("Agent", Value::Null)
            ),
            (Cover::ByRule, Cover::Whole)
        );
        for url in [
            "https://example.org.evil/x",
            "https://evil/example.org",
            "https://sub.example.org",
            "nothing",
            "https://example.org@evil/",
        ] {
            assert_eq!(covered("WebFetch", serde_json::json!({"url": url})), Cover::Not, "{url}");
        }
        assert_eq!(
            (covered("Bash", Value::Null), covered("New", Value::Null)),
            (Cover::Not, Cover::Not)
        );
        assert_eq!(
            cover(
                &["Bash(*)".to_owned()],
                "Bash",
                &serde_json::json!({"command": "echo $(id)"}),
                &place
            ),
            Cover::Whole
        );
    }

    #[test]
    fn the_programs_own_files_are_closed_though_the_workspace_holds_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["state/sessions", "state/workspace", "tmp/out", "src", "many/child-7"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::os::unix::fs::symlink(root.join("state"), root.join("src/link")).unwrap();
        let private = Private {
            closed: vec![root.join("state"), root.join("tmp")],
            closed_names: vec![root.join("many/child-").display().to_string()],
            open: vec![root.join("state/workspace")],
            readable: vec![root.join("tmp/out")],
        };
        let refused = |tool: &str, key: &str, path: &str| {
            private.refuses(tool, &serde_json::json!({key: path}), &place(&root)).is_some()
        };
        let closed = [
            ("Read", "file_path", "state/sessions/x"),
            ("Write", "file_path", "src/link/x"),
            ("Grep", "path", "."),
            ("Glob", "pattern", "**/*"),
            ("Grep", "other", "x"),
            ("Write", "file_path", "tmp/out/x"),
            ("Read", "file_path", "many/child-7/x"),
            ("Grep", "path", "many"),
            ("Read", "file_path", "\u{feff}src/a"),
        ];
        for (tool, key, path) in closed {
            assert!(refused(tool, key, path), "{tool} {path}");
        }
        for (tool, key, path) in [
            ("Read", "file_path", "src/a"),
            ("Write", "file_path", "state/workspace/x"),
            ("Grep", "path", "src"),
            ("Glob", "pattern", "src/**"),
            ("Read", "file_path", "tmp/out/x"),
            ("Read", "file_path", "many/other"),
        ] {
            assert!(!refused(tool, key, path), "{tool} {path}");
        }
    }
}
