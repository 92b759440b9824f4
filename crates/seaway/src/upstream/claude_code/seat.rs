//! Giving a request its child, and telling the child what is asked.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use seaway_wire::FaultKind;
use seaway_wire::claude_code::output::{self, Line, Model};
use seaway_wire::claude_code::{Ask, COMPOSED, Print, Role, Turn, input};
use secrecy::SecretString;

use super::flow::{Conversation, Flow, Held, Working};
use super::launch::{self, Beginning};
use super::pool::{Found, Wanted, Whose};
use super::shared::Shared;
use super::{home, installed, seed};
use crate::config::Program;
use crate::process::{Folder, Launch, Piped};
use crate::store::Session;
use crate::upstream::UpstreamError;

/// How long a child has to take in one earlier turn, or to list its models.
const PATIENCE: Duration = Duration::from_secs(60);

/// Finds the child that suits a request, or starts one, and asks.
pub(super) async fn take(shared: &Arc<Shared>, ask: &Ask<'_>, whose: &Whose, prints: &[Print], held: Held) -> Result<Flow, UpstreamError> {
    let mut conversation =
        Conversation { whose: whose.clone(), model: ask.model.clone().into_owned(), print: prints[prints.len() - 1], turns: 0, settings: settings(ask), fixed: fixed(ask) };
    let results = ask.messages.last().and_then(seaway_wire::claude_code::Message::results);
    let fixed = fixed(ask);
    let wanted = Wanted { whose, model: &ask.model, prints, results: results.as_ref(), fixed: &fixed };
    fits_its_version(shared, ask).await?;
    let known = known(shared, whose).await?;
    let mut held = held;
    // One that waited may have died meanwhile; the next best is taken then.
    loop {
        let mut gone = Vec::new();
        let found = shared.pool().find(&wanted, &mut gone);
        shared.end_all(gone);
        let (mut child, turns, heard, calls, told, cached) = match found {
            Found::Holding(kept) => (kept.child, kept.turns, prints.len() - 2, kept.calls, kept.settings, true),
            Found::Resting(kept, heard) => (kept.child, kept.turns, heard, Vec::new(), kept.settings, true),
            Found::Spare(child, seeded) => (child, 0, 0, Vec::new(), String::new(), seeded),
            Found::Soon(done) => {
                done.cancelled().await;
                continue;
            }
            Found::Nothing => break,
        };
        if !child.is_alive() || child.clear().is_err() {
            shared.end(child, ());
            continue;
        }
        conversation.turns = if heard > 0 { turns } else { known.as_ref().map_or(0, |session| session.turns) };
        shared.remember(&conversation, conversation.turns).await;
        let mut working = Working::new(child, shared.clone(), held);
        let opening = opening(ask, heard == 0, &told);
        let asked = if calls.is_empty() {
            tell(working.child(), ask, heard, opening).await
        } else {
            answer(working.child(), opening, &calls, results.as_deref().unwrap_or_default()).await
        };
        // One that hangs has done nothing with it, so another can be asked.
        let asked = match asked {
            Ok(()) if !working.child().stirs().await => Err("it shows no sign of life".to_owned()),
            asked => asked,
        };
        match asked {
            Ok(()) => {
                let turn = if calls.is_empty() { Turn::begun(ask.tools.clone()) } else { Turn::resumed(ask.tools.clone()) };
                return Ok(Flow::new(working, turn, conversation).uncached(uncached(shared, ask, cached)));
            }
            Err(why) => match working.discard().await {
                Some(left) => {
                    tracing::warn!(upstream = %shared.name, why, "a process of Claude Code did not take a turn; another one is asked");
                    held = left;
                }
                None => return Err(deaf(shared, "it does not listen")),
            },
        }
    }
    start(shared, ask, Conversation { turns: known.map_or(0, |session| session.turns), ..conversation }, held).await
}

/// Refuses what the installed version would not say as it is written.
async fn fits_its_version(shared: &Shared, ask: &Ask<'_>) -> Result<(), UpstreamError> {
    let (_, version) = shared.installed.program(&shared.setting).await.map_err(|error| UpstreamError::new(FaultKind::NotReady, error.to_string()))?;
    let command = ask.messages.iter().position(seaway_wire::claude_code::Message::is_a_command).filter(|_| version < COMPOSED);
    command.map_or(Ok(()), |at| {
        let message = format!(
            "messages[{at}]: Claude Code {version} takes a text that begins with `/` for a command of its own; install {COMPOSED} or newer ({}), or begin the text otherwise",
            installed::install(COMPOSED)
        );
        Err(UpstreamError::new(FaultKind::InvalidRequest, message))
    })
}

/// How much of a history, in bytes, is not read from the prompt cache, though it may be there: where what the program
/// adds to a prompt has no place of its own.
fn uncached(shared: &Shared, ask: &Ask<'_>, cached: bool) -> usize {
    let earlier = &ask.messages[..ask.messages.len() - 1];
    if cached || launch::has_key(&shared.setting) { 0 } else { earlier.iter().map(|message| message.blocks.len()).sum() }
}

/// What is known of the session that a request names, if it is one of conversations.
async fn known(shared: &Shared, whose: &Whose) -> Result<Option<Session>, UpstreamError> {
    let known = shared.session(whose).await.map_err(|error| UpstreamError {
        source: Some(Arc::new(error)),
        ..UpstreamError::new(FaultKind::StoreDown, "the gateway's store cannot say what is known of the session; ask again")
    })?;
    if known.as_ref().is_some_and(|session| session.folder.is_some()) {
        let message = "seaway-session: this is a session of runs; go on with it there, or choose another name";
        return Err(UpstreamError::new(FaultKind::InvalidRequest, message));
    }
    Ok(known)
}

/// Starts a child for a request.
async fn start(shared: &Arc<Shared>, ask: &Ask<'_>, conversation: Conversation, held: Held) -> Result<Flow, UpstreamError> {
    shared.remember(&conversation, conversation.turns).await;
    // The first turn of a conversation is the same with and without; what has a history is read from the cache only with.
    let begins = ask.messages.len() == 1;
    let seed = if begins { None } else { seed::of(shared, &ask.model).await };
    let child = spawn(shared, &ask.model, seed.as_deref()).await?;
    let mut working = Working::new(child, shared.clone(), held);
    match tell(working.child(), ask, 0, opening(ask, true, "")).await {
        Ok(()) => Ok(Flow::new(working, Turn::begun(ask.tools.clone()), conversation).uncached(uncached(shared, ask, seed.is_some()))),
        Err(why) => {
            let last_words = working.child().last_words();
            tracing::warn!(last_words, why, "Claude Code did not start");
            Err(deaf(shared, &why))
        }
    }
}

fn deaf(shared: &Shared, why: &str) -> UpstreamError {
    UpstreamError::new(FaultKind::BadReply, format!("upstream `{}`: Claude Code did not take the request ({why})", shared.name))
}

/// Tells a child what is asked, and what it has not heard of the conversation before.
async fn tell(child: &mut Piped, ask: &Ask<'_>, heard: usize, mut first: String) -> Result<(), String> {
    let unheard = &ask.messages[heard..];
    let Some((last, earlier)) = unheard.split_last() else { return Err("there is nothing to say".into()) };
    for (index, message) in earlier.iter().enumerate() {
        match message.role {
            Role::User => {
                first.push_str(&input::user(&message.blocks, false));
                say(child, &std::mem::take(&mut first)).await?;
                taken_in(child, ask).await?;
            }
            // It says nothing to that.
            Role::Assistant => first.push_str(&input::assistant(&message.blocks, &ask.model, &format!("msg_seaway_{}", heard + index))),
        }
    }
    first.push_str(&input::user(&last.blocks, true));
    say(child, &first).await
}

/// Gives a child the results of the calls that it holds open.
async fn answer(child: &mut Piped, mut lines: String, calls: &[seaway_wire::claude_code::Call], results: &[seaway_wire::claude_code::Answered]) -> Result<(), String> {
    for call in calls {
        let result = results.iter().find(|result| result.id == call.tool_use_id).ok_or("a result is missing")?;
        lines.push_str(&input::result(&call.request_id, &call.rpc_id, &result.result));
    }
    say(child, &lines).await
}

/// What comes before the turns: who it is and what it has, if it is new, and the settings, if they are others than before.
fn opening(ask: &Ask<'_>, new: bool, told: &str) -> String {
    let mut lines = if new { input::initialize("seaway-begin", ask) } else { String::new() };
    let settings = settings(ask);
    if settings != told {
        lines.push_str(&settings);
    }
    lines
}

/// The settings that the program reads when a turn begins, and not again while its calls are open.
fn fixed(ask: &Ask<'_>) -> String {
    format!("{} {:?}", ask.max_tokens, ask.thinking)
}

fn settings(ask: &Ask<'_>) -> String {
    input::settings("seaway-settings", ask) + &input::thinking("seaway-thinking", ask.thinking)
}

async fn say(child: &mut Piped, text: &str) -> Result<(), String> {
    child.say(text).await.map_err(|error| error.to_string())
}

/// Waits until the child has put an earlier turn in its place: the order hangs on it.
async fn taken_in(child: &mut Piped, ask: &Ask<'_>) -> Result<(), String> {
    loop {
        if !child.stirs().await {
            return Err("it shows no sign of life".to_owned());
        }
        let waiting = tokio::time::timeout(PATIENCE, child.line()).await.map_err(|_| "it took too long".to_owned())?;
        let Some(line) = waiting.map_err(|error| error.to_string())? else {
            return Err("it ended".to_owned());
        };
        match Line::parse(&line) {
            Line::Result(outcome) if outcome.is_error => return Err("it refused an earlier turn".to_owned()),
            Line::Result(_) => return Ok(()),
            // An older version asks for the tools, and waits.
            Line::Question(question) => say(child, &input::serve(&question, &ask.tools)).await?,
            _ => {}
        }
    }
}

/// The folder in which requests are answered. The same for all: what stands in the prompt of where a process works
/// must not differ, for the prompt cache.
pub(super) fn working_folder(setting: &Program) -> PathBuf {
    setting.folder.join("empty")
}

/// Starts a child that waits to be told something.
pub(super) async fn spawn(shared: &Shared, model: &str, seed: Option<&Path>) -> Result<Piped, UpstreamError> {
    start_empty(shared, model, seed.map_or(Beginning::Empty, Beginning::Seed), Vec::new(), folder(shared)?).await
}

/// Starts a child that reaches nobody, and writes down what it would have said.
pub(super) async fn spawn_apart(shared: &Shared, model: &str) -> Result<Piped, UpstreamError> {
    let nowhere = |folder: &Path| SecretString::from(folder.join("nobody.sock").display().to_string());
    let folder = folder(shared)?;
    let apart = vec![("ANTHROPIC_UNIX_SOCKET", nowhere(folder.path())), ("ANTHROPIC_BASE_URL", "http://localhost".to_owned().into())];
    start_empty(shared, model, Beginning::Written, apart, folder).await
}

async fn start_empty(shared: &Shared, model: &str, beginning: Beginning<'_>, more: Vec<(&'static str, SecretString)>, temporary: Folder) -> Result<Piped, UpstreamError> {
    let works_in = working_folder(&shared.setting);
    crate::auth::private_dir(&works_in).map_err(|error| unstarted(shared, error))?;
    let arguments = launch::arguments(model, beginning, launch::has_key(&shared.setting));
    start_in(shared, Start { arguments, manners: launch::ANSWERING, works_in, temporary, has_tools: false, more }).await
}

/// Makes a temporary folder for a child.
pub(super) fn folder(shared: &Shared) -> Result<Folder, UpstreamError> {
    let made = Folder::make(&shared.setting.temporary);
    let furnished = made.and_then(|folder| home::furnish(&shared.setting, folder.path()).map(|()| folder));
    furnished.map_err(|error| unstarted(shared, error))
}

/// How a child is started.
pub(super) struct Start {
    pub(super) arguments: Vec<String>,
    pub(super) manners: &'static [(&'static str, &'static str)],
    pub(super) works_in: PathBuf,
    pub(super) temporary: Folder,
    /// It may use tools of its own.
    pub(super) has_tools: bool,
    /// Further variables.
    pub(super) more: Vec<(&'static str, SecretString)>,
}

/// Starts a child in a folder.
pub(super) async fn start_in(shared: &Shared, start: Start) -> Result<Piped, UpstreamError> {
    let setting = &shared.setting;
    let (program, _) = shared.installed.program(setting).await.map_err(|error| UpstreamError::new(FaultKind::NotReady, error.to_string()))?;
    let no_credential = |error| UpstreamError::new(FaultKind::NotReady, format!("upstream `{}` has no usable credential: {error}", shared.name));
    let folders = home::environment(setting, start.temporary.path(), start.has_tools);
    let mut environment = launch::environment(setting, shared.credential.as_ref(), start.manners, folders).await.map_err(no_credential)?;
    for (name, value) in start.more {
        environment.retain(|(known, _)| known != name);
        environment.push((name.to_owned(), value));
    }
    let launch = Launch { program, arguments: start.arguments, environment, folder: start.works_in };
    Piped::spawn(launch, start.temporary, start.has_tools, &shared.tasks).map_err(|error| unstarted(shared, error))
}

fn unstarted(shared: &Shared, error: std::io::Error) -> UpstreamError {
    let message = format!("upstream `{}`: Claude Code cannot be started: {error}", shared.name);
    UpstreamError { source: Some(Arc::new(error)), ..UpstreamError::new(FaultKind::Unreachable, message) }
}

/// Waits until a child has answered a line of ours that says how it is to be.
pub(super) async fn agreed(child: &mut Piped, id: &str) -> Result<(), String> {
    let waiting = async {
        loop {
            let line = child.line().await.map_err(|error| error.to_string())?.ok_or("it ended")?;
            if let Line::Answer(answer) = Line::parse(&line)
                && answer.request_id == id
            {
                return answer.result.map(drop).map_err(Cow::into_owned);
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| Err("it took too long".to_owned()))
}

/// Asks a child which models there are. True if it can still serve whoever comes next.
pub(super) async fn list_models(mut child: Piped) -> (Piped, bool, Result<Vec<Model>, String>) {
    if let Ok(listed) = asked(&mut child, "seaway-models", &input::list_models("seaway-models")).await {
        return (child, true, listed);
    }
    // An older version tells them where it is told everything.
    let listed = asked(&mut child, "seaway-hello", &input::hello("seaway-hello")).await;
    let listed = listed.unwrap_or_else(|why| Err(format!("Claude Code lists no models: {why}")));
    (child, false, listed)
}

/// Asks for models in one way; an error if the child does not know that way.
async fn asked(child: &mut Piped, id: &str, question: &str) -> Result<Result<Vec<Model>, String>, String> {
    let asking = async {
        say(child, question).await?;
        loop {
            let Some(line) = child.line().await.map_err(|error| error.to_string())? else {
                tracing::warn!(last_words = child.last_words(), "Claude Code failed");
                return Ok(Err("Claude Code ended instead of listing its models".to_owned()));
            };
            if let Line::Answer(answer) = Line::parse(&line)
                && answer.request_id == id
            {
                let told = answer.result.map_err(Cow::into_owned)?;
                return Ok(told.and_then(output::models).ok_or_else(|| "Claude Code lists its models in a way that nobody knows".to_owned()));
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| Ok(Err("Claude Code did not list its models in time".to_owned())))
}
