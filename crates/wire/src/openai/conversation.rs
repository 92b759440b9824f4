//! A conversation in the making: turns are joined, put in order and checked as Messages wants them.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::json::Text;
use crate::model::ModelTraits;
use crate::notes::Notes;
use crate::read::wrong;
use crate::{Fault, FaultKind};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    User,
    Assistant,
    System,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
        }
    }
}

/// One content block, with its cache mark kept apart so that surplus ones can be taken off.
#[derive(Debug)]
pub(crate) struct ContentBlock<'a> {
    pub kind: ContentKind<'a>,
    /// The value of `cache_control`.
    pub mark: Option<Cow<'a, str>>,
}

#[derive(Debug)]
pub(crate) enum ContentKind<'a> {
    Text(Text<'a>),
    /// Thinking, word for word as the model that is asked wrote it.
    Thought(Cow<'a, str>),
    /// An image or a document, written as it stands.
    Media(String),
    Call(ToolCall<'a>),
    Result(ToolResult<'a>),
}

#[derive(Debug)]
pub(crate) struct ToolCall<'a> {
    /// As Messages takes it.
    pub id: Cow<'a, str>,
    pub name: Cow<'a, str>,
    /// The arguments: an object's JSON text.
    pub input: Cow<'a, str>,
    /// Where it stands in the request, for faults.
    pub at: usize,
}

#[derive(Debug)]
pub(crate) struct ToolResult<'a> {
    pub id: Cow<'a, str>,
    pub content: Content<'a>,
    /// The tool failed, as Messages' clients may say.
    pub failed: bool,
    pub at: usize,
}

#[derive(Debug)]
pub(crate) enum Content<'a> {
    Text(Text<'a>),
    Blocks(Vec<ContentBlock<'a>>),
}

impl<'a> Content<'a> {
    /// As blocks; what says nothing is none.
    pub(crate) fn into_blocks(self) -> Vec<ContentBlock<'a>> {
        match self {
            Self::Text(text) if text.is_blank() => Vec::new(),
            Self::Text(text) => vec![ContentBlock::new(ContentKind::Text(text))],
            Self::Blocks(blocks) => blocks,
        }
    }

    /// Adds more of the same result.
    pub(crate) fn append(&mut self, more: Self) {
        let mut blocks = std::mem::replace(self, Self::Blocks(Vec::new())).into_blocks();
        blocks.extend(more.into_blocks());
        *self = if blocks.is_empty() { Self::Text(Text::quoted("")) } else { Self::Blocks(blocks) };
    }
}

impl<'a> ContentBlock<'a> {
    pub(crate) fn new(kind: ContentKind<'a>) -> Self {
        Self { kind, mark: None }
    }

    fn is_result(&self) -> bool {
        matches!(self.kind, ContentKind::Result(_))
    }
}

#[derive(Debug)]
pub(crate) struct ConversationTurn<'a> {
    pub role: Role,
    pub blocks: Vec<ContentBlock<'a>>,
}

/// The place of what was said before this request.
pub(crate) const REMEMBERED: usize = usize::MAX;

/// What was said, in order. A turn begins with its first block, so that there are no empty ones.
#[derive(Debug, Default)]
pub(crate) struct Conversation<'a> {
    /// The system text before the first turn.
    pub system: Vec<ContentBlock<'a>>,
    pub turns: Vec<ConversationTurn<'a>>,
}

impl<'a> Conversation<'a> {
    pub(crate) fn push(&mut self, role: Role, block: ContentBlock<'a>) {
        if role == Role::System && self.turns.is_empty() {
            self.system.push(block);
            return;
        }
        match self.turns.last_mut() {
            Some(turn) if turn.role == role => turn.blocks.push(block),
            _ => self.turns.push(ConversationTurn { role, blocks: vec![block] }),
        }
    }

    /// Adds a call. Where only results came since the last assistant turn, and not all of them, the call is still
    /// part of that turn: some clients tell of a call's end before they tell of the next call.
    pub(crate) fn push_call(&mut self, call: ToolCall<'a>) {
        let results = self.turns.last().is_some_and(|turn| {
            turn.role == Role::User && turn.blocks.iter().all(ContentBlock::is_result)
        });
        let before = self
            .turns
            .len()
            .checked_sub(2)
            .filter(|_| results && self.open_calls().next().is_some());
        match before {
            Some(at) if self.turns[at].role == Role::Assistant => {
                self.turns[at].blocks.push(ContentBlock::new(ContentKind::Call(call)));
            }
            _ => self.push(Role::Assistant, ContentBlock::new(ContentKind::Call(call))),
        }
    }

    /// The calls of the last assistant turn that wait for their results.
    fn open_calls(&self) -> impl Iterator<Item = &ToolCall<'a>> {
        let at = self.turns.iter().rposition(|turn| turn.role == Role::Assistant);
        let behind = at.map_or(&[][..], |at| &self.turns[at + 1..]);
        let answered = move |id: &str| {
            behind
                .iter()
                .flat_map(|turn| &turn.blocks)
                .any(|block| matches!(&block.kind, ContentKind::Result(result) if result.id == id))
        };
        let blocks = at.map(|at| self.turns[at].blocks.iter()).into_iter().flatten();
        let calls = blocks.filter_map(|block| match &block.kind {
            ContentKind::Call(call) => Some(call),
            _ => None,
        });
        calls.filter(move |call| !answered(&call.id))
    }

    /// The one call of the last assistant turn that waits for its result, if it is one.
    pub(crate) fn sole_open_call(&self) -> Option<&ToolCall<'a>> {
        let mut open = self.open_calls();
        open.next().filter(|_| open.next().is_none())
    }

    /// The result of a call that has one already, in the turn that is open.
    pub(crate) fn result_mut(&mut self, id: &str) -> Option<&mut ToolResult<'a>> {
        let turn = self.turns.last_mut().filter(|turn| turn.role == Role::User)?;
        turn.blocks.iter_mut().find_map(|block| match &mut block.kind {
            ContentKind::Result(result) if result.id == id => Some(result),
            _ => None,
        })
    }

    /// Makes of it what Messages takes. `messages` is what the client calls the list.
    ///
    /// # Errors
    ///
    /// Where that would take inventing or losing something: calls without results and the like.
    pub(crate) fn settle(
        &mut self,
        traits: &ModelTraits,
        model: &str,
        messages: &'static str,
        notes: &mut Notes,
    ) -> Result<(), Fault> {
        if self.turns.is_empty()
            && let Some(ContentBlock { kind: ContentKind::Text(last), .. }) = self.system.last()
        {
            // Claude answers users: who has only system text has put the question there. It keeps its weight as well.
            let blocks = vec![ContentBlock::new(ContentKind::Text(last.clone()))];
            self.turns.push(ConversationTurn { role: Role::User, blocks });
            notes.say(messages, "last system text made the user turn too")?;
        }
        self.place_system_turns(traits.system_turns);
        for turn in self.turns.iter_mut().filter(|turn| turn.role == Role::User) {
            results_first(turn);
        }
        self.pair(messages)?;
        if !self.turns.iter().any(|turn| turn.role == Role::User) {
            return Err(wrong(
                messages,
                "there is no user message that says something; Claude answers users",
            ));
        }
        self.prefill(traits, model, messages)
    }

    /// System text stays where it was said: as a turn of its own where that is legal, else in
    /// the user turn at its place. Moving it to the top would change the conversation's
    /// beginning whenever one is added.
    fn place_system_turns(&mut self, legal_here: bool) {
        if self.turns.iter().all(|turn| turn.role != Role::System) {
            return;
        }
        let mut placed = Self { system: std::mem::take(&mut self.system), turns: Vec::new() };
        let mut rest = std::mem::take(&mut self.turns).into_iter().peekable();
        while let Some(turn) = rest.next() {
            let after_user = placed.turns.last().is_some_and(|last| last.role == Role::User);
            let before_user = rest.peek().is_some_and(|next| next.role == Role::User);
            let legal = legal_here && after_user && !before_user;
            for block in turn.blocks {
                if turn.role == Role::System && !legal {
                    placed.push(Role::User, tagged(block));
                } else {
                    placed.push(turn.role, block);
                }
            }
        }
        *self = placed;
    }

    /// Every call has one result in the next turn, and every result a call in the turn before.
    fn pair(&self, messages: &str) -> Result<(), Fault> {
        for (index, turn) in self.turns.iter().enumerate() {
            if turn.role == Role::Assistant {
                answered(&turn.blocks, self.turns.get(index + 1), messages)?;
            }
            let before = index.checked_sub(1).map(|before| &self.turns[before]);
            if turn.role == Role::User && before.is_none_or(|before| before.role != Role::Assistant)
            {
                answered(&[], Some(turn), messages)?;
            }
        }
        Ok(())
    }

    /// A last turn of the assistant's is the beginning of the answer.
    fn prefill(&mut self, traits: &ModelTraits, model: &str, messages: &str) -> Result<(), Fault> {
        let Some(turn) = self.turns.last_mut().filter(|turn| turn.role == Role::Assistant) else {
            return Ok(());
        };
        if !traits.prefill {
            let why = format!(
                "the conversation ends with an assistant message, which `{model}` does not continue; end it with a user message"
            );
            return Err(wrong(messages, why));
        }
        let Some(ContentBlock { kind: ContentKind::Text(text), .. }) = turn.blocks.last_mut()
        else {
            return Ok(());
        };
        let trimmed = text.decoded().trim_end().to_owned();
        if trimmed.len() < text.decoded().len() {
            *text = Text::quoted(&trimmed);
        }
        Ok(())
    }
}

/// System text where no system turn may stand.
fn tagged(block: ContentBlock<'_>) -> ContentBlock<'_> {
    match block.kind {
        ContentKind::Text(text) => {
            let tagged = format!("<system>{}</system>", text.decoded());
            ContentBlock { kind: ContentKind::Text(Text::quoted(&tagged)), mark: block.mark }
        }
        kind => ContentBlock { kind, mark: block.mark },
    }
}

fn results_first(turn: &mut ConversationTurn<'_>) {
    // Stable: results keep their order, and so does the rest.
    turn.blocks.sort_by_key(|block| !block.is_result());
}

/// Checks the calls among an assistant's blocks against the results in the turn behind them.
fn answered(
    blocks: &[ContentBlock<'_>],
    next: Option<&ConversationTurn<'_>>,
    messages: &str,
) -> Result<(), Fault> {
    let calls = blocks.iter().filter_map(|block| match &block.kind {
        ContentKind::Call(call) => Some(call),
        _ => None,
    });
    let user = next.filter(|next| next.role == Role::User);
    let results =
        user.map(|user| user.blocks.as_slice()).unwrap_or_default().iter().filter_map(|block| {
            match &block.kind {
                ContentKind::Result(result) => Some(result),
                _ => None,
            }
        });
    let unpaired = |at, why: String| unpaired(messages, at, &why);
    let mut open = HashSet::new();
    let mut known = HashSet::new();
    for call in calls.clone() {
        if !open.insert(&*call.id) {
            return Err(unpaired(
                call.at,
                format!("the id `{}` is used by two tool calls of one turn", call.id),
            ));
        }
        known.insert(&*call.id);
    }
    for result in results {
        if !known.contains(&*result.id) {
            return Err(unpaired(
                result.at,
                format!(
                    "the result `{}` answers no tool call of the assistant message before it",
                    result.id
                ),
            ));
        }
        if !open.remove(&*result.id) {
            return Err(unpaired(
                result.at,
                format!("the tool call `{}` is answered twice", result.id),
            ));
        }
    }
    match calls.into_iter().find(|call| open.contains(&*call.id)) {
        Some(call) => Err(unpaired(
            call.at,
            format!(
                "the tool call `{}` has no result; it has to follow before anything else is said",
                call.id
            ),
        )),
        None => Ok(()),
    }
}

/// `at`: where in `messages` the call or the result stands.
fn unpaired(messages: &str, at: usize, why: &str) -> Fault {
    let path = if at == REMEMBERED {
        "previous_response_id".to_owned()
    } else {
        format!("{messages}[{at}]")
    };
    Fault::new(FaultKind::InvalidRequest, format!("{path}: {why}")).param(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> ContentBlock<'static> {
        ContentBlock::new(ContentKind::Text(Text::quoted(text)))
    }

    fn call(id: &'static str) -> ContentBlock<'static> {
        ContentBlock::new(ContentKind::Call(ToolCall {
            id: id.into(),
            name: "n".into(),
            input: "{}".into(),
            at: 1,
        }))
    }

    fn result(id: &'static str) -> ContentBlock<'static> {
        ContentBlock::new(ContentKind::Result(ToolResult {
            id: id.into(),
            content: Content::Text(Text::quoted("r")),
            failed: false,
            at: 2,
        }))
    }

    /// Says `said` (`u`, `a`, `s` with a text or a block) and shows the turns.
    fn settle(said: Vec<(Role, ContentBlock<'static>)>, model: &str) -> Result<String, String> {
        let mut conversation = Conversation::default();
        for (role, block) in said {
            conversation.push(role, block);
        }
        conversation
            .settle(&ModelTraits::of(model), model, "messages", &mut Notes::new(false))
            .map_err(|fault| fault.message.into_owned())?;
        let block = |block: &ContentBlock<'_>| match &block.kind {
            ContentKind::Text(text) => text.decoded().into_owned(),
            ContentKind::Thought(raw) => raw.clone().into_owned(),
            ContentKind::Media(raw) => raw.clone(),
            ContentKind::Call(call) => format!("call {}", call.id),
            ContentKind::Result(result) => format!("result {}", result.id),
        };
        let turn = |turn: &ConversationTurn<'_>| {
            format!(
                "{}: {}",
                &turn.role.name()[..1],
                turn.blocks.iter().map(block).collect::<Vec<_>>().join(", ")
            )
        };
        Ok(conversation.turns.iter().map(turn).collect::<Vec<_>>().join(" | "))
    }

    use Role::{Assistant as A, System as S, User as U};
    const OLD: &str = "claude-haiku-4-5";
    const NEW: &str = "claude-opus-5-5";

    #[track_caller]
    fn check(said: Vec<(Role, ContentBlock<'static>)>, model: &str, expect: Result<&str, &str>) {
        match (settle(said, model), expect) {
            (Ok(came), Ok(expect)) => assert_eq!(came, expect),
            (Err(came), Err(expect)) => assert!(came.contains(expect), "{came}"),
            (came, expect) => panic!("{came:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn turns_of_one_role_are_one() {
        check(
            vec![(U, text("1")), (U, text("2")), (A, text("3")), (U, text("4"))],
            OLD,
            Ok("u: 1, 2 | a: 3 | u: 4"),
        );
        check(vec![(A, text("1")), (U, text("2"))], OLD, Ok("a: 1 | u: 2"));
    }

    #[test]
    fn results_come_first_and_in_their_order() {
        let said = || {
            vec![
                (U, text("?")),
                (A, call("1")),
                (A, call("2")),
                (U, text("!")),
                (U, result("2")),
                (U, result("1")),
            ]
        };
        check(said(), OLD, Ok("u: ? | a: call 1, call 2 | u: result 2, result 1, !"));
    }

    #[test]
    fn calls_and_results_are_paired() {
        check(
            vec![(U, text("?")), (A, call("1"))],
            OLD,
            Err("messages[1]: the tool call `1` has no result"),
        );
        check(vec![(U, text("?")), (A, call("1")), (U, text("!"))], OLD, Err("`1` has no result"));
        check(vec![(U, result("1"))], OLD, Err("messages[2]: the result `1` answers no tool call"));
        check(vec![(A, call("1")), (U, result("1")), (U, result("1"))], OLD, Err("answered twice"));
        check(
            vec![(A, call("1")), (A, call("1")), (U, result("1"))],
            OLD,
            Err("two tool calls of one turn"),
        );
        check(
            vec![(A, call("1")), (U, result("1")), (A, call("1")), (U, result("1"))],
            OLD,
            Ok("a: call 1 | u: result 1 | a: call 1 | u: result 1"),
        );
        check(
            vec![(A, call("1")), (U, result("1")), (A, text("x")), (U, result("1"))],
            OLD,
            Err("answers no tool call"),
        );
    }

    #[test]
    fn system_text_stays_in_its_place() {
        let said = || {
            vec![
                (S, text("0")),
                (U, text("1")),
                (S, text("s")),
                (S, text("t")),
                (A, text("2")),
                (U, text("3")),
            ]
        };
        check(said(), NEW, Ok("u: 1 | s: s, t | a: 2 | u: 3"));
        check(said(), OLD, Ok("u: 1, <system>s</system>, <system>t</system> | a: 2 | u: 3"));
        check(vec![(U, text("1")), (S, text("s"))], NEW, Ok("u: 1 | s: s"));
        check(
            vec![(U, text("1")), (S, text("s")), (U, text("2"))],
            NEW,
            Ok("u: 1, <system>s</system>, 2"),
        );
        check(
            vec![(U, text("1")), (A, text("2")), (S, text("s")), (U, text("3"))],
            NEW,
            Ok("u: 1 | a: 2 | u: <system>s</system>, 3"),
        );
        check(
            vec![(U, text("1")), (A, call("c")), (S, text("s")), (U, result("c"))],
            NEW,
            Ok("u: 1 | a: call c | u: result c, <system>s</system>"),
        );
        check(
            vec![(U, text("1")), (A, call("c")), (U, result("c")), (S, text("s"))],
            NEW,
            Ok("u: 1 | a: call c | u: result c | s: s"),
        );
    }

    #[test]
    fn a_growing_conversation_keeps_its_beginning() {
        let said = || {
            vec![
                (S, text("0")),
                (U, text("1")),
                (S, text("s")),
                (A, call("c")),
                (S, text("t")),
                (U, result("c")),
                (S, text("v")),
                (A, text("2")),
                (U, text("3")),
            ]
        };
        for model in [OLD, NEW] {
            let whole = settle(said(), model).unwrap();
            for upto in [2, 3, 7, 9] {
                let part = settle(said().into_iter().take(upto).collect(), model).unwrap();
                // Text may join the turn that is still open, and nothing else may differ.
                assert!(whole.starts_with(&part), "{model}, {upto}: {part} / {whole}");
            }
        }
    }

    #[test]
    fn an_answer_that_was_begun() {
        check(vec![(U, text("1")), (A, text("2 \n"))], OLD, Ok("u: 1 | a: 2"));
        check(
            vec![(U, text("1")), (A, text("2"))],
            NEW,
            Err("`claude-opus-5-5` does not continue"),
        );
        check(vec![(A, text("2"))], OLD, Err("no user message"));
        check(vec![], OLD, Err("no user message"));
    }

    #[test]
    fn who_has_only_system_text_asks_in_it() {
        check(vec![(S, text("be brief")), (S, text("2 + 2?"))], NEW, Ok("u: 2 + 2?"));
    }
}
