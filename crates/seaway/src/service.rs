//! The gateway as a service of its user: files that a service manager reads, and the words that it is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Environment;
use crate::connect::{Change, FileChange};
use crate::process::{self, Launch, ProcessError};

/// The unit, without the program that is started.
const UNIT: &str = include_str!("../../../deploy/systemd/seaway.service");
/// The property list, without the program and the home folder.
/// How often it is looked whether an agent has gone, and how long lies between.
const LEAVING: u32 = 150;
const LOOK: Duration = Duration::from_millis(100);
const PLIST: &str = include_str!("../../../deploy/launchd/seaway.gateway.plist");
const LABEL: &str = "seaway.gateway";
/// How long a service manager may take for one word.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a service manager's own program is given.
const GIVEN: [&str; 7] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
];

/// What launchd says of an agent that it does not have.
const NOT_THERE: [&str; 3] = ["No such process", "Could not find service", "Could not find domain"];

/// Why a service manager did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("`{command}` cannot be run")]
    Run {
        command: String,
        #[source]
        source: ProcessError,
    },
    #[error("`{command}` says: {said}")]
    Refused { command: String, said: String },
}

/// What starts services for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceManager {
    Systemd,
    Launchd,
}

/// What is started, and with what.
#[derive(Debug)]
pub struct ServiceFacts<'a> {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables of this shell that it is to have. They may hold secrets: they go into a file that its owner alone reads.
    pub variables: Vec<(String, String)>,
    pub environment: &'a Environment,
    pub home: &'a Path,
}

impl ServiceManager {
    /// The one of this user here, if there is one that answers.
    pub async fn here(environment: &Environment) -> Option<Self> {
        if cfg!(target_os = "macos") {
            // Over ssh, without anybody at the screen, there is none.
            let domain = domain();
            let words = ["print", &domain];
            let asked = Self::Launchd.tell(environment, "launchctl", &words).await;
            return asked.is_ok().then_some(Self::Launchd);
        }
        let asked = Self::Systemd.tell(environment, "systemctl", &["--user", "show-environment"]);
        asked.await.is_ok().then_some(Self::Systemd)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Systemd => "a service of systemd's for you",
            Self::Launchd => "an agent of launchd's for you",
        }
    }

    /// Where what it logs can be read.
    pub fn log(self) -> &'static str {
        match self {
            Self::Systemd => "journalctl --user --unit seaway",
            Self::Launchd => "less ~/Library/Logs/seaway.log",
        }
    }

    /// The files that it reads.
    pub fn files(self, facts: &ServiceFacts<'_>) -> Vec<FileChange> {
        let whole = |path: PathBuf, text: String| FileChange { path, change: Change::Whole(text) };
        match self {
            Self::Systemd => {
                let config = facts
                    .environment
                    .get("XDG_CONFIG_HOME")
                    .map_or_else(|| facts.home.join(".config"), PathBuf::from);
                let variables = config.join("seaway/up.environment");
                vec![
                    whole(config.join("systemd/user/seaway.service"), unit(facts, &variables)),
                    whole(variables, environment_file(&facts.variables)),
                ]
            }
            Self::Launchd => {
                let agents = facts.home.join("Library/LaunchAgents");
                vec![whole(agents.join(format!("{LABEL}.plist")), property_list(facts))]
            }
        }
    }

    /// Starts what its files say, now and whenever the user signs in. Again for one that runs: as its files say now.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] with its own words.
    pub async fn start(self, facts: &ServiceFacts<'_>) -> Result<(), ServiceError> {
        let environment = facts.environment;
        match self {
            Self::Systemd => {
                let user =
                    |words: &'static [&'static str]| self.tell(environment, "systemctl", words);
                user(&["--user", "daemon-reload"]).await?;
                user(&["--user", "enable", "seaway.service"]).await?;
                user(&["--user", "restart", "seaway.service"]).await
            }
            Self::Launchd => {
                let domain = domain();
                let file = self.files(facts).remove(0).path.display().to_string();
                let target = format!("{domain}/{LABEL}");
                // Nothing is there the first time.
                let _unknown = self.tell(environment, "launchctl", &["bootout", &target]).await;
                // It may be told to go and still be there, and then there is no place for the next.
                for _ in 0..LEAVING {
                    if self.tell(environment, "launchctl", &["print", &target]).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(LOOK).await;
                }
                self.tell(environment, "launchctl", &["bootstrap", &domain, &file]).await
            }
        }
    }

    /// Stops it, for now and for later. Nothing happens where there is none. Its files are still there.
    ///
    /// # Errors
    ///
    /// [`ServiceError`] with its own words.
    pub async fn stop(self, environment: &Environment) -> Result<(), ServiceError> {
        match self {
            Self::Systemd => {
                let words = ["--user", "disable", "--now", "seaway.service"];
                match self.tell(environment, "systemctl", &words).await {
                    Err(ServiceError::Refused { said, .. }) if said.contains("does not exist") => {
                        Ok(())
                    }
                    stopped => stopped,
                }
            }
            Self::Launchd => {
                let target = format!("{}/{LABEL}", domain());
                match self.tell(environment, "launchctl", &["bootout", &target]).await {
                    Err(ServiceError::Refused { said, .. })
                        if NOT_THERE.iter().any(|words| said.contains(words)) =>
                    {
                        Ok(())
                    }
                    stopped => stopped,
                }
            }
        }
    }

    /// Has it read its files again, once they are gone.
    pub async fn forget(self, environment: &Environment) {
        if self == Self::Systemd {
            let words = ["--user", "daemon-reload"];
            if let Err(error) = self.tell(environment, "systemctl", &words).await {
                tracing::debug!(%error, "the service manager does not read its files again");
            }
        }
    }

    async fn tell(
        self,
        environment: &Environment,
        program: &str,
        words: &[&str],
    ) -> Result<(), ServiceError> {
        let given = GIVEN.iter().filter_map(|name| {
            Some(((*name).to_owned(), environment.get(name)?.to_owned().into()))
        });
        let launch = Launch {
            program: program.into(),
            arguments: words.iter().map(|word| (*word).to_owned()).collect(),
            environment: given.collect(),
            folder: "/".into(),
        };
        let command = format!("{program} {}", words.join(" "));
        let ended = process::tool(&launch, PATIENCE)
            .await
            .map_err(|source| ServiceError::Run { command: command.clone(), source })?;
        if ended.status.success() {
            return Ok(());
        }
        let said = format!("{} {}", ended.stderr.trim(), ended.stdout.trim());
        Err(ServiceError::Refused { command, said: said.trim().to_owned() })
    }
}

/// Where launchd keeps this user's agents.
fn domain() -> String {
    format!("gui/{}", rustix::process::geteuid().as_raw())
}

/// A file of ours in place of the example: without the words to its reader.
fn made(example: &str) -> String {
    let rest = example.lines().skip_while(|line| line.starts_with('#') || line.is_empty());
    let text: String = rest.map(|line| format!("{line}\n")).collect();
    format!("# Made by `seaway up`; `seaway down` takes it away.\n{text}")
}

fn unit(facts: &ServiceFacts<'_>, variables: &Path) -> String {
    // Of the words of a command variables are made, of an assignment's none.
    let command = facts.command.iter().map(|word| systemd_word(word).replace('$', "$$"));
    let command: Vec<String> = command.collect();
    let path = facts.environment.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
    let example = made(UNIT);
    let lines = example.lines().map(|line| match line.split_once('=') {
        Some(("ExecStart", _)) => format!("ExecStart={}\n", command.join(" ")),
        Some(("Environment", value)) if value.starts_with("PATH=") => format!(
            "EnvironmentFile=-{}\nEnvironment={}\n",
            variables.display().to_string().replace('%', "%%"),
            systemd_word(&format!("PATH={path}"))
        ),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

/// A word as systemd takes it: no specifier, no end.
fn systemd_word(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{}\"", escaped.replace('\n', "\\n"))
}

/// Variables as systemd reads them from a file.
fn environment_file(variables: &[(String, String)]) -> String {
    let mut text =
        String::from("# Made by `seaway up` of what its shell had; `seaway down` takes it away.\n");
    for (name, value) in variables {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('`', "\\`");
        text += &format!("{name}=\"{}\"\n", escaped.replace('$', "\\$"));
    }
    text
}

fn property_list(facts: &ServiceFacts<'_>) -> String {
    let quoted = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let words: String = facts
        .command
        .iter()
        .map(|word| format!("    <string>{}</string>\n", quoted(word)))
        .collect();
    let path = facts.environment.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
    let mut variables = vec![("PATH".to_owned(), path.to_owned())];
    variables.extend(facts.variables.iter().cloned());
    let variables: String = variables
        .iter()
        .map(|(name, value)| {
            format!("    <key>{}</key>\n    <string>{}</string>\n", quoted(name), quoted(value))
        })
        .collect();
    let text = PLIST.replace("HOME_FOLDER", &quoted(&facts.home.display().to_string()));
    let text = between(&text, "<key>ProgramArguments</key>\n  <array>\n", "  </array>", &words);
    let text =
        between(&text, "<key>EnvironmentVariables</key>\n  <dict>\n", "  </dict>", &variables);
    between(&text, "<!-- ", " -->", "Made by `seaway up`; `seaway down` takes it away.")
}

/// A text with other words between two marks.
fn between(text: &str, after: &str, before: &str, words: &str) -> String {
    let Some((head, rest)) = text.split_once(after) else { return text.to_owned() };
    let Some((_, tail)) = rest.split_once(before) else { return text.to_owned() };
    format!("{head}{after}{words}{before}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(environment: &Environment) -> ServiceFacts<'_> {
        ServiceFacts {
            command: ["/opt/my tools/seaway", "--set", "alias.x=100%\"$y", "serve"]
                .map(str::to_owned)
                .to_vec(),
            variables: vec![("ANTHROPIC_API_KEY".to_owned(), "sk-\"a\\$b`".to_owned())],
            environment,
            home: Path::new("/home/ada"),
        }
    }

    #[test]
    fn a_unit_starts_this_very_program_with_these_words() {
        let environment = Environment::of([("PATH".to_owned(), "/a b$:/usr/bin".to_owned())]);
        let files = ServiceManager::Systemd.files(&facts(&environment));
        let Change::Whole(unit) = &files[0].change else { panic!("{files:?}") };
        assert_eq!(files[0].path, Path::new("/home/ada/.config/systemd/user/seaway.service"));
        for line in [
            r#"ExecStart="/opt/my tools/seaway" "--set" "alias.x=100%%\"$$y" "serve""#,
            r#"Environment="PATH=/a b$:/usr/bin""#,
            "EnvironmentFile=-/home/ada/.config/seaway/up.environment",
            "EnvironmentFile=-%h/.config/seaway/environment",
            "KillMode=process",
            "WantedBy=default.target",
        ] {
            assert!(unit.lines().any(|of| of == line), "{line}\n{unit}");
        }
        assert!(!unit.contains("sk-"), "a unit can be read by everybody");
        let Change::Whole(variables) = &files[1].change else { panic!("{files:?}") };
        assert!(variables.ends_with("ANTHROPIC_API_KEY=\"sk-\\\"a\\\\\\$b\\`\"\n"), "{variables}");
    }

    #[test]
    fn a_property_list_has_words_and_variables_of_its_own() {
        let environment = Environment::of([("PATH".to_owned(), "/usr/bin".to_owned())]);
        let files = ServiceManager::Launchd.files(&facts(&environment));
        let Change::Whole(list) = &files[0].change else { panic!("{files:?}") };
        assert!(list.contains("<string>/opt/my tools/seaway</string>\n    <string>--set</string>"));
        assert!(list.contains("<key>ANTHROPIC_API_KEY</key>"));
        assert!(
            list.contains("/home/ada/Library/Logs/seaway.log") && !list.contains("HOME_FOLDER")
        );
        assert!(!list.contains("/usr/bin/env"), "{list}");
    }
}
