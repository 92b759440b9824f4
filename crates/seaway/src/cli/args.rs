//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command as Builder, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{Config, Environment, Kind, Loaded, SETTINGS, Setting, Sources};

/// One local address for Claude
#[derive(Debug, Parser)]
#[command(
    name = "seaway",
    version,
    max_term_width = 100,
    after_help = "Without a command Seaway serves. `seaway demo` shows it all without a key; `--help` tells of every setting."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Read this file in place of the usual one
    #[arg(long, global = true, value_name = "FILE", help_heading = "Configuration")]
    config: Option<PathBuf>,
    /// Read variables from this file too
    #[arg(
        long,
        global = true,
        hide_short_help = true,
        value_name = "FILE",
        help_heading = "Configuration"
    )]
    env_file: Option<PathBuf>,
    /// Set any setting by its key, such as `upstream.api.base_url=…`
    #[arg(long, global = true, value_name = "KEY=VALUE", help_heading = "Configuration")]
    set: Vec<String>,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Log warnings and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Go straight to the machine that ssh logs in to, by no other
    #[arg(long, global = true, conflicts_with = "argo.jump", hide_short_help = true, help_heading = ARGO)]
    no_jump: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve (the default)
    Serve(ServeOptions),
    /// Show the whole gateway on the simulated upstream, then stay up to play with
    Demo {
        /// Leave when everything was shown
        #[arg(long)]
        once: bool,
    },
    /// Check each layer and say what is wrong and what to do
    Doctor {
        /// Send one small real request to each upstream too
        #[arg(long)]
        live: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Tell what runs here; exit 1 if nothing does
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Exit 1 too unless a gateway here could serve a request now
        #[arg(long)]
        ready: bool,
    },
    /// Sign the Claude Code program in, through itself
    Login,
    /// Sign the Claude Code program out
    Logout,
    /// Set a client up to use this gateway, or take that back; without a name, list the clients
    Connect(ConnectOptions),
    /// Start the gateway as a service, connect every client that is here, and try each
    ///
    /// First it says what it would do. Without a service manager it serves in this terminal. `seaway down` takes all of it back.
    Up(UpOptions),
    /// Take back what `up` and `connect` did: every file as it was, the service gone
    Down(DownOptions),
    /// Start a client with the right environment; no file is touched
    #[command(
        after_help = "A gateway that runs is used; else one serves for as long as the client runs."
    )]
    Run {
        #[command(flatten)]
        budget: BudgetOptions,
        /// The client and its arguments, such as `-- claude` or `-- python app.py`
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            required = true,
            value_name = "COMMAND"
        )]
        command: Vec<String>,
    },
    /// Open the upstream's tunnel for other machines, and say what to run there
    Tunnel(TunnelOptions),
    /// Open the tunnel here, hand it on to another machine, and serve here too
    Relay(RelayOptions),
    /// Let ssh log in again after it was locked out
    Unlock,
    /// Show or change the local key
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Teams: keys with budgets over all of them
    Team {
        #[command(subcommand)]
        command: TeamCommand,
    },
    /// Print a line for Claude Code's status line, from the JSON that it gives on standard input
    Statusline,
    /// Show tokens, cost and requests by day, model and caller
    Usage(UsageOptions),
    /// Show what a model costs, and by which rules; without a name all that have a price
    Price(PriceOptions),
    /// List sign-ins, refused keys, changed keys and cleared lock-outs, the newest first
    Audit(AuditOptions),
    /// List requests, the newest first; `explain` tells more of one
    Requests(RequestsOptions),
    /// Show what was done with one request
    Explain {
        /// The request's id, as its `request-id` header says
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show or check the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print completions for a shell
    Completions {
        /// Which one
        shell: Shell,
    },
    /// Print the manual page
    Man {
        /// Write a page for each command into this folder in its place
        #[arg(long, value_name = "FOLDER")]
        pages: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(super) struct ServeOptions {
    /// Take the place of the gateway that serves on this address; its tunnel stays
    #[arg(long)]
    pub restart: bool,
}

#[derive(Debug, Args)]
pub(super) struct UpOptions {
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do it without asking
    #[arg(long, short)]
    pub yes: bool,
    /// Do not try the clients' settings with a small request each
    #[arg(long)]
    pub no_ask: bool,
    /// Serve in this terminal, also where a service could be started
    #[arg(long)]
    pub foreground: bool,
}

#[derive(Debug, Args)]
pub(super) struct DownOptions {
    /// Remove the state folder too: records, stored responses, the local key
    #[arg(long)]
    pub purge: bool,
}

#[derive(Debug, Args)]
pub(super) struct ConnectOptions {
    /// Which one, such as `claude` or `codex`
    pub client: Option<String>,
    /// The model that it asks for unless told otherwise
    #[arg(long)]
    pub model: Option<String>,
    /// Put back what was there before
    #[arg(long, conflicts_with_all = ["model", "print", "force", "budget"])]
    pub undo: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print what would be written into an empty file
    #[arg(long, conflicts_with = "dry_run")]
    pub print: bool,
    /// Do not ask a small thing through the new settings, to see whether it comes
    #[arg(long)]
    pub no_ask: bool,
    /// Replace what somebody else has written there; the undo brings it back
    #[arg(long)]
    pub force: bool,
    /// Have Claude Code show what its session cost and what is left of a budget, in its status line
    #[arg(long, conflicts_with = "undo")]
    pub statusline: bool,
    #[command(flatten)]
    pub budget: BudgetOptions,
}

#[derive(Debug, Args)]
pub(super) struct BudgetOptions {
    /// Have Claude Code show how much of the key's budget is used, and warn near its end; for that it leaves some features out
    #[arg(long)]
    pub budget: bool,
    /// Use the key in this file, such as one that was given out; `-` reads it from standard input
    #[arg(long, value_name = "FILE", requires = "budget")]
    pub key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct TunnelOptions {
    #[command(subcommand)]
    pub command: Option<TunnelCommand>,
    /// Listen here, so that other machines can connect; loopback otherwise
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub bind: String,
    /// Let ssh ask for a password or second factor in this terminal
    #[arg(long)]
    pub interactive: bool,
    /// Leave when it is open; nobody mends it then
    #[arg(long)]
    pub detach: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum TunnelCommand {
    /// Close the tunnels that are open on this machine; the next one costs a login
    Close,
}

#[derive(Debug, Args)]
pub(super) struct RelayOptions {
    /// The machine to hand it to, as ssh knows it
    #[arg(value_name = "HOST")]
    pub to: String,
    /// Listen there on this address; loopback otherwise. Its sshd decides (GatewayPorts)
    #[arg(long, value_name = "ADDRESS", default_value = "localhost")]
    pub bind: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Print the local key, and make it if there is none
    Show,
    /// Give out a key; it is printed once, and never again
    Create {
        /// By which it is known in usage, logs and errors
        name: String,
        #[command(flatten)]
        options: KeyOptions,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the keys that were given out, with what they spent and what is left
    List {
        /// Also those that were revoked
        #[arg(long)]
        all: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change what is set for a key, at once; what is not named stays, and `none` clears
    Set {
        /// Whose; also that of a key of the configuration
        name: String,
        #[command(flatten)]
        options: KeyOptions,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a key back, for good and at once
    Revoke {
        /// Whose
        name: String,
    },
    /// Make another key in the place of one; without a name the local key, which clients need from then on
    Rotate {
        /// Whose, of those that were given out
        name: Option<String>,
        /// How long the old one still lets in
        #[arg(long, value_name = "TIME", default_value = crate::admin::GRACE)]
        grace: String,
    },
    /// List the programs that signed in with a key (Claude Code's `/login`), or end some
    Logins {
        /// Sign one out, by the id that the list has; may be named several times
        #[arg(long, value_name = "ID")]
        end: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take over another gateway's keys, teams and budgets
    Import {
        /// Which gateway's
        #[arg(value_parser = ["litellm"])]
        gateway: String,
        /// Its export: JSON of `/key/list?return_full_object=true`, or rows of its tables
        file: PathBuf,
        /// Only say what would be taken over
        #[arg(long)]
        dry_run: bool,
    },
    /// Print the hash of a key, for `[keys]` in the configuration; the key is read from standard input
    Hash {
        /// Make a new key, and show it once
        #[arg(long)]
        new: bool,
    },
}

/// What may be set for a key and for a team.
#[derive(Debug, Args)]
pub(super) struct CapOptions {
    /// Dollars in a time: `20/day`, `50/week`, `200/month`, `500/total`; may be repeated
    #[arg(long, value_name = "DOLLARS/TIME")]
    pub budget: Vec<String>,
    /// Requests a minute
    #[arg(long, value_name = "N")]
    pub rpm: Option<String>,
    /// Tokens a minute, without those that are read from the cache
    #[arg(long, value_name = "N")]
    pub tpm: Option<String>,
    /// Requests under way at once
    #[arg(long, value_name = "N")]
    pub concurrent: Option<String>,
}

/// What may be set for a key.
#[derive(Debug, Args)]
pub(super) struct KeyOptions {
    /// The team whose budgets it also has to fit
    #[arg(long)]
    pub team: Option<String>,
    #[command(flatten)]
    pub caps: CapOptions,
    /// The models that it may ask for, by patterns such as `claude-haiku*`
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub models: Vec<String>,
    /// The upstreams that it may use
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub upstreams: Vec<String>,
    /// How long it lets in, or until when: `90d`, `2027-01-01T00:00:00Z`
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
    /// The model that is asked instead, near its budgets' end
    #[arg(long, value_name = "MODEL")]
    pub spill: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum TeamCommand {
    /// Make a team, or change its budgets and rates, at once; what is not named stays, and `none` clears
    Set {
        /// Which one
        name: String,
        #[command(flatten)]
        caps: CapOptions,
    },
    /// List the teams, with what they spent and what is left
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a team that no key is in
    Remove {
        /// Which one
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every effective setting with where it came from
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Only what is not as it ships
        #[arg(long)]
        changed: bool,
    },
    /// Check the configuration and tell every mistake
    Check,
    /// Print where the file is, or would be
    Path,
    /// Print a JSON schema of the file
    Schema {
        /// Print the settings as a Markdown table in its place
        #[arg(long)]
        table: bool,
    },
    /// Print what another tool's settings amount to here, as a file of ours
    ///
    /// Knows a `.env`, claude-ws-proxy's `config.json`, horselock/claude-code-proxy's `config.txt` and presets,
    /// argo-proxy's and LiteLLM's `config.yaml`, claude-code-router's `config.json`. What has no counterpart is told
    /// in remarks. Credentials that stand in those files stand in what is printed.
    Import {
        /// Its files; of two that say the same, the later one counts
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Whose they are, where that cannot be told by what they hold
        #[arg(long, value_name = "TOOL", value_parser = clap::builder::PossibleValuesParser::new(crate::import::Tool::names()))]
        from: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct AuditOptions {
    /// How far back, such as `7d` or `12h`
    #[arg(long, default_value = "30d", value_name = "TIME")]
    pub since: String,
    /// How many at most
    #[arg(long, default_value_t = 100)]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct PriceOptions {
    /// A model by its full name, such as `claude-opus-5-5`
    pub model: Option<String>,
    /// The day whose prices are shown, such as `2026-10-07`; today's otherwise
    #[arg(long, value_name = "DAY")]
    pub at: Option<jiff::civil::Date>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct UsageOptions {
    /// How far back, such as `7d` or `12h`
    #[arg(long, default_value = "30d", value_name = "TIME")]
    pub since: String,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print comma-separated values
    #[arg(long)]
    pub csv: bool,
    /// Sum up by one thing: `session`, `agent`, `key`, `team`, `client`, `model`, `upstream` or `day`
    #[arg(long, value_name = "WHAT", conflicts_with = "csv", value_parser = ["session", "agent", "key", "team", "client", "model", "upstream", "day"])]
    pub by: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RequestsOptions {
    /// How far back, such as `1h` or `7d`
    #[arg(long, default_value = "1d", value_name = "TIME")]
    pub since: String,
    /// Only models whose name holds this
    #[arg(long, value_name = "TEXT")]
    pub model: Option<String>,
    /// Only this caller's; `(refused)` for those who were not let in
    #[arg(long, value_name = "NAME")]
    pub caller: Option<String>,
    /// Only those that went to this upstream
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Only answers with this status, or with its first digit: `429`, `5`
    #[arg(long, value_name = "STATUS")]
    pub status: Option<u16>,
    /// Only those that did not end with a whole answer
    #[arg(long)]
    pub failed: bool,
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What `-h` shows of the settings: what most people set.
const COMMON: [&str; 4] = ["listen", "port", "default_upstream", "model.default"];
/// The flags of an upstream behind ssh.
const ARGO: &str = "With `--upstream argo`, or another upstream behind ssh";

/// A flag for each setting that has one, made from the table of settings.
#[derive(Debug, Default)]
struct SettingFlags(Vec<(String, String)>);

impl Args for SettingFlags {
    fn augment_args(command: Builder) -> Builder {
        SETTINGS.iter().filter_map(|setting| Some((setting, setting.flag()?))).fold(
            command,
            |command, (setting, flag)| {
                let heading = if setting.path.starts_with("argo.") { ARGO } else { "Settings" };
                let mut arg = Arg::new(setting.path)
                    .long(flag)
                    .global(true)
                    .help(setting.about)
                    .help_heading(heading)
                    .value_name(placeholder(setting));
                arg = arg.hide_short_help(!COMMON.contains(&setting.path));
                arg = match setting.kind {
                    // `--direct` alone says yes.
                    Kind::Flag => arg.num_args(0..=1).default_missing_value("true"),
                    _ => arg.num_args(1).allow_hyphen_values(true),
                };
                if setting.path == "default_upstream" {
                    arg = arg.visible_alias("upstream");
                }
                command.arg(arg)
            },
        )
    }

    fn augment_args_for_update(command: Builder) -> Builder {
        Self::augment_args(command)
    }
}

fn placeholder(setting: &Setting) -> &'static str {
    match setting.kind {
        Kind::Text | Kind::TextMap | Kind::AnyMap => "TEXT",
        Kind::Flag => "BOOL",
        Kind::Count | Kind::Amount => "N",
        Kind::Size => "SIZE",
        Kind::Span => "TIME",
        Kind::Choice(_) => "CHOICE",
        Kind::Texts | Kind::Counts => "LIST",
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = SETTINGS.iter().filter(|setting| setting.flag().is_some());
        let given = given.filter_map(|setting| {
            Some((setting.path.to_owned(), matches.get_one::<String>(setting.path)?.clone()))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Cli {
    /// Where the configuration is to be read from.
    pub(super) fn sources(&self) -> anyhow::Result<Sources> {
        let mut environment = Environment::capture();
        if let Some(file) = &self.env_file {
            environment
                .add_file(file)
                .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", file.display()))?;
        }
        let mut flags = self.settings.0.clone();
        for pair in &self.set {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| super::UsageError(format!("--set {pair}: expected KEY=VALUE")))?;
            flags.push((key.trim().to_owned(), value.to_owned()));
        }
        let level = match (self.quiet, self.verbose) {
            (true, _) => Some("warn"),
            (false, 0) => None,
            (false, 1) => Some("debug"),
            (false, _) => Some("trace"),
        };
        if self.no_jump {
            flags.push(("argo.jump".to_owned(), String::new()));
        }
        if self.verbose > 0 {
            flags.push(("ssh_verbose".to_owned(), self.verbose.min(3).to_string()));
        }
        flags.extend(level.map(|level| ("log_level".to_owned(), level.to_owned())));
        Ok(Sources { file: self.config.clone(), flags, environment })
    }

    /// Reads the configuration.
    pub(super) fn load(&self) -> anyhow::Result<Loaded> {
        Ok(Config::load(&self.sources()?)?)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_has_a_description() {
        fn walk(command: &clap::Command) {
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some_and(|help| !help.to_string().trim().is_empty()),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
            assert!(command.get_about().is_some(), "{}", command.get_name());
            command.get_subcommands().for_each(walk);
        }
        let mut command = Cli::command();
        command.build();
        walk(&command);
    }

    #[test]
    fn a_setting_has_one_name() {
        let cli = Cli::try_parse_from([
            "seaway",
            "serve",
            "--port",
            "1",
            "--model-default",
            "m",
            "--upstream",
            "u",
            "--set",
            "upstream.u.kind=sandbox",
        ])
        .unwrap();
        let flags = cli.sources().unwrap().flags;
        let expect = [
            ("port", "1"),
            ("default_upstream", "u"),
            ("model.default", "m"),
            ("upstream.u.kind", "sandbox"),
        ];
        assert_eq!(flags, expect.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let cli = Cli::try_parse_from([
            "seaway",
            "serve",
            "--direct",
            "--no-jump",
            "--env",
            "test",
            "-vv",
        ])
        .unwrap();
        let flags = cli.sources().unwrap().flags;
        let expect = [
            ("argo.env", "test"),
            ("argo.direct", "true"),
            ("argo.jump", ""),
            ("ssh_verbose", "2"),
            ("log_level", "trace"),
        ];
        assert_eq!(flags, expect.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
