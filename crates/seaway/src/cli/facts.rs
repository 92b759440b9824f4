//! What clients have to know of the gateway here, whether it runs or not.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use serde_json::Value;

use super::args::{BudgetOptions, Cli};
use super::client::{Client, for_clients, reachable};
use super::{keys, serve};
use crate::auth::key_file;
use crate::config::{Auth, Config, Environment, Listen, Sources};
use crate::connect::Facts;
use crate::instance::Instance;

/// Families stand for the newest model of theirs.
const FAMILIES: [&str; 3] = ["sonnet", "opus", "haiku"];
/// So many models are told; a longer list helps nobody to choose.
const MOST: usize = 40;

/// What a client that is started from here has to know.
pub(super) fn reach(config: &Config, environment: Environment) -> anyhow::Result<Facts> {
    let running =
        serve::running(config).and_then(|running| for_clients(&running.addresses).cloned());
    let url = running
        .map(reachable)
        .or_else(|| address(config))
        .ok_or_else(|| anyhow::anyhow!("this gateway listens on a unix socket alone, which clients cannot be pointed to; set `listen` or `port`"))?;
    let home = environment.get("HOME").map(PathBuf::from).ok_or_else(|| {
        anyhow::anyhow!("HOME is not set, so nobody knows where clients keep their settings")
    })?;
    let models = FAMILIES.map(str::to_owned).to_vec();
    Ok(Facts {
        url,
        key: keys::wanted(config)?,
        key_command: Vec::new(),
        statusline: None,
        budget: false,
        key_file: std::path::absolute(key_file(&config.state_dir))?,
        model: config.default_model.clone().unwrap_or_else(|| Facts::usual(&models)),
        models,
        searches: config.upstreams.iter().any(|upstream| upstream.web_search.is_some()),
        no_proxy: config.no_proxy.clone(),
        environment,
        // As the shell's folder is: without links on the way.
        home: home.canonicalize().unwrap_or(home),
        folder: std::env::current_dir()?,
    })
}

/// What Claude Code leaves out in return. Measured with 2.1.332.
pub(super) const BUDGET_PRICE: &str = "note: Claude Code shows the budget only where it takes the address for a gateway, and leaves out there `context_management` and the betas context-management, per-turn-control, mid-conversation-tool-changes and advanced-tool-use (tools, system turns and cache marks stay)";

/// A key as somebody wrote it into a file.
const LONGEST_KEY: u64 = 4096;

/// Has Claude Code show how much of a budget is used: of the local key, or of one that was given out.
pub(super) fn with_budget(facts: &mut Facts, options: &BudgetOptions) -> anyhow::Result<()> {
    facts.budget = options.budget;
    let Some(path) = &options.key_file else { return Ok(()) };
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(LONGEST_KEY).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(LONGEST_KEY).read_to_string(&mut text))
    };
    read.with_context(|| format!("cannot read the key from {}", path.display()))?;
    let key = text.trim();
    if key.is_empty() || key.contains(char::is_whitespace) {
        anyhow::bail!("{} holds no key; `seaway key create` prints one", path.display());
    }
    facts.key = Some(key.to_owned().into());
    Ok(())
}

/// The same for clients that are started later, by whomever. `model` is what the person wants.
pub(super) fn collect(
    cli: &Cli,
    config: &Config,
    environment: Environment,
    model: Option<&str>,
) -> anyhow::Result<Facts> {
    let only_here = matches!(&config.auth, Auth::Keys(_)) && !config_holds(cli, &environment);
    if only_here && serve::running(config).is_none() {
        anyhow::bail!(
            "the key was given on this command line or in this shell alone, so clients could not get it later; put it into the configuration file"
        );
    }
    let mut facts = reach(config, environment)?;
    let program = std::env::current_exe()?.display().to_string();
    facts.key_command = std::iter::once(program)
        .chain(words(cli, config, &facts)?)
        .chain(["key".to_owned(), "show".to_owned()])
        .collect();
    if let Some(listed) = serve::running(config)
        .and_then(|running| models(&running).ok())
        .filter(|listed| !listed.is_empty())
    {
        // A family's name goes on to stand for its newest, whatever is served next; what is listed now may not be then.
        let is_listed = |family: &&str| listed.iter().any(|model| model.contains(family));
        let families = FAMILIES.iter().filter(|family| is_listed(family));
        facts.models = families.map(|family| (*family).to_owned()).collect();
        facts.models.extend(listed);
    }
    facts.model = model
        .map(str::to_owned)
        .or_else(|| config.default_model.clone())
        .unwrap_or_else(|| Facts::usual(&facts.models));
    if !facts.models.contains(&facts.model) {
        facts.models.insert(0, facts.model.clone());
    }
    Ok(facts)
}

/// The words by which a `seaway` that is started from anywhere finds the same key.
fn words(cli: &Cli, config: &Config, facts: &Facts) -> anyhow::Result<Vec<String>> {
    let bare = ["HOME"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), facts.environment.get(name)?.to_owned())));
    let usual = Sources { environment: Environment::of(bare), ..Sources::default() };
    let usual = Config::load(&usual).ok();
    let mut words = Vec::new();
    let file = Config::load(&cli.sources()?)?.path;
    if file.exists() && usual.as_ref().is_none_or(|usual| usual.path != file) {
        words.extend(["--config".to_owned(), std::path::absolute(&file)?.display().to_string()]);
    }
    if usual.as_ref().is_none_or(|usual| usual.config.state_dir != config.state_dir) {
        words.extend([
            "--state-dir".to_owned(),
            std::path::absolute(&config.state_dir)?.display().to_string(),
        ]);
    }
    if matches!(config.auth, Auth::Open) {
        words.extend(["--auth".to_owned(), "none".to_owned()]);
    }
    Ok(words)
}

/// True if the configuration file says the keys.
fn config_holds(cli: &Cli, environment: &Environment) -> bool {
    let Ok(mut sources) = cli.sources() else { return false };
    sources.flags.retain(|(key, _)| key != "api_key" && !key.starts_with("keys"));
    let bare = environment.iter().filter(|(name, _)| {
        !matches!(*name, "SEAWAY_API_KEY" | "PROXY_API_KEY") && !name.starts_with("SEAWAY_KEYS")
    });
    sources.environment =
        Environment::of(bare.map(|(name, value)| (name.to_owned(), value.to_owned())));
    Config::load(&sources).is_ok_and(|loaded| matches!(loaded.config.auth, Auth::Keys(_)))
}

/// Where clients of this machine reach the gateway.
pub(super) fn address(config: &Config) -> Option<String> {
    let addresses: Vec<String> = config.listen.iter().map(Listen::to_string).collect();
    for_clients(&addresses).cloned().map(reachable)
}

/// What a gateway that runs lists.
fn models(running: &Instance) -> anyhow::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        tokio::time::timeout(
            std::time::Duration::from_secs(5),
            Client::unix(&running.socket).get("/v1/models", &[]),
        )
        .await
    })??;
    let listed: Value = serde_json::from_slice(&answer.body)?;
    let ids = listed["data"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|model| Some(model["id"].as_str()?.to_owned()));
    Ok(ids.take(MOST).collect())
}
