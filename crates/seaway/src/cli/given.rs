//! `seaway key create` and its like, and `seaway team`: by the gateway that runs, or in the store where none does.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use http::Method;
use serde_json::{Map, Value, json};

use super::args::{CapOptions, Cli, KeyOptions, TeamCommand};
use super::client::Client;
use super::serve::serving;
use crate::admin::{Admin, check_new_key};
use crate::cap::Budget;
use crate::causes::chain;
use crate::config::{Config, OWNER};
use crate::import::litellm_keys;
use crate::instance::{self, Instance};
use crate::ledger::Books;
use crate::store::{Store, is_kept};

/// What clears a setting.
const NONE: &str = "none";

/// What is asked.
pub(super) enum Order {
    CreateKey(Value),
    SetKey(String, Value),
    RevokeKey(String),
    RotateKey(String, Value),
    Keys,
    Logins,
    EndLogin(String),
    SetTeam(String, Value),
    RemoveTeam(String),
    Teams,
}

impl Order {
    /// As HTTP has it.
    fn request(&self) -> (Method, String, Vec<u8>) {
        let key = |name: &str| format!("/v1/admin/keys/{}", in_path(name));
        let team = |name: &str| format!("/v1/admin/teams/{}", in_path(name));
        let (method, path, body) = match self {
            Self::CreateKey(body) => (Method::POST, "/v1/admin/keys".to_owned(), Some(body)),
            Self::SetKey(name, body) => (Method::PATCH, key(name), Some(body)),
            Self::RevokeKey(name) => (Method::DELETE, key(name), None),
            Self::RotateKey(name, body) => {
                (Method::POST, format!("{}/rotate", key(name)), Some(body))
            }
            Self::Keys => (Method::GET, "/v1/admin/keys".to_owned(), None),
            Self::Logins => (Method::GET, "/v1/admin/logins".to_owned(), None),
            Self::EndLogin(id) => {
                (Method::DELETE, format!("/v1/admin/logins/{}", in_path(id)), None)
            }
            Self::SetTeam(name, body) => (Method::PUT, team(name), Some(body)),
            Self::RemoveTeam(name) => (Method::DELETE, team(name), None),
            Self::Teams => (Method::GET, "/v1/admin/teams".to_owned(), None),
        };
        (method, path, body.map(|body| body.to_string().into_bytes()).unwrap_or_default())
    }

    async fn work(&self, admin: &Admin<'_>) -> Result<Value, crate::fault::Fault> {
        let bytes = |body: &Value| body.to_string().into_bytes();
        match self {
            Self::CreateKey(body) => admin.create_key(&bytes(body)).await,
            Self::SetKey(name, body) => admin.set_key(name, &bytes(body)).await,
            Self::RevokeKey(name) => admin.revoke_key(name).await,
            Self::RotateKey(name, body) => admin.rotate_key(name, &bytes(body)).await,
            Self::Keys => admin.keys(None).await,
            Self::Logins => Ok(admin.logins()),
            Self::EndLogin(id) => admin.end_login(id).await,
            Self::SetTeam(name, body) => admin.set_team(name, &bytes(body)).await,
            Self::RemoveTeam(name) => admin.remove_team(name).await,
            Self::Teams => admin.teams(None).await,
        }
    }
}

/// A name as a segment of a path.
fn in_path(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
    let one =
        |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(one).collect()
}

/// Why a gateway did not do what it was asked.
struct AdminRefusal {
    why: String,
    /// It is not the one that keeps the keys.
    elsewhere: bool,
}

/// The gateways that may keep the keys of this store: first the one that clients are sent to.
fn reachable(config: &Config) -> Vec<Instance> {
    let mut found: Vec<Instance> = serving(config).into_iter().collect();
    for other in instance::find(&config.state_dir) {
        if !found.iter().any(|known| known.socket == other.socket) {
            found.push(other);
        }
    }
    found
}

fn asked(
    runtime: &tokio::runtime::Runtime,
    running: &Instance,
    order: &Order,
) -> anyhow::Result<Result<Value, AdminRefusal>> {
    let (method, path, body) = order.request();
    let client = Client::unix(&running.socket);
    let headers = [("content-type", "application/json")];
    let answer = runtime.block_on(async {
        let asked = client.send(method, &path, body, &headers);
        tokio::time::timeout(Duration::from_secs(15), asked).await
    });
    let answer = answer.context("the gateway that runs does not answer; it may have done it all the same: see `seaway key list`, and `seaway key rotate NAME` for a key that was not shown")??;
    let value: Value = serde_json::from_slice(&answer.body).with_context(|| {
        let status = answer.status;
        format!(
            "the gateway that runs answered with status {status}; is it older than this program?"
        )
    })?;
    if answer.status.is_success() {
        return Ok(Ok(value));
    }
    let why = value["error"]["message"].as_str().unwrap_or("it did not say why").to_owned();
    Ok(Err(AdminRefusal { why, elsewhere: answer.status == http::StatusCode::SERVICE_UNAVAILABLE }))
}

/// Has it done: by the gateway that runs, which uses it from then on, or in its store.
pub(super) fn done(config: &Config, order: &Order) -> anyhow::Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut refused = None;
    for running in reachable(config) {
        match asked(&runtime, &running, order)? {
            Ok(value) => return Ok(value),
            // Another one may keep the keys.
            Err(refusal) if refusal.elsewhere => refused = refused.or(Some(refusal.why)),
            Err(refusal) => anyhow::bail!("{}", refusal.why),
        }
    }
    if let Some(why) = refused {
        anyhow::bail!("{why}");
    }
    if config.store.path.is_none() {
        anyhow::bail!(
            "`store.path` is `:memory:` and no gateway runs: there is nowhere to keep a key"
        );
    }
    if config.store.path.as_deref().is_some_and(is_kept) {
        anyhow::bail!(
            "a gateway that runs with this store keeps its keys, and cannot be asked from here; stop it, or use its `/v1/admin`"
        );
    }
    runtime.block_on(async {
        let books = Books::new(config);
        let store = Store::start(
            config.store.clone(),
            config.prices.clone(),
            books.opened(false),
            |error| {
                eprintln!("seaway: {}", chain(error));
            },
        );
        let open = tokio::time::timeout(Duration::from_secs(10), books.accounts.loaded()).await;
        open.context("the store cannot be opened")?;
        let admin = Admin {
            store: &store,
            accounts: &books.accounts,
            config,
            who: OWNER.into(),
            address: None,
        };
        let told = order.work(&admin).await;
        store.flush().await;
        told.map_err(|fault| anyhow::anyhow!("{}", fault.message))
    })
}

/// What was named, as the gateway reads it; `none` clears.
fn caps(into: &mut Map<String, Value>, options: &CapOptions) -> anyhow::Result<()> {
    if !options.budget.is_empty() {
        let budgets = options.budget.iter().filter(|text| *text != NONE).collect::<Vec<_>>();
        into.insert("budgets".into(), json!(budgets));
    }
    for (name, text) in
        [("rpm", &options.rpm), ("tpm", &options.tpm), ("concurrent", &options.concurrent)]
    {
        let Some(text) = text else { continue };
        let number = match text.as_str() {
            NONE => Value::Null,
            text => json!(
                text.parse::<u32>()
                    .with_context(|| format!("--{name} {text}: expected a number, or `none`"))?
            ),
        };
        into.insert(name.into(), number);
    }
    Ok(())
}

/// The key or team of a name in what a gateway lists.
fn row<'v>(told: &'v Value, kind: &str, name: &str) -> Option<&'v Value> {
    told[kind].as_array()?.iter().find(|row| row["name"] == name)
}

/// The budgets of a key or team, as they are.
fn rows(told: &Value, kind: &str, name: &str) -> Vec<String> {
    let budgets =
        row(told, kind, name).and_then(|row| row["budgets"].as_array()).into_iter().flatten();
    budgets.filter_map(|budget| Some(budget["budget"].as_str()?.to_owned())).collect()
}

/// A budget that is named takes the place of the one for the same time; the others stay, unless `none` is named too.
fn keep_others(
    body: &mut Map<String, Value>,
    options: &CapOptions,
    known: impl FnOnce() -> anyhow::Result<Vec<String>>,
) -> anyhow::Result<()> {
    if options.budget.is_empty() || options.budget.iter().any(|text| text == NONE) {
        return Ok(());
    }
    let period = |text: &str| text.parse::<Budget>().ok().map(|budget| budget.period);
    let named: Vec<_> = options.budget.iter().filter_map(|text| period(text)).collect();
    let others = known()?;
    let others = others
        .into_iter()
        .filter(|text| period(text).is_some_and(|period| !named.contains(&period)));
    let all: Vec<String> = options.budget.iter().cloned().chain(others).collect();
    body.insert("budgets".into(), json!(all));
    Ok(())
}

fn patch(options: &KeyOptions) -> anyhow::Result<Map<String, Value>> {
    let mut patch = Map::new();
    caps(&mut patch, &options.caps)?;
    for (name, text) in
        [("team", &options.team), ("expires", &options.expires), ("spill", &options.spill)]
    {
        if let Some(text) = text {
            patch.insert(name.into(), if text == NONE { Value::Null } else { json!(text) });
        }
    }
    for (name, texts) in [("models", &options.models), ("upstreams", &options.upstreams)] {
        if !texts.is_empty() {
            let texts = texts.iter().filter(|text| *text != NONE).collect::<Vec<_>>();
            patch.insert(name.into(), json!(texts));
        }
    }
    Ok(patch)
}

/// Shows the key, alone on standard output, so that a script can take it.
fn show_key(made: &Value) {
    eprintln!(
        "the key of `{}`, which is shown this once:",
        made["name"].as_str().unwrap_or_default()
    );
    println!("{}", made["key"].as_str().unwrap_or_default());
}

pub(super) fn create(
    cli: &Cli,
    name: &str,
    options: &KeyOptions,
    json: bool,
) -> anyhow::Result<()> {
    let mut body = patch(options)?;
    body.insert("name".into(), name.into());
    let made = done(&cli.load()?.config, &Order::CreateKey(body.into()))?;
    if json {
        print(&made);
    } else {
        show_key(&made);
    }
    Ok(())
}

pub(super) fn set(cli: &Cli, name: &str, options: &KeyOptions, json: bool) -> anyhow::Result<()> {
    let mut body = patch(options)?;
    let config = cli.load()?.config;
    keep_others(&mut body, &options.caps, || {
        Ok(rows(&done(&config, &Order::Keys)?, "keys", name))
    })?;
    if body.is_empty() {
        anyhow::bail!("nothing is named that should be another; see `seaway key set --help`");
    }
    let row = done(&config, &Order::SetKey(name.into(), body.into()))?;
    if json {
        print(&row);
    } else {
        table(std::slice::from_ref(&row));
    }
    Ok(())
}

pub(super) fn revoke(cli: &Cli, name: &str) -> anyhow::Result<()> {
    done(&cli.load()?.config, &Order::RevokeKey(name.into()))?;
    eprintln!("the key `{name}` lets nobody in any more");
    Ok(())
}

pub(super) fn rotate(cli: &Cli, name: &str, grace: &str) -> anyhow::Result<()> {
    let body = json!({ "grace": grace });
    let made = done(&cli.load()?.config, &Order::RotateKey(name.into(), body))?;
    show_key(&made);
    if let Some(until) = made["old_key_until"].as_str() {
        eprintln!("the old one lets in until {until}");
    }
    Ok(())
}

pub(super) fn list(cli: &Cli, all: bool, json: bool) -> anyhow::Result<()> {
    let told = done(&cli.load()?.config, &Order::Keys)?;
    let mut keys = told["keys"].as_array().cloned().unwrap_or_default();
    keys.retain(|key| all || key["state"] != "revoked");
    if json {
        print(&json!({ "keys": keys }));
    } else if keys.is_empty() {
        println!("no key was given out; `seaway key create NAME` makes one");
    } else {
        table(&keys);
    }
    Ok(())
}

/// Lists the programs that signed in; those that are named are ended before.
pub(super) fn logins(cli: &Cli, end: &[String], json: bool) -> anyhow::Result<()> {
    let config = cli.load()?.config;
    for id in end {
        let ended = done(&config, &Order::EndLogin(id.clone()))?;
        let text = |name: &str| ended[name].as_str().unwrap_or_default().to_owned();
        eprintln!("{} is signed out; it was signed in as `{}`", text("program"), text("key"));
    }
    let told = done(&config, &Order::Logins)?;
    let logins = told["logins"].as_array().map(Vec::as_slice).unwrap_or_default();
    if json {
        print(&told);
    } else if logins.is_empty() {
        println!("no program is signed in; in Claude Code, `/login` does it");
    } else {
        println!("{:<18}{:<20}{:<22}{:<22}program", "id", "key", "since", "until");
        for login in logins {
            let [id, key, since, until, program] =
                ["id", "key", "created_at", "expires_at", "program"]
                    .map(|name| login[name].as_str().unwrap_or_default());
            println!("{id:<18}{key:<20}{since:<22}{until:<22}{program}");
        }
    }
    Ok(())
}

/// Why a key could not be made that an export has, as far as that can be told before.
fn wrong_with(
    order: &Order,
    seen: &mut Vec<String>,
    is_there: impl Fn(&str) -> bool,
) -> Option<String> {
    let Order::CreateKey(body) = order else { return None };
    let name = body["name"].as_str().unwrap_or_default().to_owned();
    let twice = seen.contains(&name) || is_there(&name);
    seen.push(name);
    if twice {
        return Some("a key of this name is there already".into());
    }
    check_new_key(body).err().map(|fault| fault.message.to_string())
}

/// Takes over another gateway's keys, one by one: what cannot be taken over is said, and the rest is.
pub(super) fn import(cli: &Cli, file: &Path, dry_run: bool) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let found = litellm_keys(&text, jiff::Timestamp::now())?;
    let config = cli.load()?.config;
    for note in &found.notes {
        eprintln!("note: {note}");
    }
    let (mut failed, mut seen) = (0, Vec::new());
    let teams = done(&config, &Order::Teams)?;
    let keys = done(&config, &Order::Keys)?;
    let mut tell = |what: String, order: Order| {
        if dry_run {
            let wrong = wrong_with(&order, &mut seen, |name| row(&keys, "keys", name).is_some());
            match wrong {
                None => println!("would make {what}"),
                Some(why) => {
                    failed += 1;
                    eprintln!("would not make {what}: {why}");
                }
            }
            return;
        }
        match done(&config, &order) {
            Ok(_) => println!("made {what}"),
            Err(error) => {
                failed += 1;
                eprintln!("not made: {what}: {error:#}");
            }
        }
    };
    for (name, body) in found.teams {
        if row(&teams, "teams", &name).is_some() {
            println!("the team `{name}` is there already; it stays as it is");
            continue;
        }
        tell(format!("the team `{name}`"), Order::SetTeam(name, body));
    }
    for body in found.keys {
        let name = body["name"].as_str().unwrap_or_default().to_owned();
        tell(format!("the key `{name}`"), Order::CreateKey(body));
    }
    if failed > 0 {
        anyhow::bail!("{failed} cannot be made");
    }
    Ok(())
}

pub(super) fn team(cli: &Cli, command: &TeamCommand) -> anyhow::Result<ExitCode> {
    let config = cli.load()?.config;
    match command {
        TeamCommand::Set { name, caps: options } => {
            let mut body = Map::new();
            caps(&mut body, options)?;
            keep_others(&mut body, options, || {
                Ok(rows(&done(&config, &Order::Teams)?, "teams", name))
            })?;
            let team = done(&config, &Order::SetTeam(name.clone(), body.into()))?;
            table(std::slice::from_ref(&team));
        }
        TeamCommand::List { json } => {
            let told = done(&config, &Order::Teams)?;
            let teams = told["teams"].as_array().cloned().unwrap_or_default();
            if *json {
                print(&told);
            } else if teams.is_empty() {
                println!("there is no team; `seaway team set NAME` makes one");
            } else {
                table(&teams);
            }
        }
        TeamCommand::Remove { name } => {
            done(&config, &Order::RemoveTeam(name.clone()))?;
            eprintln!("the team `{name}` is gone");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(value: &Value) {
    println!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Keys or teams, a line each.
fn table(rows: &[Value]) {
    println!(
        "{:<20}  {:<8}  {:<12}  {:>12}  {:>9}  {:<20}  left of",
        "name", "state", "team", "spent $", "requests", "last used"
    );
    for row in rows {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        let spent = row["spent_micros"].as_u64().unwrap_or_default();
        let last = text("last_used");
        let budgets = row["budgets"].as_array().cloned().unwrap_or_default();
        let left: Vec<String> = budgets
            .iter()
            .map(|budget| {
                format!(
                    "{} of {}",
                    budget["left_usd"].as_str().unwrap_or("?"),
                    budget["budget"].as_str().unwrap_or("?")
                )
            })
            .collect();
        let left = if left.is_empty() { "no budget".to_owned() } else { left.join(", ") };
        println!(
            "{:<20}  {:<8}  {:<12}  {:>12}  {:>9}  {:<20}  {left}",
            text("name"),
            text("state"),
            text("team"),
            crate::cap::dollars(spent),
            row["requests"].as_u64().unwrap_or_default(),
            last.get(..19).map_or(last.clone(), |second| format!("{second}Z")),
        );
    }
}
