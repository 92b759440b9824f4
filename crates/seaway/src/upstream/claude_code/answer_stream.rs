//! An answer on its way out of a child, and what becomes of the child behind it.

use std::sync::Arc;
use std::time::Duration;

use seaway_wire::claude_code::output::Line;
use seaway_wire::claude_code::{After, AskedRole, Failure, Print, Step, Turn};
use seaway_wire::event::{EventFrame, Sink};
use seaway_wire::json::RawObject;
use seaway_wire::messages::Fold;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::conversations::{Conversation, TurnGuard};
use super::pool::WarmChild;
use super::shared::ProgramState;
use crate::process::Piped;

/// How often a killed child is looked for.
const REAPING: Duration = Duration::from_millis(2);
/// How long a child has to say that its turn is over once its answer is.
const SETTLING: Duration = Duration::from_secs(20);

/// A child that works, with all that is held until it is reaped or put aside. Dropping it ends it.
pub(super) struct Lease {
    child: Option<Piped>,
    shared: Arc<ProgramState>,
    held: Option<TurnGuard>,
}

impl Lease {
    pub(super) fn new(child: Piped, shared: Arc<ProgramState>, held: TurnGuard) -> Self {
        Self { child: Some(child), shared, held: Some(held) }
    }

    pub(super) fn shared(&self) -> &Arc<ProgramState> {
        &self.shared
    }

    pub(super) fn child(&mut self) -> &mut Piped {
        self.child.as_mut().expect("the child is only taken when this ends")
    }

    /// Ends it this moment: a moment later it would ask again.
    fn kill(self) {
        if let Some(child) = &self.child {
            child.kill();
        }
    }

    /// Lets it end by itself, now that it did what it had to. Its folder is there until this is dropped.
    pub(super) async fn wind_up(&mut self) {
        self.child().wind_up().await;
    }

    fn release(mut self) -> (Option<Piped>, Option<TurnGuard>) {
        (self.child.take(), self.held.take())
    }

    /// Ends a child that failed, and gives back what it held, for another try. It is gone by then.
    pub(super) async fn discard(mut self) -> Option<TurnGuard> {
        if let Some(child) = &self.child {
            child.kill();
        }
        // Whoever leaves meanwhile leaves it to the drop.
        while self.child.as_mut().is_some_and(Piped::is_alive) {
            tokio::time::sleep(REAPING).await;
        }
        self.child = None;
        self.held.take()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            self.shared.children.end(child, self.held.take());
        }
    }
}

/// An answer on its way.
pub(super) struct AnswerStream {
    working: Option<Lease>,
    turn: Turn,
    conversation: Conversation,
    /// All that was said to the client.
    said: Vec<EventFrame>,
    /// The number of events that have left.
    sent: usize,
    /// Why the answer broke off.
    failure: Option<Failure>,
    /// How much of its history, in bytes, is not read from the prompt cache.
    uncached: usize,
    /// The model that answered, once the turn is with who settles it.
    answered: Option<String>,
}

impl AnswerStream {
    pub(super) fn new(working: Lease, turn: Turn, conversation: Conversation) -> Self {
        Self {
            working: Some(working),
            turn,
            conversation,
            said: Vec::new(),
            sent: 0,
            failure: None,
            uncached: 0,
            answered: None,
        }
    }

    /// With a history of which so many bytes are not read from the prompt cache.
    pub(super) fn uncached(self, uncached: usize) -> Self {
        Self { uncached, ..self }
    }

    /// How much of its history, in bytes, is not read from the prompt cache.
    pub(super) fn uncached_history(&self) -> usize {
        self.uncached
    }

    /// Waits for the next event of the answer; `None` at its end.
    ///
    /// # Errors
    ///
    /// [`Failure`] if there is no answer, and nothing was said yet. Later it is an event.
    pub(super) async fn next(&mut self) -> Result<Option<EventFrame>, Box<Failure>> {
        loop {
            if let Some(event) = self.said.get(self.sent) {
                self.sent += 1;
                return Ok(Some(event.clone()));
            }
            let Some(working) = &mut self.working else { return Ok(None) };
            let step = match working.child().line().await {
                Ok(Some(line)) => self.turn.line(&line, &mut self.said),
                Ok(None) => Step::Failed(self.turn.end()),
                Err(error) => Step::Failed(Failure {
                    message: format!("Claude Code cannot be understood: {error}"),
                    ..Failure::default()
                }),
            };
            match step {
                Step::Quiet | Step::Wrote => {}
                Step::Limit(limit) => working.shared.plan.limited(limit),
                Step::Say(text) => {
                    if working.child().say(&text).await.is_err() {
                        tracing::debug!("Claude Code does not listen any more");
                    }
                }
                Step::Over(after) => self.over(after),
                Step::Failed(failure) => self.failed(failure)?,
            }
        }
    }

    /// Ends a child of which nothing came, and gives back what it held.
    pub(super) async fn discard(mut self) -> Option<TurnGuard> {
        self.working.take()?.discard().await
    }

    /// The model that answers, as far as that was said.
    pub(super) fn model(&self) -> Option<&str> {
        self.turn.model().or(self.answered.as_deref())
    }

    /// Why the answer broke off, if it did.
    pub(super) fn failure(self) -> Option<Failure> {
        self.failure
    }

    fn failed(&mut self, failure: Failure) -> Result<(), Box<Failure>> {
        if let Some(working) = &mut self.working {
            let last_words = working.child().last_words();
            if !last_words.is_empty() {
                tracing::warn!(last_words, "Claude Code failed");
            }
        }
        if !self.turn.has_begun() {
            return Err(Box::new(failure));
        }
        if let Some(working) = self.working.take() {
            working.kill();
        }
        self.said.push(failure.event());
        self.failure = Some(failure);
        Ok(())
    }

    fn over(&mut self, after: After) {
        let Some(working) = self.working.take() else { return };
        let shared = working.shared.clone();
        if after == After::Ends {
            working.kill();
            shared.children.restock(&self.conversation.model);
            return;
        }
        let Some(blocks) = blocks(&self.said) else { return };
        self.answered = self.turn.model().map(str::to_owned);
        let turn = std::mem::replace(&mut self.turn, Turn::begun(Vec::new()));
        let print = self.conversation.print.then(AskedRole::Assistant, &blocks);
        // Announced before the client has the end of its answer: its next request finds it.
        let announced = Announced {
            done: shared.children.pool().settles(self.conversation.whose.clone(), print),
            shared: shared.clone(),
        };
        let settling = settle(working, turn, after, print, self.conversation.clone());
        let model = self.conversation.model.clone();
        let again = shared.clone();
        shared.children.spawn(async move {
            settling.await;
            drop(announced);
            again.children.restock(&model);
        });
    }
}

/// A child that was announced; whoever waits for it goes on when this is dropped.
struct Announced {
    done: CancellationToken,
    shared: Arc<ProgramState>,
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.shared.children.pool().settled(&self.done);
    }
}

/// Waits until a child is ready for the next turn, and puts it aside for it.
async fn settle(
    mut working: Lease,
    mut turn: Turn,
    after: After,
    print: Print,
    conversation: Conversation,
) {
    let shared = working.shared.clone();
    let ready =
        tokio::time::timeout(SETTLING, ready(&shared, working.child(), &mut turn, after)).await;
    if ready != Ok(true) {
        return;
    }
    let (Some(child), held) = working.release() else { return };
    let calls = if after == After::Holds { turn.calls().to_vec() } else { Vec::new() };
    let turns = conversation.turns + 1;
    if shared.conversations.is_forgotten(&conversation.whose) {
        return shared.children.let_go(child, held);
    }
    shared.conversations.remember(&conversation, turns).await;
    shared.children.keep(WarmChild {
        whose: conversation.whose,
        model: conversation.model,
        print,
        turns,
        calls,
        settings: conversation.settings,
        fixed: conversation.fixed,
        child,
        since: Instant::now(),
    });
    // Whoever waits for this session finds it only now.
    drop(held);
}

/// True once the child has said its result, or holds every call of its answer.
async fn ready(shared: &ProgramState, child: &mut Piped, turn: &mut Turn, after: After) -> bool {
    if after == After::Holds && turn.holds_all() {
        return true;
    }
    while let Ok(Some(line)) = child.line().await {
        if let Line::Result(outcome) = Line::parse(&line) {
            return after == After::Settles && !outcome.is_error;
        }
        match turn.line(&line, &mut Vec::new()) {
            Step::Say(text) => drop(child.say(&text).await),
            Step::Limit(limit) => shared.plan.limited(limit),
            Step::Quiet | Step::Wrote | Step::Over(_) | Step::Failed(_) => {}
        }
        if after == After::Holds && turn.holds_all() {
            return true;
        }
    }
    false
}

/// The blocks of an answer, from its events.
fn blocks(said: &[EventFrame]) -> Option<String> {
    let mut fold = Fold::default();
    for told in said {
        fold.event(&told.event());
    }
    let body = fold.finish().ok()?.body;
    let message = RawObject::parse(body.as_bytes()).ok()?;
    message.get("content").map(|content| content.raw().to_owned())
}
