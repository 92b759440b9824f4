//! `seaway up` and `seaway down`: everything that there is to set up here, at once, and back.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use super::args::{Cli, DownOptions, UpOptions};
use super::{UsageError, facts, serve, trial};
use crate::config::{
    Config, Layers, Loaded, Sources, UpstreamConfig, UpstreamPlace, find_program, shown,
};
use crate::connect::clients::{CLIENTS, ClientSetup, line};
use crate::connect::disk::UndoJournal;
use crate::connect::{Facts, Setup};
use crate::process::{self, Launch, Signal};
use crate::service::{ServiceFacts, ServiceManager};

/// What is remembered of the service, beside the clients.
const SERVICE: &str = "service";
/// How long a gateway may take until it serves.
const STARTING: Duration = Duration::from_secs(30);
/// Variables of a shell that a service would not have: who one is, and by which way.
const CARRIED: [&str; 19] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "CLAUDE_ACCESS_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CONFIG_DIR",
    "CLAUDE_PATH",
    "PROXY_API_KEY",
    "CELS_USERNAME",
    "ARGO_USER",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
];

/// What is done, and with what.
struct UpPlan<'a> {
    cli: &'a Cli,
    config: &'a Config,
    sources: &'a Sources,
    /// Variables that the configuration names.
    named: Vec<String>,
    facts: Facts,
    clients: Vec<(&'static ClientSetup, Setup)>,
    manager: Option<ServiceManager>,
    runs: bool,
    /// Clients are asked to prove themselves.
    asks: bool,
}

/// What came of one client.
struct UpRow {
    client: &'static str,
    done: String,
    good: bool,
}

pub(super) fn up(cli: &Cli, options: &UpOptions) -> anyhow::Result<ExitCode> {
    let sources = cli.sources()?;
    let Loaded { config, layers, .. } = Config::load(&sources)?;
    if config.upstreams.is_empty() {
        anyhow::bail!(
            "there is no way to Claude here yet: set ANTHROPIC_API_KEY, or sign Claude Code in (`seaway login`), or configure an [upstream.NAME]; `seaway up --upstream sandbox` tries everything on the simulated one"
        );
    }
    if let Some((key, _)) = sources.flags.iter().find(|(key, value)| is_secret(key, value)) {
        anyhow::bail!(
            "`{key}` was given on this command line, where everybody could read it as long as the service runs; put it into the configuration file, or give the variable, the file or the command that has it"
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (facts, clients) = clients(cli, &config, &sources)?;
    let manager = if options.foreground {
        None
    } else {
        runtime.block_on(ServiceManager::here(&sources.environment))
    };
    let plan = UpPlan {
        cli,
        clients,
        runs: serve::running(&config).is_some(),
        named: named(&layers),
        asks: !options.no_ask,
        config: &config,
        sources: &sources,
        facts,
        manager,
    };
    plan.show();
    if options.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if !options.yes && !agreed()? {
        eprintln!("nothing was changed");
        return Ok(ExitCode::FAILURE);
    }
    let journal = UndoJournal::open(&std::path::absolute(&config.state_dir)?)?;
    match (plan.runs, plan.manager) {
        (true, _) => {}
        (false, Some(manager)) => plan.start(&journal, manager, &runtime)?,
        (false, None) => return plan.in_this_terminal(&journal),
    }
    plan.connect(&journal)
}

/// The clients that are here, with what each is to be told.
fn clients(
    cli: &Cli,
    config: &Config,
    sources: &Sources,
) -> anyhow::Result<(Facts, Vec<(&'static ClientSetup, Setup)>)> {
    let facts = facts::collect(cli, config, sources.environment.clone(), None)?;
    let all = CLIENTS.iter().map(|client| (client, client.setup(&facts)));
    let here = all.filter(|(client, setup)| is_here(client, setup, &facts)).collect();
    Ok((facts, here))
}

/// True for a setting that is a credential, or may hold one.
fn is_secret(key: &str, value: &str) -> bool {
    let ends = ["api_key", "bearer", "api_key.value", "bearer.value", "headers"];
    let is = |end: &str| key == end || key.ends_with(&format!(".{end}"));
    key.starts_with("keys")
        || key.contains(".headers.")
        || ends.iter().any(|end| is(end))
        || (key.ends_with("proxy") && value.contains('@'))
}

fn goes_by_ssh(upstream: &UpstreamConfig) -> bool {
    matches!(&upstream.place, UpstreamPlace::Api(api) if api.via.is_some())
}

/// The variables that settings refer to: what is in them the service needs too.
fn named(layers: &Layers) -> Vec<String> {
    let settings = shown(layers).into_iter();
    let named = settings.filter(|setting| setting.key.rsplit('.').next() == Some("env"));
    named.filter_map(|setting| setting.value.as_str().map(str::to_owned)).collect()
}

/// A client is here if its program is, or its settings are.
fn is_here(client: &ClientSetup, setup: &Setup, facts: &Facts) -> bool {
    let path = facts.environment.get("PATH").unwrap_or_default();
    let found = |program: &&str| find_program(Some(Path::new(program)), path).is_some();
    !setup.files.is_empty()
        && (client.programs.iter().any(found) || setup.files.iter().any(|file| file.path.exists()))
}

/// Asks whoever sits there.
fn agreed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(UsageError(
            "nobody is there to agree: say `--yes`, or `--dry-run` to see what would be done"
                .into(),
        )
        .into());
    }
    eprint!("go on? [Y/n] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}

impl UpPlan<'_> {
    /// What is here, and what would be done.
    fn show(&self) {
        println!("here:");
        for upstream in &self.config.upstreams {
            println!("  {:<12} {}", upstream.name.0, upstream.told);
        }
        let found: Vec<&str> = self.clients.iter().map(|(client, _)| client.about).collect();
        println!(
            "  clients      {}",
            if found.is_empty() { "none that are known".to_owned() } else { found.join(", ") }
        );
        if !self.config.upstreams.iter().any(|upstream| &*upstream.name.0 == "argo")
            && self.knows_argonne()
        {
            println!(
                "  ssh          knows hosts at Argonne: `seaway up --upstream argo` goes by them"
            );
        }
        println!("what is done:");
        if self.runs {
            println!("  the gateway runs already, at {}", self.facts.url);
        } else if let Some(manager) = self.manager {
            println!("  the gateway is started as {}, at {}:", manager.name(), self.facts.url);
            let service = self.service();
            for file in manager.files(&service) {
                println!("    writes {}", file.path.display());
            }
            let names: Vec<&str> =
                service.variables.iter().map(|(name, _)| name.as_str()).collect();
            if !names.is_empty() {
                println!("    which has from this shell: {}", names.join(", "));
            }
            if self.config.upstreams.iter().any(|upstream| goes_by_ssh(upstream))
                && self.sources.environment.get("SSH_AUTH_SOCK").is_some()
            {
                println!(
                    "    which has no ssh agent of this shell's: its socket goes with your sign-in"
                );
            }
        } else {
            println!(
                "  the gateway is started in this terminal, at {}, and ends with it",
                self.facts.url
            );
        }
        for (client, setup) in &self.clients {
            let files: Vec<String> =
                setup.files.iter().map(|file| file.path.display().to_string()).collect();
            println!("  {} is connected: changes {}", client.about, files.join(" and "));
        }
        if self.asks && !self.clients.is_empty() {
            println!(
                "  each client's settings are tried with one small request to your upstream (`--no-ask` does not)"
            );
        }
        let words = command(self.sources, &self.facts);
        let same: Vec<String> = words.into_iter().skip(1).filter(|word| word != "serve").collect();
        let same = if same.is_empty() { String::new() } else { format!("{} ", line(&same)) };
        println!("`seaway {same}down` takes all of it back.");
    }

    fn knows_argonne(&self) -> bool {
        let ssh = self.facts.home.join(".ssh/config");
        std::fs::read_to_string(ssh).is_ok_and(|text| text.contains("cels.anl.gov"))
    }

    fn service(&self) -> ServiceFacts<'_> {
        let environment = &self.sources.environment;
        let carried = environment
            .iter()
            .filter(|(name, _)| {
                CARRIED.contains(name)
                    || name.starts_with("SEAWAY_")
                    || self.named.iter().any(|named| named == name)
            })
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        ServiceFacts {
            command: command(self.sources, &self.facts),
            variables: carried.collect(),
            environment,
            home: &self.facts.home,
        }
    }

    /// Starts the gateway as a service, and waits until it serves.
    fn start(
        &self,
        journal: &UndoJournal,
        manager: ServiceManager,
        runtime: &tokio::runtime::Runtime,
    ) -> anyhow::Result<()> {
        let service = self.service();
        journal.connect(SERVICE, &manager.files(&service), false, false)?;
        runtime.block_on(manager.start(&service))?;
        if !self.serves(|| false) {
            anyhow::bail!(
                "the service was started, and nobody serves at {} after {} seconds; `{}` says why, and `seaway down` takes it back",
                self.facts.url,
                STARTING.as_secs(),
                manager.log()
            );
        }
        eprintln!("the gateway serves at {}", self.facts.url);
        Ok(())
    }

    /// Waits until the gateway serves; false if it does not in time, or will not.
    fn serves(&self, over: impl Fn() -> bool) -> bool {
        let began = Instant::now();
        while serve::running(self.config).is_none() {
            if began.elapsed() > STARTING || over() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }

    /// Serves in this terminal, and sets the clients up meanwhile.
    fn in_this_terminal(&self, journal: &UndoJournal) -> anyhow::Result<ExitCode> {
        let mut words = command(self.sources, &self.facts).into_iter();
        let launch = Launch {
            program: words.next().unwrap_or_default().into(),
            arguments: words.collect(),
            environment: self
                .sources
                .environment
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned().into()))
                .collect(),
            folder: self.facts.folder.clone(),
        };
        let (child, over) = (AtomicU32::new(0), AtomicBool::new(false));
        let is_over = || over.load(Ordering::Relaxed);
        let status = std::thread::scope(|scope| {
            let serving = scope.spawn(|| {
                let status =
                    process::in_terminal_as(&launch, |id| child.store(id, Ordering::Relaxed));
                over.store(true, Ordering::Relaxed);
                status
            });
            scope.spawn(|| {
                if self.serves(is_over) {
                    if let Err(error) = self.connect(journal) {
                        eprintln!("warning: no client was connected: {error:#}");
                    }
                    eprintln!(
                        "the gateway serves in this terminal until Ctrl-C; `seaway down` takes the clients back"
                    );
                }
            });
            pass_signals_on(&child, is_over)?;
            serving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
        Ok(ExitCode::from(code))
    }

    /// Sets every client up, tries each, and tells what came of it.
    fn connect(&self, journal: &UndoJournal) -> anyhow::Result<ExitCode> {
        // Now that a gateway runs, it says which models there are.
        let (facts, clients) = clients(self.cli, self.config, self.sources)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let rows: Vec<UpRow> = clients
            .iter()
            .map(|(client, setup)| {
                let told = self.connect_one(journal, client, setup, &facts, &runtime);
                let (good, done) = match told {
                    Ok(done) => (true, done),
                    Err(why) => (false, why),
                };
                UpRow { client: client.name, done, good }
            })
            .collect();
        for UpRow { client, done, good } in &rows {
            println!("{} {client:<10} {done}", if *good { "ok  " } else { "fail" });
        }
        let good = rows.iter().all(|row| row.good);
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn connect_one(
        &self,
        journal: &UndoJournal,
        client: &ClientSetup,
        setup: &Setup,
        facts: &Facts,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<String, String> {
        journal
            .connect(client.name, &setup.files, false, false)
            .map_err(|error| format!("left alone: {error}"))?;
        for warning in &setup.warnings {
            eprintln!("warning: {}: {warning}", client.name);
        }
        if !self.asks {
            return Ok("connected; nothing was asked".into());
        }
        let asks = client
            .asks(setup, facts)
            .ok_or("connected, but what was written cannot be read as the client reads it")?;
        match runtime.block_on(trial::ask(&asks, &facts.environment)) {
            Ok(said) => Ok(format!("connected; `{}` answers: {said}", asks.model)),
            Err(trial::Failure::Nobody) => Err("connected, but nobody serves".into()),
            Err(trial::Failure::Wrong(why)) => Err(format!("connected, but no answer came: {why}")),
        }
    }
}

/// Waits until a child is gone. A Ctrl-C has reached it by itself; other signals are passed on.
fn pass_signals_on(child: &AtomicU32, gone: impl Fn() -> bool) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let pass_on = |what| process::send(child.load(Ordering::Relaxed), what);
        while !gone() {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
                _ = interrupt.recv() => {}
                _ = terminate.recv() => pass_on(Signal::TERM),
                _ = hangup.recv() => pass_on(Signal::HUP),
            }
        }
        Ok(())
    })
}

/// The command that serves as this one was asked to.
fn command(sources: &Sources, facts: &Facts) -> Vec<String> {
    // What finds the key finds the gateway: program, file and state folder.
    let mut words = facts.key_command.clone();
    words.truncate(words.len().saturating_sub(2));
    let known = ["state_dir", "auth"];
    for (key, value) in sources.flags.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
        words.extend(["--set".to_owned(), format!("{key}={value}")]);
    }
    words.push("serve".to_owned());
    words
}

pub(super) fn down(cli: &Cli, options: &DownOptions) -> anyhow::Result<ExitCode> {
    let sources = cli.sources()?;
    let config = Config::load(&sources)?.config;
    let state = std::path::absolute(&config.state_dir)?;
    if !state.exists() {
        eprintln!("nothing was set up here");
        return Ok(ExitCode::SUCCESS);
    }
    let journal = UndoJournal::open(&state)?;
    let mut failed = false;
    for client in CLIENTS {
        if !journal.is_connected(client.name)? {
            continue;
        }
        match journal.undo(client.name, false) {
            Ok(_) => println!("ok   {:<10} is as it was", client.name),
            Err(error) => {
                failed = true;
                println!("fail {:<10} {error}", client.name);
            }
        }
    }
    if journal.is_connected(SERVICE)? {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let manager = runtime.block_on(ServiceManager::here(&sources.environment));
        if let Some(manager) = manager {
            runtime.block_on(manager.stop(&sources.environment))?;
            journal.undo(SERVICE, false)?;
            runtime.block_on(manager.forget(&sources.environment));
            println!("ok   {SERVICE:<10} is stopped and gone");
        } else {
            // Without its files nobody could stop it later.
            failed = true;
            println!(
                "fail {SERVICE:<10} your service manager does not answer here; run `seaway down` where you are signed in as you were for `up`"
            );
        }
    }
    drop(journal);
    if let Some(running) = serve::running(&config) {
        eprintln!(
            "a gateway that `seaway up` did not start runs (process {}); it is left alone",
            running.pid
        );
        if options.purge {
            anyhow::bail!("{} is in use, and stays", state.display());
        }
    } else if options.purge && !failed {
        if let Some(other) = strange(&state)? {
            anyhow::bail!(
                "{} holds `{other}`, which is none of Seaway's; take away yourself what is to go",
                state.display()
            );
        }
        std::fs::remove_dir_all(&state)?;
        println!("ok   state      {} is gone", state.display());
    } else {
        println!("{} stays, with records and the local key; `--purge` takes it", state.display());
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Something in the state folder that Seaway does not put there.
fn strange(state: &Path) -> std::io::Result<Option<String>> {
    const OURS: [&str; 5] = ["seaway.db", "key", "run", "connect", "claude-code"];
    for entry in std::fs::read_dir(state)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !OURS.iter().any(|ours| name.starts_with(ours)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
