//! Which children there are that work for nobody right now. No IO: it is handed children and
//! hands them out.

use std::sync::Arc;
use std::time::Duration;

use seaway_wire::claude_code::{HeldCall, Print, Results};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Whose conversation it is, and by what name, if by any.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConversationKey {
    /// Opaque: conversations of two owners never meet.
    pub owner: Arc<str>,
    pub session: Option<Arc<str>>,
}

/// A child that has heard a conversation and waits for its next turn.
#[derive(Debug)]
pub(super) struct WarmChild<C> {
    pub whose: ConversationKey,
    pub model: String,
    /// The print of its conversation.
    pub print: Print,
    /// How many turns it answered.
    pub turns: u64,
    /// Tool calls that it holds open; none if it rests.
    pub calls: Vec<HeldCall>,
    /// The settings that it was told last.
    pub settings: String,
    /// Those of them that hold until its turn is over, whatever it is told.
    pub fixed: String,
    pub child: C,
    pub since: Instant,
}

/// A child that nothing was said to yet.
#[derive(Debug)]
struct Spare<C> {
    model: String,
    child: C,
    /// It begins with what the program says of its surroundings.
    seeded: bool,
    since: Instant,
}

/// A conversation whose answer is over, and whose child is about to be put aside.
#[derive(Debug)]
struct Settling {
    whose: ConversationKey,
    print: Print,
    /// Cancelled when it is there, or will never be.
    done: CancellationToken,
}

/// The children that wait.
#[derive(Debug)]
pub(super) struct ChildPool<C> {
    spares: Vec<Spare<C>>,
    kept: Vec<WarmChild<C>>,
    settling: Vec<Settling>,
    closed: bool,
}

/// A child that has to go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Discarded<C> {
    pub child: C,
    /// It holds calls open: left to itself it would tell the model that they were interrupted, and ask again.
    pub holds: bool,
}

impl<C> From<WarmChild<C>> for Discarded<C> {
    fn from(kept: WarmChild<C>) -> Self {
        Self { holds: !kept.calls.is_empty(), child: kept.child }
    }
}

impl<C> From<Spare<C>> for Discarded<C> {
    fn from(spare: Spare<C>) -> Self {
        Self { child: spare.child, holds: false }
    }
}

/// The child that suits a request best.
#[derive(Debug)]
pub(super) enum BestChild<C> {
    /// It holds open just the calls whose results came.
    Holding(WarmChild<C>),
    /// A child that has heard this many of the messages.
    Resting(WarmChild<C>, usize),
    /// True if it begins with what the program says of its surroundings.
    Spare(C, bool),
    /// A child that will suit in a moment.
    Soon(CancellationToken),
    Nothing,
}

/// What a request is known by.
#[derive(Debug)]
pub(super) struct ChildQuery<'w> {
    pub whose: &'w ConversationKey,
    pub model: &'w str,
    /// Of the conversation before its first message, and after each.
    pub prints: &'w [Print],
    /// What the last message holds, if it holds results alone.
    pub results: Option<&'w Results>,
    /// The settings that a turn keeps.
    pub fixed: &'w str,
}

impl<C> Default for ChildPool<C> {
    fn default() -> Self {
        Self { spares: Vec::new(), kept: Vec::new(), settling: Vec::new(), closed: false }
    }
}

impl<C> ChildPool<C> {
    /// Takes out the child that suits best. Children that wait for what this request shows will never come are
    /// given to `gone`.
    pub(super) fn find(
        &mut self,
        wanted: &ChildQuery<'_>,
        gone: &mut Vec<Discarded<C>>,
    ) -> BestChild<C> {
        if let Some(known) = self.known(wanted, gone) {
            return known;
        }
        match self.spares.iter().position(|spare| spare.model == wanted.model) {
            Some(at) => {
                let spare = self.spares.remove(at);
                BestChild::Spare(spare.child, spare.seeded)
            }
            None => BestChild::Nothing,
        }
    }

    fn known(
        &mut self,
        wanted: &ChildQuery<'_>,
        gone: &mut Vec<Discarded<C>>,
    ) -> Option<BestChild<C>> {
        let messages = wanted.prints.len() - 1;
        for heard in (1..messages).rev() {
            // Its client may be faster than the child is ready.
            if let Some(settling) = self.settling.iter().find(|settling| {
                settling.whose == *wanted.whose && settling.print == wanted.prints[heard]
            }) {
                return Some(BestChild::Soon(settling.done.clone()));
            }
            let is_it = |kept: &WarmChild<C>| {
                kept.whose == *wanted.whose && kept.print == wanted.prints[heard]
            };
            while let Some(at) = self.kept.iter().position(is_it) {
                let kept = self.kept.remove(at);
                if kept.calls.is_empty() {
                    return Some(BestChild::Resting(kept, heard));
                }
                if heard == messages - 1
                    && kept.fixed == wanted.fixed
                    && wanted.results.is_some_and(|results| answers(results, &kept.calls))
                {
                    return Some(BestChild::Holding(kept));
                }
                // The conversation went another way than its calls.
                gone.push(kept.into());
            }
        }
        None
    }

    /// Announces a child that will be kept; the token is to be given back to [`ChildPool::settled`].
    pub(super) fn settles(&mut self, whose: ConversationKey, print: Print) -> CancellationToken {
        let done = CancellationToken::new();
        self.settling.push(Settling { whose, print, done: done.clone() });
        done
    }

    /// Notes that an announced child is in the pool, or will never be.
    pub(super) fn settled(&mut self, done: &CancellationToken) {
        done.cancel();
        self.settling.retain(|settling| !settling.done.is_cancelled());
    }

    /// Keeps a child for the next turn of its conversation. What has to go for it is returned.
    pub(super) fn keep(&mut self, kept: WarmChild<C>, most: usize) -> Vec<Discarded<C>> {
        if self.closed || most == 0 {
            return vec![kept.into()];
        }
        let mut gone = Vec::new();
        // A named session is one conversation: the one that came last.
        if kept.whose.session.is_some() {
            self.take(|other| other.whose == kept.whose, &mut gone);
        }
        self.kept.push(kept);
        while self.kept.len() > most {
            gone.push(self.kept.remove(0).into());
        }
        gone
    }

    /// Puts a spare down. One too many is returned: that of the model that was wanted longest ago.
    pub(super) fn put(
        &mut self,
        model: &str,
        (child, seeded): (C, bool),
        most: usize,
        now: Instant,
    ) -> Vec<Discarded<C>> {
        if self.closed {
            return vec![Discarded { child, holds: false }];
        }
        self.spares.push(Spare { model: model.to_owned(), child, seeded, since: now });
        let excess = self.spares.len().saturating_sub(most);
        self.spares.drain(..excess).map(Discarded::from).collect()
    }

    /// True if there should be another spare for a model.
    pub(super) fn lacks(&self, model: &str, most: usize) -> bool {
        !self.closed && self.spares.iter().filter(|spare| spare.model == model).count() < most
    }

    /// Takes any spare, for a question that any can answer.
    pub(super) fn any_spare(&mut self) -> Option<(String, C, bool)> {
        self.spares.pop().map(|spare| (spare.model, spare.child, spare.seeded))
    }

    /// Takes out what waited for too long; `prewarmed` spares may wait for ever.
    pub(super) fn sweep(
        &mut self,
        idle: Duration,
        prewarmed: usize,
        now: Instant,
        mut is_alive: impl FnMut(&mut C) -> bool,
    ) -> Vec<Discarded<C>> {
        let mut gone = Vec::new();
        let late = |since: Instant| now.saturating_duration_since(since) >= idle;
        self.take(|kept| late(kept.since) || !is_alive(&mut kept.child), &mut gone);
        let mut left = self.spares.len();
        for mut spare in std::mem::take(&mut self.spares) {
            if is_alive(&mut spare.child) && (!late(spare.since) || left <= prewarmed) {
                self.spares.push(spare);
            } else {
                left -= 1;
                gone.push(spare.into());
            }
        }
        gone
    }

    /// Takes out the conversations that `which` picks.
    pub(super) fn take(
        &mut self,
        mut which: impl FnMut(&mut WarmChild<C>) -> bool,
        gone: &mut Vec<Discarded<C>>,
    ) {
        let (go, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.kept)
            .into_iter()
            .map(|mut kept| (which(&mut kept), kept))
            .partition(|(goes, _)| *goes);
        self.kept = stay.into_iter().map(|(_, kept)| kept).collect();
        gone.extend(go.into_iter().map(|(_, kept)| kept.into()));
    }

    /// Takes out every spare.
    pub(super) fn take_spares(&mut self) -> Vec<Discarded<C>> {
        std::mem::take(&mut self.spares).into_iter().map(Discarded::from).collect()
    }

    /// The number of spare children.
    pub(super) fn spares(&self) -> usize {
        self.spares.len()
    }

    /// The children that wait for their conversations' next turns.
    pub(super) fn kept(&self) -> impl Iterator<Item = &WarmChild<C>> {
        self.kept.iter()
    }

    /// Takes out everything, for good.
    pub(super) fn close(&mut self) -> Vec<Discarded<C>> {
        self.closed = true;
        let kept = std::mem::take(&mut self.kept).into_iter().map(Discarded::from);
        let spares = std::mem::take(&mut self.spares).into_iter().map(Discarded::from);
        kept.chain(spares).collect()
    }
}

/// True if the results are exactly those of the calls.
fn answers(results: &Results, calls: &[HeldCall]) -> bool {
    results.len() == calls.len()
        && calls
            .iter()
            .all(|call| results.iter().filter(|result| result.id == call.tool_use_id).count() == 1)
}

#[cfg(test)]
mod tests {
    use seaway_wire::Request;
    use seaway_wire::claude_code::{Ask, AskTerms, fingerprints};
    use seaway_wire::model::ModelTraits;

    use super::*;

    fn whose(owner: &str, session: Option<&str>) -> ConversationKey {
        ConversationKey { owner: owner.into(), session: session.map(Into::into) }
    }

    /// What a turn says: `a…` is the assistant's, `a:ID` a call of it, `result:ID` what came of that, `result:ID+` that and more.
    fn content(turn: &str) -> String {
        let result = |id: &str, more: &str| {
            format!(r#"[{{"type":"tool_result","tool_use_id":"{id}","content":"r"}}{more}]"#)
        };
        match turn.split_once(':') {
            Some(("a", id)) => {
                format!(r#"[{{"type":"tool_use","id":"{id}","name":"n","input":{{}}}}]"#)
            }
            Some(("result", id)) => id
                .strip_suffix('+')
                .map_or_else(|| result(id, ""), |id| result(id, r#",{"type":"text","text":"t"}"#)),
            _ => format!("\"{turn}\""),
        }
    }

    /// Prints and results of a conversation.
    fn prints(turns: &[&str]) -> (Vec<Print>, Option<Results>) {
        let role = |turn: &str| if turn.starts_with('a') { "assistant" } else { "user" };
        let messages: Vec<String> = turns
            .iter()
            .map(|turn| format!("{{\"role\":\"{}\",\"content\":{}}}", role(turn), content(turn)))
            .collect();
        let body =
            format!("{{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{}]}}", messages.join(","));
        let request = Request::parse(body.as_bytes()).unwrap();
        let ask =
            Ask::read(&request, &AskTerms { traits: ModelTraits::of("m"), strict: false }).unwrap();
        (
            fingerprints(&ask),
            ask.messages.last().and_then(seaway_wire::claude_code::AskedMessage::results),
        )
    }

    /// What a child knows that heard `turns`, the last of which it said itself.
    fn heard(turns: &[&str]) -> Print {
        let next = turns
            .last()
            .and_then(|turn| turn.strip_prefix("a:"))
            .map_or("u-next".to_owned(), |id| format!("result:{id}"));
        let longer: Vec<&str> = turns.iter().copied().chain([&*next]).collect();
        prints(&longer).0[turns.len()]
    }

    fn kept(child: u32, whose: ConversationKey, turns: &[&str], calls: &[&str]) -> WarmChild<u32> {
        let call = |id: &&str| HeldCall {
            request_id: "q".into(),
            rpc_id: "1".into(),
            tool_use_id: (*id).to_owned(),
        };
        WarmChild {
            whose,
            model: "m".into(),
            print: heard(turns),
            turns: 1,
            calls: calls.iter().map(call).collect(),
            settings: String::new(),
            fixed: "100".into(),
            child,
            since: Instant::now(),
        }
    }

    fn children(gone: Vec<Discarded<u32>>) -> Vec<u32> {
        gone.into_iter().map(|gone| gone.child).collect()
    }

    /// The child found, how much it knows, and who had to go.
    fn find(
        pool: &mut ChildPool<u32>,
        whose: &ConversationKey,
        turns: &[&str],
    ) -> (Option<u32>, usize, Vec<u32>) {
        let (prints, results) = prints(turns);
        let mut gone = Vec::new();
        let found = pool.find(
            &ChildQuery {
                whose,
                model: "m",
                prints: &prints,
                results: results.as_ref(),
                fixed: "100",
            },
            &mut gone,
        );
        let gone = children(gone);
        match found {
            BestChild::Holding(kept) => (Some(kept.child), turns.len() - 1, gone),
            BestChild::Resting(kept, heard) => (Some(kept.child), heard, gone),
            BestChild::Spare(child, _) => (Some(child), 0, gone),
            BestChild::Soon(done) => (None, usize::from(done.is_cancelled()), vec![u32::MAX]),
            BestChild::Nothing => (None, 0, gone),
        }
    }

    #[test]
    fn a_conversation_goes_on_where_it_was_heard() {
        let mut pool = ChildPool::default();
        let me = whose("me", None);
        pool.keep(kept(1, me.clone(), &["u", "a"], &[]), 9);
        assert_eq!(find(&mut pool, &whose("you", None), &["u", "a", "u2"]).0, None);
        assert_eq!(find(&mut pool, &whose("me", Some("s")), &["u", "a", "u2"]).0, None);
        assert_eq!(find(&mut pool, &me, &["other", "a", "u2"]).0, None);
        assert_eq!(find(&mut pool, &me, &["u"]).0, None);
        assert_eq!(find(&mut pool, &me, &["u", "a", "u2"]), (Some(1), 2, vec![]));
        assert_eq!(find(&mut pool, &me, &["u", "a", "u2"]).0, None, "it is taken");
        pool.keep(kept(2, me.clone(), &["u", "a"], &[]), 9);
        assert_eq!(
            find(&mut pool, &me, &["u", "a", "u2", "a2", "u3"]),
            (Some(2), 2, vec![]),
            "turns that it did not hear are told"
        );
    }

    #[test]
    fn a_child_that_settles_is_waited_for_by_its_own_conversation_alone() {
        let mut pool: ChildPool<u32> = ChildPool::default();
        let me = whose("me", None);
        let done = pool.settles(me.clone(), heard(&["u", "a"]));
        assert_eq!(find(&mut pool, &me, &["u", "a", "u2"]).2, [u32::MAX]);
        assert_eq!(find(&mut pool, &whose("you", None), &["u", "a", "u2"]).2, Vec::<u32>::new());
        pool.keep(kept(1, me.clone(), &["u", "a"], &[]), 9);
        pool.settled(&done);
        assert!(done.is_cancelled());
        assert_eq!(find(&mut pool, &me, &["u", "a", "u2"]).0, Some(1));
    }

    #[test]
    fn held_calls_want_exactly_their_results() {
        let me = whose("me", None);
        let table = [
            (&["u", "a:x", "result:x"][..], (Some(1), vec![])),
            (&["u", "a:y", "result:y"], (None, vec![])),
            (&["u", "a:x", "result:x+"], (None, vec![1])),
            (&["u", "a:x", "result:x", "a2", "u3"], (None, vec![1])),
        ];
        for (turns, expect) in table {
            let mut pool = ChildPool::default();
            pool.keep(kept(1, me.clone(), &["u", "a:x"], &["x"]), 9);
            let (child, _, gone) = find(&mut pool, &me, turns);
            assert_eq!((child, gone), expect, "{turns:?}");
        }
    }

    #[test]
    fn held_calls_want_the_limits_with_which_their_turn_began() {
        let mut pool = ChildPool::default();
        let other =
            WarmChild { fixed: "9".into(), ..kept(1, whose("me", None), &["u", "a:x"], &["x"]) };
        pool.keep(other, 9);
        assert_eq!(
            find(&mut pool, &whose("me", None), &["u", "a:x", "result:x"]),
            (None, 0, vec![1])
        );
    }

    #[test]
    fn a_spare_serves_one_model() {
        let mut pool = ChildPool::default();
        let now = Instant::now();
        assert!(pool.lacks("m", 1));
        assert!(pool.put("m", (1, true), 1, now).is_empty());
        assert!(!pool.lacks("m", 1) && pool.lacks("m", 2) && pool.lacks("n", 1));
        assert_eq!(children(pool.put("n", (2, true), 1, now)), [1]);
        assert_eq!(find(&mut pool, &whose("me", None), &["u"]).0, None);
        pool.put("m", (3, true), 2, now);
        assert_eq!(find(&mut pool, &whose("me", Some("s")), &["u"]).0, Some(3));
        pool.put("m", (4, true), 2, now);
        assert_eq!(children(pool.take_spares()), [2, 4]);
    }

    #[test]
    fn the_one_used_longest_ago_goes_first() {
        let mut pool = ChildPool::default();
        for child in 1..=3 {
            let gone =
                pool.keep(kept(child, whose("me", None), &[&format!("u{child}"), "a"], &[]), 2);
            assert_eq!(children(gone), if child == 3 { vec![1] } else { vec![] });
        }
        assert!(pool.keep(kept(4, whose("me", Some("s")), &["u", "a"], &[]), 9).is_empty());
        assert_eq!(
            children(pool.keep(kept(5, whose("me", Some("s")), &["v", "a"], &["x"]), 9)),
            [4],
            "a session has one conversation"
        );
        let gone = pool.close();
        assert_eq!(
            gone.iter().map(|gone| gone.holds).collect::<Vec<_>>(),
            [false, false, true],
            "who holds calls has to be killed"
        );
        assert_eq!(children(gone), [2, 3, 5]);
        assert_eq!(
            children(pool.keep(kept(6, whose("me", None), &["u", "a"], &[]), 9)),
            [6],
            "nothing is kept after the end"
        );
    }

    #[test]
    fn what_waits_too_long_or_died_goes_but_for_what_was_prewarmed() {
        let mut pool = ChildPool::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(10);
        for child in 1..=2 {
            pool.keep(kept(child, whose("me", None), &[&format!("u{child}"), "a"], &[]), 9);
        }
        pool.put("m", (11, true), 9, now);
        pool.put("m", (12, true), 9, now);
        assert_eq!(
            children(pool.sweep(Duration::from_secs(60), 0, later, |child| *child != 2)),
            [2]
        );
        assert_eq!(children(pool.sweep(Duration::from_secs(5), 1, later, |_| true)), [1, 11]);
        assert_eq!(children(pool.close()), [12]);
    }
}
