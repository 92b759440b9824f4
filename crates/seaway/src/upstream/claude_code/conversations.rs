//! Whose turn it is in a conversation that has a name, and where it stands.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use seaway_wire::claude_code::Print;
use tokio::sync::OwnedMutexGuard;

use super::pool::ConversationKey;
use crate::causes::chain;
use crate::config::{Limits, UpstreamName};
use crate::store::{Session, Store, StoreError};
use crate::upstream::UpstreamError;
use crate::upstream::gate::{Gate, Permit, Refused};

/// The right to work, and the turn of a session.
pub(super) struct TurnGuard {
    pub(super) _permit: Permit,
    pub(super) _turn: Option<OwnedMutexGuard<()>>,
}

/// The conversation that an answer belongs to.
#[derive(Debug, Clone)]
pub(super) struct Conversation {
    pub(super) whose: ConversationKey,
    pub(super) model: String,
    /// The print of the conversation before the answer.
    pub(super) print: Print,
    /// How many turns the child answered before.
    pub(super) turns: u64,
    /// The settings that hold for it.
    pub(super) settings: String,
    /// Those that hold until its turn is over.
    pub(super) fixed: String,
}

/// The conversations of one upstream.
pub(super) struct Conversations {
    name: UpstreamName,
    limits: Limits,
    retention: Duration,
    gate: Arc<Gate>,
    store: Store,
    /// The turn of each named one; whoever comes later waits in line.
    turns: Mutex<HashMap<ConversationKey, Weak<tokio::sync::Mutex<()>>>>,
    /// Those that were deleted while they were at work.
    forgotten: Mutex<HashSet<ConversationKey>>,
}

impl Conversations {
    pub(super) fn new(
        name: UpstreamName,
        limits: Limits,
        retention: Duration,
        gate: Arc<Gate>,
        store: Store,
    ) -> Self {
        Self {
            name,
            limits,
            retention,
            gate,
            store,
            turns: Mutex::default(),
            forgotten: Mutex::default(),
        }
    }

    /// Waits for the turn of a session, if it is one, and for a place. Whoever waits for a session does not
    /// keep a place from others. The `patient` wait as long as it takes.
    pub(super) async fn enter(
        &self,
        whose: &ConversationKey,
        patient: bool,
    ) -> Result<TurnGuard, UpstreamError> {
        let busy = |refused: Refused| refused.of(&self.name);
        let limit = if patient { Duration::MAX } else { self.limits.queue_timeout };
        let turn = match &whose.session {
            Some(_) => {
                let turn = self.turn(whose);
                // Of all who hold the lock's handle, the one at work and this request do not wait.
                let waiting = Arc::strong_count(&turn).saturating_sub(2);
                if !patient && waiting > self.limits.queue {
                    return Err(busy(Refused::Full(waiting)));
                }
                let waited = tokio::time::timeout(limit, turn.lock_owned()).await;
                let turn = waited.map_err(|_| busy(Refused::TimedOut(limit)))?;
                // What was deleted before is no business of this turn.
                self.is_forgotten(whose);
                Some(turn)
            }
            None => None,
        };
        let permit = loop {
            match self.gate.enter(&whose.owner).await {
                Ok(permit) => break permit,
                Err(Refused::TimedOut(_)) if patient => {}
                Err(Refused::Full(_)) if patient => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(refused) => return Err(busy(refused)),
            }
        };
        Ok(TurnGuard { _permit: permit, _turn: turn })
    }

    /// Notes that a session was deleted while it is at work.
    pub(super) fn forget_later(&self, whose: &ConversationKey) {
        let at_work = self
            .lock_turns()
            .get(whose)
            .and_then(Weak::upgrade)
            .is_some_and(|turn| turn.try_lock().is_err());
        if at_work {
            self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).insert(whose.clone());
        }
    }

    /// True once for a session that was deleted while it was at work.
    pub(super) fn is_forgotten(&self, whose: &ConversationKey) -> bool {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).remove(whose)
    }

    /// The lock of a session: first come, first served.
    fn turn(&self, whose: &ConversationKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.lock_turns();
        if let Some(turn) = turns.get(whose).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        turns.insert(whose.clone(), Arc::downgrade(&turn));
        turn
    }

    fn lock_turns(&self) -> MutexGuard<'_, HashMap<ConversationKey, Weak<tokio::sync::Mutex<()>>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down where a named session stands.
    pub(super) async fn remember(&self, conversation: &Conversation, turns: u64) {
        let Some(session) = conversation.whose.session.as_deref() else { return };
        let kept = self.store.keep_session(Session {
            upstream: self.name.to_string(),
            owner: conversation.whose.owner.to_string(),
            name: session.to_owned(),
            program_id: String::new(),
            model: conversation.model.clone(),
            folder: None,
            turns,
            used: jiff::Timestamp::now().as_second(),
        });
        if let Err(error) = kept.await {
            tracing::error!(error = %chain(&error), session, "a named conversation's turn was not written down");
        }
    }

    /// Where a named session stands, if it is known.
    pub(super) async fn session(
        &self,
        whose: &ConversationKey,
    ) -> Result<Option<Session>, StoreError> {
        let Some(name) = whose.session.as_deref() else { return Ok(None) };
        self.store.session(&self.name.0, &whose.owner, name, self.retention).await
    }

    /// Forgets the turns that nobody waits for.
    pub(super) fn sweep(&self) {
        self.lock_turns().retain(|_, turn| turn.strong_count() > 0);
    }
}
