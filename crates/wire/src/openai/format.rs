//! The format that an answer is to have.

use super::Terms;
use super::draft::Draft;
use super::schema::{Lowering, lower};
use crate::Fault;
use crate::json::{Node, RawObject};
use crate::read::{Path, member, object, unsupported, verbatim, wrong};

/// How an answer's format is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Free,
    /// The value of `output_config.format`.
    Enforced(String),
    /// A sentence for the system prompt, where Messages has no member for it.
    Asked(String),
}

/// One JSON object, whatever it holds.
pub(crate) fn any_object() -> Format {
    Format::Asked(
        "Answer with a single JSON object and nothing else: no text around it, no code fence."
            .to_owned(),
    )
}

/// What fits a schema. `holder` has it, at `path`; `whole` is what clients call the format.
pub(crate) fn fitting(
    draft: &mut Draft<'_>,
    holder: &RawObject<'_>,
    path: Path<'_>,
    whole: &'static str,
    terms: &Terms<'_>,
) -> Result<Format, Fault> {
    for key in ["name", "description"] {
        if member(holder, key).is_some_and(|node| !matches!(node.raw(), "\"\"")) {
            draft.notes.mention(path.key(key).to_string(), "ignored");
        }
    }
    let path = path.key("schema");
    let schema = member(holder, "schema").ok_or_else(|| wrong(path, "field required"))?;
    object(&schema, path)?;
    let lowered = if terms.traits.structured == Some(false) {
        Lowering::Unsaid("the model has no structured outputs")
    } else {
        lower(&schema, path)?
    };
    let why = match lowered {
        Lowering::Said { text, told, closed, opened, .. }
            if Node::whole(&text).is_some_and(|node| draft.toolbox.strict.admits_format(&node)) =>
        {
            for keyword in told {
                draft.notes.say(format!("{path}.{keyword}"), "told, not enforced")?;
            }
            if opened {
                draft
                    .notes
                    .mention(format!("{path}.allOf"), "merged, a closed branch with the others");
            }
            // Who asks to be strict has to close them himself, and those who do not may have meant them open.
            if closed
                && member(holder, "strict").is_none_or(|strict| strict.as_bool() != Some(true))
            {
                draft.notes.mention(format!("{path}.additionalProperties"), "closed");
            }
            return Ok(Format::Enforced(format!("{{\"type\":\"json_schema\",\"schema\":{text}}}")));
        }
        Lowering::Said { .. } => "it has too many optional members or unions",
        Lowering::Unsaid(why) => why,
    };
    if terms.strict {
        return Err(unsupported(
            path,
            format!(
                "Claude cannot be held to this schema: {why}. Change it, or set `strict = false` to have it told in the system prompt"
            ),
        ));
    }
    draft.notes.say(whole, "put into the system prompt")?;
    let schema = verbatim(&schema, path)?;
    Ok(Format::Asked(format!(
        "Answer with a single JSON value and nothing else: no text around it, no code fence. It has to fit this JSON Schema: {schema}"
    )))
}
