//! The format that an answer is to have.

use std::fmt::Display;

use super::Terms;
use super::conversation::{Block, Kind};
use super::draft::Draft;
use super::schema;
use crate::Fault;
use crate::json::{RawObject, Text};
use crate::read::{member, object, verbatim, wrong};

/// One JSON object, whatever it holds: Messages has no member for that, so it is asked for.
pub fn any_object(draft: &mut Draft<'_>) {
    ask(draft, "Answer with a single JSON object and nothing else: no text around it, no code fence.");
}

/// What fits a schema, as a member of `output_config` or as a sentence in the system prompt. `holder` has
/// the schema, at `path`; `whole` is what clients call the format.
pub fn fitting(draft: &mut Draft<'_>, holder: &RawObject<'_>, path: impl Display, whole: &'static str, terms: &Terms<'_>) -> Result<Option<String>, Fault> {
    let path = path.to_string();
    let schema = member(holder, "schema").ok_or_else(|| wrong(&path, "field required"))?;
    object(&schema, &path)?;
    if terms.traits.structured == Some(false) {
        let text = format!("Answer with a single JSON value and nothing else: no text around it, no code fence. It has to fit this JSON Schema: {}", verbatim(&schema, &path)?);
        ask(draft, &text);
        draft.notes.say(whole, "put into the system prompt")?;
        return Ok(None);
    }
    let adapted = schema::adapted(&schema, &path)?;
    if adapted.closed {
        draft.notes.say(path, "closed to additional properties")?;
    }
    Ok(Some(format!("{{\"type\":\"json_schema\",\"schema\":{}}}", adapted.text)))
}

/// Says in the system prompt what Messages has no member for.
fn ask(draft: &mut Draft<'_>, text: &str) {
    draft.conversation.system.push(Block::new(Kind::Text(Text::quoted(text))));
}
