//! What a model takes of a request. The sandbox's own models take all that some model does.

use seaway_wire::model::{ModelTraits, Off, Sampling, Thinking};
use serde_json::Value;

use super::{CheckRefusal, Checked};
use crate::upstream::sandbox::MODELS;

/// A model that there is: one of the sandbox's, or one of Claude's by its name.
pub(super) fn known(model: &str) -> Checked {
    let own = MODELS.iter().any(|(id, _)| *id == model);
    if own || (model.starts_with("claude-") && !ModelTraits::is_unknown(model)) {
        return Ok(());
    }
    Err(CheckRefusal { status: 404, kind: "not_found_error", message: format!("model: {model}") })
}

fn traits(request: &Value) -> Option<(&str, ModelTraits)> {
    let model = request["model"].as_str().filter(|model| !ModelTraits::is_unknown(model))?;
    Some((model, ModelTraits::of(model)))
}

/// Checks an answer's limit.
pub(super) fn limits(request: &Value, betas: &str) -> Checked {
    let most = request["max_tokens"].as_u64().unwrap_or_default();
    let thinking = &request["thinking"];
    if let Some((model, traits)) = traits(request)
        && most > traits.max_output
        && !betas.contains("output-")
    {
        return Err(format!("max_tokens: {most} > {}, which is the maximum allowed number of output tokens for {model}", traits.max_output).into());
    }
    match thinking["budget_tokens"].as_u64().filter(|_| thinking["type"] == "enabled") {
        Some(budget) if budget < 1024 => Err("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024".into()),
        Some(budget) if budget >= most && !betas.contains("interleaved-thinking") => Err(
            "`max_tokens` must be greater than `thinking.budget_tokens`. Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking"
                .into(),
        ),
        _ => Ok(()),
    }
}

/// Checks what only some models take.
pub(super) fn takes(request: &Value) -> Checked {
    let thinking = request["thinking"]["type"].as_str();
    let forced = matches!(request["tool_choice"]["type"].as_str(), Some("any" | "tool"));
    if thinking == Some("enabled") && forced {
        return Err("Thinking may not be enabled when tool_choice forces tool use.".into());
    }
    let Some((model, traits)) = traits(request) else { return Ok(()) };
    thoughts(thinking, model, &traits)?;
    if forced && !traits.forced_tool {
        return Err(format!("tool_choice: forcing tool use is not supported for {model}").into());
    }
    sampling(request, &traits)?;
    let prefilled = request["messages"]
        .as_array()
        .and_then(|messages| messages.last())
        .is_some_and(|last| last["role"] == "assistant");
    if prefilled && !traits.prefill {
        return Err("This model does not support assistant message prefill. The conversation must end with a user message.".into());
    }
    let turns = request["messages"].as_array().into_iter().flatten();
    if !traits.system_turns && turns.into_iter().any(|turn| turn["role"] == "system") {
        return Err("messages: Unexpected role \"system\". The Messages API accepts a top-level `system` parameter, not \"system\" as an input message role.".into());
    }
    match request["output_config"]["effort"].as_str() {
        Some(_) if traits.efforts.is_empty() => {
            Err("This model does not support the effort parameter.".into())
        }
        Some(effort) if !traits.efforts.iter().any(|known| known.name() == effort) => {
            Err(format!("output_config.effort: '{effort}' is not supported for {model}").into())
        }
        _ => Ok(()),
    }
}

fn thoughts(thinking: Option<&str>, model: &str, traits: &ModelTraits) -> Checked {
    match thinking {
        Some("enabled") if !traits.manual && traits.thinking == Thinking::Adaptive => {
            Err("\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\" and \"output_config.effort\" to control thinking behavior.".into())
        }
        Some("adaptive") if traits.thinking != Thinking::Adaptive => Err("adaptive thinking is not supported on this model".into()),
        Some("enabled") if !traits.manual => Err(format!("thinking is not supported for {model}").into()),
        Some("disabled") if matches!(traits.off, Off::Never | Off::BetweenTools) => Err("\"thinking.type.disabled\" is not supported for this model.".into()),
        _ => Ok(()),
    }
}

fn sampling(request: &Value, traits: &ModelTraits) -> Checked {
    let given = |key: &str| request[key].as_f64();
    match traits.sampling {
        Sampling::One if given("temperature").is_some() && given("top_p").is_some() => {
            Err("`temperature` and `top_p` cannot both be specified for this model. Please use only one.".into())
        }
        Sampling::Refused => match ["temperature", "top_p", "top_k"].into_iter().find(|key| given(key).is_some_and(|value| (value - 1.0).abs() > f64::EPSILON)) {
            Some(key) => Err(format!("`{key}` is not supported for this model.").into()),
            None => Ok(()),
        },
        Sampling::One => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::message;
    use super::super::tests::{refused, with};

    #[test]
    fn a_model_has_to_be_there() {
        let status = |model: &str| {
            message(&with(&json!({ "model": model })), "")
                .map_err(|refusal| (refusal.status, refusal.kind, refusal.message))
        };
        assert_eq!(
            status("gpt-4o"),
            Err((404, "not_found_error", "model: gpt-4o".to_owned())),
            "the API's words, quoted in many reports"
        );
        assert!(status("us.anthropic.claude-opus-4-7-v1:0").is_err());
        for model in ["claude-opus-5-5", "claude-haiku-4-5-20251001", "sandbox-sonnet-1"] {
            assert_eq!(status(model), Ok(()));
        }
    }

    #[test]
    fn limits_are_the_models() {
        const SOURCE: &str = "the API's words, quoted in reports";
        refused(
            &json!({"max_tokens": 65_536}),
            "max_tokens: 65536 > 64000, which is the maximum allowed number of output tokens for claude-haiku-4-5",
            SOURCE,
        );
        assert_eq!(
            message(&with(&json!({"max_tokens": 65_536})), "output-128k-2025-02-19"),
            Ok(())
        );
        refused(
            &json!({"thinking": {"type": "enabled", "budget_tokens": 100}, "max_tokens": 2000}),
            "greater than or equal to 1024",
            SOURCE,
        );
        refused(
            &json!({"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 2000}),
            "`max_tokens` must be greater than `thinking.budget_tokens`",
            SOURCE,
        );
    }

    #[test]
    fn generations_differ() {
        const SOURCE: &str = "https://platform.claude.com/docs/en/about-claude/models/overview, and the API's words in reports";
        let on = |model: &str, members: serde_json::Value| {
            let mut all = members;
            all["model"] = json!(model);
            all["max_tokens"] = json!(9000);
            all
        };
        let enabled = json!({"thinking": {"type": "enabled", "budget_tokens": 2000}});
        refused(
            &on("claude-opus-5-5", enabled.clone()),
            "\"thinking.type.enabled\" is not supported for this model",
            SOURCE,
        );
        refused(&on("claude-opus-4-6", enabled.clone()), "", SOURCE);
        refused(
            &on("claude-haiku-4-5", json!({"thinking": {"type": "adaptive"}})),
            "adaptive thinking is not supported on this model",
            SOURCE,
        );
        refused(
            &on("claude-opus-5-5", json!({"thinking": {"type": "disabled"}})),
            "\"thinking.type.disabled\" is not supported",
            SOURCE,
        );
        refused(
            &on("claude-haiku-4-5", json!({"temperature": 0.5, "top_p": 0.5})),
            "`temperature` and `top_p` cannot both be specified for this model",
            SOURCE,
        );
        refused(
            &on("claude-opus-5-5", json!({"temperature": 0.5})),
            "`temperature` is not supported for this model",
            SOURCE,
        );
        let tools = json!({"tools": [{"name": "f", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"}});
        let mut forced = tools.clone();
        forced["thinking"] = enabled["thinking"].clone();
        refused(
            &on("claude-haiku-4-5", forced),
            "Thinking may not be enabled when tool_choice forces tool use.",
            SOURCE,
        );
        refused(&on("claude-opus-5-5", tools), "forcing tool use is not supported", SOURCE);
        let prefill = json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "a"}]});
        refused(
            &on("claude-opus-4-6", prefill.clone()),
            "does not support assistant message prefill",
            SOURCE,
        );
        refused(&on("claude-haiku-4-5", prefill), "", SOURCE);
        refused(
            &on("claude-haiku-4-5", json!({"output_config": {"effort": "low"}})),
            "does not support the effort parameter",
            SOURCE,
        );
        refused(&on("sandbox-opus-1", json!({"temperature": 0.5, "top_p": 0.5})), "", SOURCE);
    }
}
