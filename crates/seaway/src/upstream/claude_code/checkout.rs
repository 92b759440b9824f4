//! Giving a request its child, and telling the child what is asked.

use std::borrow::Cow;
use std::sync::Arc;

use seaway_wire::claude_code::output::Line;
use seaway_wire::claude_code::{
    AnsweredCall, Ask, AskedRole, COMPOSED, HeldCall, Print, Turn, input,
};

use super::answer_stream::{AnswerStream, Lease};
use super::conversations::{Conversation, TurnGuard};
use super::pool::{BestChild, ChildQuery, ConversationKey};
use super::shared::ProgramState;
use super::spawn::PATIENCE;
use super::{installed, launch};
use crate::fault::FaultKind;
use crate::process::Piped;
use crate::store::Session;
use crate::upstream::UpstreamError;

/// Finds the child that suits a request, or starts one, and asks.
pub(super) async fn checkout(
    shared: &Arc<ProgramState>,
    ask: &Ask<'_>,
    whose: &ConversationKey,
    prints: &[Print],
    held: TurnGuard,
) -> Result<AnswerStream, UpstreamError> {
    let mut conversation = Conversation {
        whose: whose.clone(),
        model: ask.model.clone().into_owned(),
        print: prints[prints.len() - 1],
        turns: 0,
        settings: settings(ask),
        fixed: fixed(ask),
    };
    let results = ask.messages.last().and_then(seaway_wire::claude_code::AskedMessage::results);
    let fixed = fixed(ask);
    let wanted =
        ChildQuery { whose, model: &ask.model, prints, results: results.as_ref(), fixed: &fixed };
    fits_its_version(shared, ask).await?;
    let known = known(shared, whose).await?;
    let mut held = held;
    while let Some(candidate) = candidate(shared, &wanted).await {
        let Candidate { child, turns, heard, calls, told, cached } = candidate;
        conversation.turns =
            if heard > 0 { turns } else { known.as_ref().map_or(0, |session| session.turns) };
        shared.conversations.remember(&conversation, conversation.turns).await;
        let mut working = Lease::new(child, shared.clone(), held);
        let opening = opening(ask, heard == 0, &told);
        let results = results.as_deref().unwrap_or_default();
        match go_on(working.child(), ask, heard, opening, &calls, results).await {
            Ok(()) => {
                let turn = if calls.is_empty() {
                    Turn::begun(ask.tools.clone())
                } else {
                    Turn::resumed(ask.tools.clone())
                };
                return Ok(AnswerStream::new(working, turn, conversation)
                    .uncached(uncached(shared, ask, cached)));
            }
            Err(why) => match working.discard().await {
                Some(left) => {
                    tracing::warn!(upstream = %shared.name(), why, "a process of Claude Code did not take a turn; another one is asked");
                    held = left;
                }
                None => return Err(deaf(shared, "it does not listen")),
            },
        }
    }
    start(
        shared,
        ask,
        Conversation { turns: known.map_or(0, |session| session.turns), ..conversation },
        held,
    )
    .await
}

/// A child that waited, and what is known of it.
struct Candidate {
    child: Piped,
    turns: u64,
    /// How much of the conversation it has heard, in messages.
    heard: usize,
    /// The calls that it holds open.
    calls: Vec<HeldCall>,
    /// The settings that it was told.
    told: String,
    /// What it has not heard is read from the prompt cache.
    cached: bool,
}

/// Takes the child that waited and suits a request best; one that has died meanwhile is passed over.
async fn candidate(shared: &ProgramState, wanted: &ChildQuery<'_>) -> Option<Candidate> {
    loop {
        let mut gone = Vec::new();
        let found = shared.children.pool().find(wanted, &mut gone);
        shared.children.end_all(gone);
        let (child, turns, heard, calls, told, cached) = match found {
            BestChild::Holding(kept) => {
                let heard = wanted.prints.len() - 2;
                (kept.child, kept.turns, heard, kept.calls, kept.settings, true)
            }
            BestChild::Resting(kept, heard) => {
                (kept.child, kept.turns, heard, Vec::new(), kept.settings, true)
            }
            BestChild::Spare(child, seeded) => (child, 0, 0, Vec::new(), String::new(), seeded),
            BestChild::Soon(done) => {
                done.cancelled().await;
                continue;
            }
            BestChild::Nothing => return None,
        };
        let mut candidate = Candidate { child, turns, heard, calls, told, cached };
        if candidate.child.is_alive() && candidate.child.clear().is_ok() {
            return Some(candidate);
        }
        shared.children.end(candidate.child, ());
    }
}

/// Refuses what the installed version would not say as it is written.
async fn fits_its_version(shared: &ProgramState, ask: &Ask<'_>) -> Result<(), UpstreamError> {
    let (_, version) = shared
        .installed()
        .program(shared.setting())
        .await
        .map_err(|error| UpstreamError::new(FaultKind::NotReady, error.to_string()))?;
    let command = ask
        .messages
        .iter()
        .position(seaway_wire::claude_code::AskedMessage::is_a_command)
        .filter(|_| version < COMPOSED);
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
fn uncached(shared: &ProgramState, ask: &Ask<'_>, cached: bool) -> usize {
    let earlier = &ask.messages[..ask.messages.len() - 1];
    if cached || launch::has_key(shared.setting()) {
        0
    } else {
        earlier.iter().map(|message| message.blocks.len()).sum()
    }
}

/// What is known of the session that a request names, if it is one of conversations.
async fn known(
    shared: &ProgramState,
    whose: &ConversationKey,
) -> Result<Option<Session>, UpstreamError> {
    let known = shared.conversations.session(whose).await.map_err(|error| UpstreamError {
        source: Some(Arc::new(error)),
        ..UpstreamError::new(
            FaultKind::StoreDown,
            "the gateway's store cannot say what is known of the session; ask again",
        )
    })?;
    if known.as_ref().is_some_and(|session| session.folder.is_some()) {
        let message = "seaway-session: this is a session of runs; go on with it there, or choose another name";
        return Err(UpstreamError::new(FaultKind::InvalidRequest, message));
    }
    Ok(known)
}

/// Starts a child for a request.
async fn start(
    shared: &Arc<ProgramState>,
    ask: &Ask<'_>,
    conversation: Conversation,
    held: TurnGuard,
) -> Result<AnswerStream, UpstreamError> {
    shared.conversations.remember(&conversation, conversation.turns).await;
    // The first turn of a conversation is the same with and without; what has a history is read from the cache only with.
    let begins = ask.messages.len() == 1;
    let seed = if begins {
        None
    } else {
        shared.children.seeds.of(&shared.children.spawner, &ask.model).await
    };
    let child = shared.children.spawner.spawn(&ask.model, seed.as_deref()).await?;
    let mut working = Lease::new(child, shared.clone(), held);
    match tell(working.child(), ask, 0, opening(ask, true, "")).await {
        Ok(()) => Ok(AnswerStream::new(working, Turn::begun(ask.tools.clone()), conversation)
            .uncached(uncached(shared, ask, seed.is_some()))),
        Err(why) => {
            let last_words = working.child().last_words();
            tracing::warn!(last_words, why, "Claude Code did not start");
            Err(deaf(shared, &why))
        }
    }
}

/// Goes on with a child that waited: with the results of its calls, or with what it has not heard.
async fn go_on(
    child: &mut Piped,
    ask: &Ask<'_>,
    heard: usize,
    opening: String,
    calls: &[HeldCall],
    results: &[AnsweredCall],
) -> Result<(), String> {
    if calls.is_empty() {
        tell(child, ask, heard, opening).await?;
    } else {
        answer(child, opening, calls, results).await?;
    }
    // A child that hangs has done nothing with the request, so another can be asked.
    if child.stirs().await { Ok(()) } else { Err("it shows no sign of life".to_owned()) }
}

fn deaf(shared: &ProgramState, why: &str) -> UpstreamError {
    UpstreamError::new(
        FaultKind::BadReply,
        format!("upstream `{}`: Claude Code did not take the request ({why})", shared.name()),
    )
}

/// Tells a child what is asked, and what it has not heard of the conversation before.
async fn tell(
    child: &mut Piped,
    ask: &Ask<'_>,
    heard: usize,
    mut first: String,
) -> Result<(), String> {
    let unheard = &ask.messages[heard..];
    let Some((last, earlier)) = unheard.split_last() else {
        return Err("there is nothing to say".into());
    };
    for (index, message) in earlier.iter().enumerate() {
        match message.role {
            AskedRole::User => {
                first.push_str(&input::user(&message.blocks, false));
                say(child, &std::mem::take(&mut first)).await?;
                taken_in(child, ask).await?;
            }
            // The program does not confirm such a line.
            AskedRole::Assistant => first.push_str(&input::assistant(
                &message.blocks,
                &ask.model,
                &format!("msg_seaway_{}", heard + index),
            )),
        }
    }
    first.push_str(&input::user(&last.blocks, true));
    say(child, &first).await
}

/// Gives a child the results of the calls that it holds open.
async fn answer(
    child: &mut Piped,
    mut lines: String,
    calls: &[HeldCall],
    results: &[AnsweredCall],
) -> Result<(), String> {
    for call in calls {
        let result = results
            .iter()
            .find(|result| result.id == call.tool_use_id)
            .ok_or("a result is missing")?;
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
        let waiting = tokio::time::timeout(PATIENCE, child.line())
            .await
            .map_err(|_| "it took too long".to_owned())?;
        let Some(line) = waiting.map_err(|error| error.to_string())? else {
            return Err("it ended".to_owned());
        };
        match Line::parse(&line) {
            Line::Result(outcome) if outcome.is_error => {
                return Err("it refused an earlier turn".to_owned());
            }
            Line::Result(_) => return Ok(()),
            // An older version asks for the tools, and waits.
            Line::Question(question) => say(child, &input::serve(&question, &ask.tools)).await?,
            _ => {}
        }
    }
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
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| Err("it took too long".to_owned()))
}
