//! What a line for the shell does, as far as it only names commands.
//!
//! A rule such as `git log:*` is about commands. A line that makes its words while it runs (`$`, backticks), writes
//! into files or starts something beside it can do anything whatever its words are, so it is not
//! taken apart any further: no rule covers it. Names of files that the shell puts in (`*`, `~`) may stand where a
//! rule is open, and nowhere else.

use glob::Pattern;

/// A word of a command, without its quotes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Word {
    text: String,
    /// The shell may make other words of it: names of files, or a home folder.
    expands: bool,
}

/// The simple commands of a line, each as its words; `None` if the line does more.
pub(super) fn commands(line: &str) -> Option<Vec<Vec<Word>>> {
    let mut reader = ShellReader::default();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => loop {
                match chars.next()? {
                    '\'' => break reader.quote(),
                    c => reader.push(c),
                }
            },
            '"' => loop {
                match chars.next()? {
                    '"' => break reader.quote(),
                    '$' | '`' => return None,
                    '\\' => match chars.next()? {
                        c @ ('$' | '`' | '"' | '\\') => reader.push(c),
                        '\n' => return None,
                        c => {
                            reader.push('\\');
                            reader.push(c);
                        }
                    },
                    c => reader.push(c),
                }
            },
            '\\' => reader.push(chars.next().filter(|c| *c != '\n')?),
            ' ' | '\t' => reader.word(),
            '\n' => reader.command(),
            ';' if chars.peek() != Some(&';') => reader.command(),
            '&' | '|' if chars.peek() == Some(&c) => {
                chars.next();
                reader.command();
            }
            '|' if chars.peek() != Some(&'&') => reader.command(),
            '$' | '`' | '(' | ')' | '<' | '>' | '{' | '}' | '&' | '|' | ';' => return None,
            '#' | '!' if reader.word.is_none() => return None,
            c if c.is_control() => return None,
            '*' | '?' | '[' => reader.expand(c),
            '~' if reader.word.is_none() => reader.expand(c),
            c => reader.push(c),
        }
    }
    reader.command();
    // What stands before a command in this way is its environment, with which it can be made another.
    let sets = |words: &Vec<Word>| words.first().is_some_and(|word| word.text.contains('='));
    (!reader.commands.is_empty() && !reader.commands.iter().any(sets)).then_some(reader.commands)
}

#[derive(Default)]
struct ShellReader {
    commands: Vec<Vec<Word>>,
    words: Vec<Word>,
    word: Option<Word>,
}

impl ShellReader {
    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().text.push(c);
    }

    fn expand(&mut self, c: char) {
        self.push(c);
        self.word.get_or_insert_default().expands = true;
    }

    /// Quotes make a word even around nothing.
    fn quote(&mut self) {
        self.word.get_or_insert_default();
    }

    fn word(&mut self) {
        self.words.extend(self.word.take());
    }

    fn command(&mut self) {
        self.word();
        if !self.words.is_empty() {
            self.commands.push(std::mem::take(&mut self.words));
        }
    }
}

/// True if a rule names a command: `git status` that alone, `git log:*` or `git log *` whatever follows, and a `*`
/// within a word whatever stands there. A word that the shell expands fits none that the rule names.
pub(super) fn names(rule: &str, command: &[Word]) -> bool {
    let open = rule.strip_suffix(":*").or_else(|| rule.strip_suffix(" *"));
    let words: Vec<&str> = open.unwrap_or(rule).split_whitespace().collect();
    let fits = |(word, said): (&&str, &Word)| {
        let same = if word.contains('*') {
            Pattern::new(&literal(word)).is_ok_and(|pattern| pattern.matches(&said.text))
        } else {
            *word == said.text
        };
        same && !said.expands
    };
    let enough =
        if open.is_some() { words.len() <= command.len() } else { words.len() == command.len() };
    !words.is_empty() && enough && words.iter().zip(command).all(fits)
}

/// Only `*` stands for something else.
fn literal(word: &str) -> String {
    word.chars().map(|c| if "?[]".contains(c) { format!("[{c}]") } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_the_commands_that_it_names() {
        let table: [(&str, &[&[&str]]); 9] = [
            ("git log -n 3", &[&["git", "log", "-n", "3"]]),
            ("  a   b\t c ", &[&["a", "b", "c"]]),
            ("a && b || c; d | e\nf;", &[&["a"], &["b"], &["c"], &["d"], &["e"], &["f"]]),
            (r#"echo 'a $b' "c \" d" e\ f"#, &[&["echo", "a $b", "c \" d", "e f"]]),
            ("echo ''", &[&["echo", ""]]),
            ("'git' l\"o\"g", &[&["git", "log"]]),
            ("git log A=1", &[&["git", "log", "A=1"]]),
            ("echo a#b !", &[]),
            ("echo a#b x!", &[&["echo", "a#b", "x!"]]),
        ];
        for (line, expect) in table {
            let came: Vec<Vec<String>> = commands(line)
                .unwrap_or_default()
                .into_iter()
                .map(|words| words.into_iter().map(|word| word.text).collect())
                .collect();
            assert_eq!(came, expect, "{line}");
        }
    }

    #[test]
    fn a_line_that_does_more_is_covered_by_no_rule() {
        let lines = [
            "",
            " ",
            "echo $(id)",
            "echo `id`",
            "echo $HOME",
            "echo \"$HOME\"",
            "echo \"`id`\"",
            "echo x > /etc/passwd",
            "echo x >> f",
            "cat < f",
            "cat <<E\nx\nE",
            "(id)",
            "{ id; }",
            "echo {a,b}",
            "id & echo",
            "echo & id",
            "a |& b",
            "case x in x) id;; esac",
            "echo 'open",
            "echo \"open",
            "echo \\",
            "echo a\\\nb",
            "# echo",
            "! id",
            "echo a\rid",
            "echo a\0b",
            "echo <(id)",
            "f() { id; }",
            "echo $'\\n'",
            "a &&& b",
            "A=1 git log",
            "git log; npm=1 touch x",
            "PATH+=x git log",
        ];
        for line in lines {
            assert_eq!(commands(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_rule_names_commands_and_no_others() {
        let check = |rule: &str, line: &str| names(rule, &commands(line).unwrap()[0]);
        for (rule, line) in [
            ("git log:*", "git log"),
            ("git log:*", "git log -p x"),
            ("git log *", "git log -p"),
            ("git status", "git status"),
            ("npm run test*", "npm run test:unit"),
            ("echo:*", "echo '$x'"),
        ] {
            assert!(check(rule, line), "{rule} {line}");
        }
        for (rule, line) in [
            ("git log:*", "git logs"),
            ("git log:*", "git"),
            ("git status", "git status -s"),
            ("echo:*", "id"),
            ("echo:*", "echox"),
            ("echo:*", "/bin/echo x"),
            ("git log:*", "git -c x log"),
            ("npm run test*", "npm run build"),
            ("git [ab]:*", "git a"),
            ("git log:*", "git lo? x"),
            ("npm run test*", "npm run test*"),
            ("echo a", "echo [a]"),
            ("ls ~", "ls ~"),
        ] {
            assert!(!check(rule, line), "{rule} {line}");
        }
    }
}
