//! How much, how freely and how thoughtfully the model is to answer.
//!
//! These settings hang together: thinking excludes sampling, a forced tool excludes thinking,
//! a budget has to fit below `max_tokens`; and which of them a model takes differs.

use std::borrow::Cow;

use crate::Fault;
use crate::json::{Patch, RawObject, quote};
use crate::model::{Effort, ModelTraits, Off, Sampling, Thinking};
use crate::notes::Notes;
use crate::read::wrong;

/// The most tokens of an answer that is not streamed, unless the client says more.
const UNSTREAMED: u64 = 32_000;
/// The smallest budget that Messages takes.
pub(crate) const LEAST_BUDGET: u64 = 1024;
/// The budget of who asks for thinking and says nothing of how much.
const USUAL_BUDGET: u64 = 8192;
/// What clients call an effort.
const EFFORT: &str = "reasoning_effort";

/// What OpenAI calls `reasoning_effort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// No thinking at all.
    None,
    /// A level, and the budget for models that have no levels.
    Level(Effort, u64),
}

impl Wanted {
    pub(crate) fn parse(name: &str, path: &str) -> Result<Self, Fault> {
        Ok(match name {
            "none" => Self::None,
            "minimal" => Self::Level(Effort::Low, 1024),
            "low" => Self::Level(Effort::Low, 2048),
            "medium" => Self::Level(Effort::Medium, 8192),
            "high" => Self::Level(Effort::High, 16_384),
            "xhigh" => Self::Level(Effort::Xhigh, 24_576),
            "max" => Self::Level(Effort::Max, 24_576),
            other => {
                return Err(wrong(
                    path,
                    format!(
                        "`{other}` is no effort; expected `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`"
                    ),
                ));
            }
        })
    }
}

/// A number as the client wrote it.
#[derive(Debug, Clone)]
pub(crate) struct Number<'a> {
    pub raw: &'a str,
    pub value: f64,
}

/// What the client asks for.
#[derive(Debug, Default)]
pub(crate) struct Wishes<'a> {
    pub stream: bool,
    pub max_tokens: Option<u64>,
    /// What the client calls that.
    pub limit_called: Option<&'static str>,
    pub temperature: Option<Number<'a>>,
    pub top_p: Option<Number<'a>>,
    pub top_k: Option<Cow<'a, str>>,
    pub effort: Option<Wanted>,
    /// What the client calls it; `reasoning_effort` otherwise.
    pub called: Option<&'static str>,
    /// Messages' own `thinking`, which wins over what would be made of the effort; and what the client calls it.
    pub thinking: Option<(&'static str, Cow<'a, str>)>,
    /// Betas are announced, with which a budget may be larger than the limit.
    pub has_betas: bool,
    /// Messages' own `output_config`, whose members win.
    pub output_config: Option<RawObject<'a>>,
    /// The format of the answer, from `response_format` or its like.
    pub format: Option<String>,
    /// The limit where the client gives none, if whoever runs the gateway set one.
    pub default_limit: Option<u64>,
}

impl Wishes<'_> {
    fn name(&self) -> &'static str {
        self.called.unwrap_or(EFFORT)
    }
}

/// What the conversation demands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demands {
    pub forced_tool: bool,
    /// The last turns are a tool loop whose thinking the client did not send back.
    pub thoughtless_loop: bool,
}

/// The members to write.
pub(crate) type Settings<'a> = Vec<(&'static str, Cow<'a, str>)>;

/// Decides what is sent of all that.
pub(crate) fn settings<'a>(
    wishes: Wishes<'a>,
    demands: Demands,
    traits: &ModelTraits,
    notes: &mut Notes,
) -> Result<Settings<'a>, Fault> {
    let most = if wishes.stream { traits.max_output } else { traits.max_output.min(UNSTREAMED) };
    let mut max_tokens = wishes.max_tokens.or(wishes.default_limit).unwrap_or(most);
    if traits.limit_is_known
        && !wishes.has_betas
        && wishes.max_tokens.is_some_and(|asked| asked > traits.max_output)
    {
        notes.say(wishes.limit_called.unwrap_or("max_tokens"), "lowered to the model's limit")?;
        max_tokens = traits.max_output;
    }
    let own_budget = wishes
        .thinking
        .as_ref()
        .and_then(|(_, thinking)| budget(thinking))
        .filter(|_| traits.manual || !traits.known);
    if let (None, Some(budget)) = (wishes.max_tokens, own_budget) {
        max_tokens = max_tokens.max(budget.saturating_add(LEAST_BUDGET));
    }
    let plan = plan(&wishes, demands, max_tokens, traits, notes)?;
    let mut out: Settings<'a> = vec![("max_tokens", Cow::Owned(max_tokens.to_string()))];
    if let Some(thinking) = &plan.thinking {
        out.push(("thinking", thinking.clone()));
    }
    let thinks = plan
        .thinking
        .as_deref()
        .is_some_and(|thinking| kind_of(thinking).is_none_or(|kind| kind != "disabled"));
    sampling(&mut out, &wishes, thinks, traits, notes)?;
    if let Some(config) = output_config(&wishes, plan.effort)? {
        out.push(("output_config", config.into()));
    }
    Ok(out)
}

/// How the model is told to think, and how hard.
#[derive(Default)]
struct Plan<'a> {
    thinking: Option<Cow<'a, str>>,
    effort: Option<Effort>,
}

impl<'a> Plan<'a> {
    fn think(thinking: impl Into<Cow<'a, str>>) -> Self {
        Self { thinking: Some(thinking.into()), effort: None }
    }
}

fn plan<'a>(
    wishes: &Wishes<'a>,
    demands: Demands,
    max_tokens: u64,
    traits: &ModelTraits,
    notes: &mut Notes,
) -> Result<Plan<'a>, Fault> {
    let forbidden = demands.forced_tool || demands.thoughtless_loop;
    if let Some((called, own)) = &wishes.thinking {
        let fitted = fitted(wishes, called, own, traits, notes)?;
        return match fitted {
            Fitted::As(own) => own_plan(wishes, called, &own, forbidden, max_tokens, traits, notes),
            Fitted::Planned(plan) => Ok(plan),
        };
    }
    match wishes.effort {
        None => Ok(Plan::default()),
        Some(Wanted::None)
            if traits.off_has_low_efforts
                && own_effort(wishes).is_some_and(|own| is_above_high(&own)) =>
        {
            notes.left_out(wishes.name())?;
            Ok(Plan::default())
        }
        Some(Wanted::None) => {
            if traits.off == Off::Never {
                notes.say(wishes.name(), "as little as the model can")?;
            }
            Ok(without_thinking(traits))
        }
        Some(Wanted::Level(wish, budget)) => match (traits.effort(wish), traits.thinking) {
            (None, Thinking::Manual) => manual(wishes, budget, forbidden, max_tokens, notes),
            (None, _) => {
                notes.left_out(wishes.name())?;
                Ok(Plan::default())
            }
            (Some(effort), Thinking::Adaptive) => {
                Ok(Plan { thinking: Some(ADAPTIVE.into()), effort: Some(effort) })
            }
            (Some(effort), _) => Ok(Plan { thinking: None, effort: Some(effort) }),
        },
    }
}

/// Thinking in the words of the model's own generation.
enum Fitted<'a> {
    As(Cow<'a, str>),
    /// The plan needs no further member.
    Planned(Plan<'a>),
}

/// Says thinking that is meant for another generation of models in the words of this one.
fn fitted<'a>(
    wishes: &Wishes<'a>,
    called: &'static str,
    own: &Cow<'a, str>,
    traits: &ModelTraits,
    notes: &mut Notes,
) -> Result<Fitted<'a>, Fault> {
    let stands = || Ok(Fitted::As(own.clone()));
    // An unknown model may take any setting.
    if !traits.known {
        return stands();
    }
    let adaptive = traits.thinking == Thinking::Adaptive;
    match kind_of(own).as_deref() {
        Some("enabled") if !traits.manual && adaptive => {
            notes.say(called, "as adaptive thinking with effort")?;
            let asked = level(wishes, traits).is_some() || own_effort(wishes).is_some();
            let by_budget = budget(own)
                .map(effort_of)
                .and_then(|effort| traits.effort(effort))
                .filter(|_| !asked);
            let display = display(own).unwrap_or_else(|| "\"summarized\"".to_owned());
            let thinking = format!("{{\"type\":\"adaptive\",\"display\":{display}}}");
            Ok(Fitted::Planned(Plan {
                thinking: Some(thinking.into()),
                effort: level(wishes, traits).or(by_budget),
            }))
        }
        Some("adaptive") if !adaptive && traits.manual => {
            notes.say(called, "as thinking with a budget")?;
            let budget = match wishes.effort {
                Some(Wanted::Level(_, budget)) => budget,
                Some(Wanted::None) | None => USUAL_BUDGET,
            };
            Ok(Fitted::As(format!("{{\"type\":\"enabled\",\"budget_tokens\":{budget}}}").into()))
        }
        Some("enabled" | "adaptive") if !adaptive && !traits.manual => {
            notes.left_out(called)?;
            Ok(Fitted::Planned(Plan { thinking: None, effort: level(wishes, traits) }))
        }
        Some("disabled") if !matches!(traits.off, Off::Disabled | Off::Silence) => {
            without(called, traits, notes)
        }
        Some("between_tools") if traits.off != Off::BetweenTools => without(called, traits, notes),
        _ => stands(),
    }
}

/// As little thinking as a model can do.
fn without<'a>(
    called: &'static str,
    traits: &ModelTraits,
    notes: &mut Notes,
) -> Result<Fitted<'a>, Fault> {
    notes.say(called, "as little as the model can")?;
    Ok(Fitted::Planned(without_thinking(traits)))
}

/// The effort that stands for a budget, where there are none.
fn effort_of(budget: u64) -> Effort {
    match budget {
        ..=4096 => Effort::Low,
        4097..=12_288 => Effort::Medium,
        12_289..=20_480 => Effort::High,
        _ => Effort::Xhigh,
    }
}

fn display(thinking: &str) -> Option<String> {
    Some(RawObject::parse(thinking.as_bytes()).ok()?.get("display")?.raw().to_owned())
}

/// The client says itself how to think: that stands, unless it is sure to be refused.
fn own_plan<'a>(
    wishes: &Wishes<'a>,
    called: &'static str,
    own: &Cow<'a, str>,
    forbidden: bool,
    max_tokens: u64,
    traits: &ModelTraits,
    notes: &mut Notes,
) -> Result<Plan<'a>, Fault> {
    let kind = kind_of(own);
    let mut effort = level(wishes, traits);
    if kind.as_deref() == Some("disabled")
        && traits.off_has_low_efforts
        && effort.is_some_and(|effort| effort > Effort::High)
    {
        notes.say(wishes.name(), "lowered to high")?;
        effort = Some(Effort::High);
    }
    if kind.as_deref() == Some("disabled")
        && effort.is_none()
        && matches!(wishes.effort, Some(Wanted::Level(..)))
    {
        notes.left_out(wishes.name())?;
    }
    if kind.as_deref() != Some("enabled") {
        return Ok(Plan { thinking: Some(own.clone()), effort });
    }
    let lowered = max_tokens.saturating_sub(LEAST_BUDGET);
    let too_much = !wishes.has_betas && budget(own).is_some_and(|budget| budget >= max_tokens);
    if forbidden || (too_much && lowered < LEAST_BUDGET) {
        notes.left_out(called)?;
        return Ok(Plan { thinking: None, effort });
    }
    if too_much {
        notes.say("thinking.budget_tokens", "lowered to fit max_tokens")?;
        return Ok(Plan { thinking: Some(with_budget(own, lowered).into()), effort });
    }
    Ok(Plan { thinking: Some(own.clone()), effort })
}

/// The client's own thinking with another budget, and nothing else changed.
fn with_budget(thinking: &str, budget: u64) -> String {
    let mut patch = Patch::new(thinking);
    if let Some(node) =
        RawObject::parse(thinking.as_bytes()).ok().and_then(|object| object.get("budget_tokens"))
    {
        patch.replace(node.range(), budget.to_string());
    }
    patch.apply()
}

fn own_effort(wishes: &Wishes<'_>) -> Option<String> {
    Some(wishes.output_config.as_ref()?.get("effort")?.as_str()?.into_owned())
}

fn is_above_high(effort: &str) -> bool {
    [Effort::Xhigh, Effort::Max].iter().any(|level| level.name() == effort)
}

pub(crate) const ADAPTIVE: &str = r#"{"type":"adaptive","display":"summarized"}"#;

fn level(wishes: &Wishes<'_>, traits: &ModelTraits) -> Option<Effort> {
    match wishes.effort {
        Some(Wanted::Level(wish, _)) => traits.effort(wish),
        Some(Wanted::None) | None => None,
    }
}

fn without_thinking<'a>(traits: &ModelTraits) -> Plan<'a> {
    match traits.off {
        Off::Silence => Plan::default(),
        Off::Disabled => Plan::think(r#"{"type":"disabled"}"#),
        Off::BetweenTools => Plan::think(r#"{"type":"between_tools"}"#),
        Off::Never => Plan { thinking: None, effort: traits.effort(Effort::Low) },
    }
}

/// A budget within `max_tokens`: it is lowered, never the client's limit raised.
fn manual<'a>(
    wishes: &Wishes<'_>,
    budget: u64,
    forbidden: bool,
    max_tokens: u64,
    notes: &mut Notes,
) -> Result<Plan<'a>, Fault> {
    let budget = budget.min(max_tokens.saturating_sub(LEAST_BUDGET));
    if forbidden || budget < LEAST_BUDGET {
        notes.left_out(wishes.name())?;
        return Ok(Plan::default());
    }
    Ok(Plan::think(format!("{{\"type\":\"enabled\",\"budget_tokens\":{budget}}}")))
}

fn sampling<'a>(
    out: &mut Settings<'a>,
    wishes: &Wishes<'a>,
    thinks: bool,
    traits: &ModelTraits,
    notes: &mut Notes,
) -> Result<(), Fault> {
    let taken = traits.sampling == Sampling::One && !thinks;
    let mut sent = false;
    if let Some(temperature) = &wishes.temperature {
        if taken && temperature.value > 1.0 {
            notes.say("temperature", "lowered to 1")?;
            out.push(("temperature", "1".into()));
        } else if taken {
            out.push(("temperature", temperature.raw.into()));
        } else if !is_default(temperature) {
            notes.left_out("temperature")?;
        }
        sent = taken;
    }
    if let Some(top_p) = &wishes.top_p {
        if taken && !sent {
            out.push(("top_p", top_p.raw.into()));
        } else if !is_default(top_p) {
            notes.left_out("top_p")?;
        }
    }
    match &wishes.top_k {
        Some(top_k) if taken => out.push(("top_k", top_k.clone())),
        Some(_) => notes.left_out("top_k")?,
        None => {}
    }
    Ok(())
}

/// 1 is what both dialects mean when nothing is said.
fn is_default(number: &Number<'_>) -> bool {
    (number.value - 1.0).abs() < f64::EPSILON
}

fn output_config(wishes: &Wishes<'_>, effort: Option<Effort>) -> Result<Option<String>, Fault> {
    let mut members: Vec<(String, String)> = Vec::new();
    if let Some(own) = &wishes.output_config {
        for (key, node) in own.members().filter(|(_, node)| !node.is_null()) {
            members.push((
                key.to_owned(),
                crate::read::verbatim(&node, "output_config")?.into_owned(),
            ));
        }
    }
    let derived =
        [("effort", effort.map(|effort| quote(effort.name()))), ("format", wishes.format.clone())];
    for (key, raw) in derived {
        if let Some(raw) = raw.filter(|_| members.iter().all(|(own, _)| own != key)) {
            members.push((key.to_owned(), raw));
        }
    }
    let written: Vec<String> =
        members.iter().map(|(key, raw)| format!("{}:{raw}", quote(key))).collect();
    Ok((!written.is_empty()).then(|| format!("{{{}}}", written.join(","))))
}

fn kind_of(thinking: &str) -> Option<String> {
    Some(RawObject::parse(thinking.as_bytes()).ok()?.get("type")?.as_str()?.into_owned())
}

fn budget(thinking: &str) -> Option<u64> {
    RawObject::parse(thinking.as_bytes()).ok()?.get("budget_tokens")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Demands = Demands { forced_tool: false, thoughtless_loop: false };

    fn effort<'a>(name: &str) -> Wishes<'a> {
        Wishes {
            stream: true,
            effort: Some(Wanted::parse(name, EFFORT).unwrap()),
            ..Wishes::default()
        }
    }

    fn number(raw: &str) -> Number<'_> {
        Number { raw, value: raw.parse().unwrap() }
    }

    #[track_caller]
    fn check(wishes: Wishes<'_>, demands: Demands, model: &str, expect: &str) {
        let mut notes = Notes::new(false);
        let settings = settings(wishes, demands, &ModelTraits::of(model), &mut notes).unwrap();
        let mut said: Vec<String> = settings
            .iter()
            .filter(|(key, _)| *key != "max_tokens")
            .map(|(key, raw)| format!("{key}={raw}"))
            .collect();
        said.extend(
            notes.into_changes().iter().map(|change| format!("({} {})", change.name, change.path)),
        );
        assert_eq!(said.join(" "), expect, "{model}");
    }

    #[test]
    fn effort_by_model() {
        let adaptive =
            r#"thinking={"type":"adaptive","display":"summarized"} output_config={"effort":"#;
        check(effort("minimal"), FREE, "claude-opus-5-5", &format!("{adaptive}\"low\"}}"));
        check(effort("xhigh"), FREE, "claude-opus-5-5", &format!("{adaptive}\"xhigh\"}}"));
        check(effort("xhigh"), FREE, "claude-opus-4-6", &format!("{adaptive}\"max\"}}"));
        check(effort("max"), FREE, "claude-opus-4-5", r#"output_config={"effort":"high"}"#);
        check(
            effort("medium"),
            FREE,
            "claude-haiku-4-5",
            r#"thinking={"type":"enabled","budget_tokens":8192}"#,
        );
        check(effort("high"), FREE, "claude-3-5-haiku-20241022", "(reasoning_effort left out)");
        check(effort("high"), FREE, "mystery", "(reasoning_effort left out)");
        assert!(Wanted::parse("much", EFFORT).is_err());
    }

    #[test]
    fn no_thinking_by_model() {
        check(
            effort("none"),
            FREE,
            "claude-opus-5-5",
            r#"output_config={"effort":"low"} (reasoning_effort as little as the model can)"#,
        );
        check(effort("none"), FREE, "claude-sonnet-5-5", r#"thinking={"type":"between_tools"}"#);
        check(effort("none"), FREE, "claude-opus-4-8", r#"thinking={"type":"disabled"}"#);
        check(effort("none"), FREE, "claude-haiku-4-5", "");
        check(effort("none"), FREE, "mystery", "");
    }

    #[test]
    fn a_budget_fits_below_the_limit() {
        let within = |max_tokens| Wishes { max_tokens: Some(max_tokens), ..effort("high") };
        check(
            within(5000),
            FREE,
            "claude-sonnet-4-5",
            r#"thinking={"type":"enabled","budget_tokens":3976}"#,
        );
        check(within(2047), FREE, "claude-sonnet-4-5", "(reasoning_effort left out)");
    }

    #[test]
    fn what_excludes_thinking() {
        let forced = Demands { forced_tool: true, ..FREE };
        let loop_ = Demands { thoughtless_loop: true, ..FREE };
        check(effort("high"), forced, "claude-sonnet-4-5", "(reasoning_effort left out)");
        check(effort("high"), loop_, "claude-sonnet-4-5", "(reasoning_effort left out)");
        check(
            effort("high"),
            forced,
            "claude-opus-4-8",
            r#"thinking={"type":"adaptive","display":"summarized"} output_config={"effort":"high"}"#,
        );
        let own = || Wishes {
            thinking: Some(("thinking", r#"{"type":"enabled","budget_tokens":2000}"#.into())),
            ..Wishes::default()
        };
        check(own(), loop_, "claude-sonnet-4-5", "(thinking left out)");
        check(
            own(),
            FREE,
            "claude-sonnet-4-5",
            r#"thinking={"type":"enabled","budget_tokens":2000}"#,
        );
    }

    #[test]
    fn the_clients_own_thinking_is_made_to_fit() {
        let own = |thinking: &'static str, max_tokens| Wishes {
            thinking: Some(("thinking", thinking.into())),
            max_tokens: Some(max_tokens),
            ..Wishes::default()
        };
        let enabled = r#"{ "type":"enabled", "budget_tokens": 5000 }"#;
        check(
            own(enabled, 3000),
            FREE,
            "claude-sonnet-4-5",
            r#"thinking={ "type":"enabled", "budget_tokens": 1976 } (thinking.budget_tokens lowered to fit max_tokens)"#,
        );
        check(own(enabled, 1500), FREE, "claude-sonnet-4-5", "(thinking left out)");
        check(
            Wishes { has_betas: true, ..own(enabled, 3000) },
            FREE,
            "claude-sonnet-4-5",
            &format!("thinking={enabled}"),
        );
        let disabled = Wishes {
            effort: Some(Wanted::parse("max", EFFORT).unwrap()),
            ..own(r#"{"type":"disabled"}"#, 9)
        };
        check(
            disabled,
            FREE,
            "claude-opus-5",
            r#"thinking={"type":"disabled"} output_config={"effort":"high"} (reasoning_effort lowered to high)"#,
        );
        let source = br#"{"effort":"max"}"#;
        let none =
            Wishes { output_config: Some(RawObject::parse(source).unwrap()), ..effort("none") };
        check(
            none,
            FREE,
            "claude-opus-5",
            r#"output_config={"effort":"max"} (reasoning_effort left out)"#,
        );
    }

    #[test]
    fn thinking_of_another_generation_is_fitted() {
        let own = |thinking: &'static str| Wishes {
            thinking: Some(("thinking", thinking.into())),
            max_tokens: Some(30_000),
            ..Wishes::default()
        };
        let (enabled, adaptive) =
            (r#"{"type":"enabled","budget_tokens":16000}"#, r#"{"type":"adaptive"}"#);
        check(
            own(enabled),
            FREE,
            "claude-opus-5-5",
            r#"thinking={"type":"adaptive","display":"summarized"} output_config={"effort":"high"} (thinking as adaptive thinking with effort)"#,
        );
        check(
            own(r#"{"type":"enabled","budget_tokens":2000,"display":"omitted"}"#),
            FREE,
            "claude-opus-4-8",
            r#"thinking={"type":"adaptive","display":"omitted"} output_config={"effort":"low"} (thinking as adaptive thinking with effort)"#,
        );
        check(own(enabled), FREE, "claude-opus-4-6", &format!("thinking={enabled}"));
        check(own(enabled), FREE, "claude-opus-4-5", &format!("thinking={enabled}"));
        check(
            own(adaptive),
            FREE,
            "claude-haiku-4-5",
            r#"thinking={"type":"enabled","budget_tokens":8192} (thinking as thinking with a budget)"#,
        );
        check(
            Wishes { max_tokens: None, ..own(adaptive) },
            FREE,
            "claude-3-5-haiku-20241022",
            "(thinking left out)",
        );
        check(
            own(r#"{"type":"disabled"}"#),
            FREE,
            "claude-opus-5-5",
            r#"output_config={"effort":"low"} (thinking as little as the model can)"#,
        );
        check(
            own(r#"{"type":"disabled"}"#),
            FREE,
            "claude-sonnet-5-5",
            r#"thinking={"type":"between_tools"} (thinking as little as the model can)"#,
        );
        check(
            own(r#"{"type":"between_tools"}"#),
            FREE,
            "claude-haiku-4-5",
            "(thinking as little as the model can)",
        );
        check(own(enabled), FREE, "mystery", &format!("thinking={enabled}"));
    }

    #[test]
    fn a_limit_above_the_models_is_lowered() {
        let asked = |betas| Wishes {
            max_tokens: Some(65_536),
            limit_called: Some("max_completion_tokens"),
            has_betas: betas,
            ..Wishes::default()
        };
        let limit = |wishes: Wishes<'_>, model: &str| {
            let mut notes = Notes::new(false);
            let limit = settings(wishes, FREE, &ModelTraits::of(model), &mut notes).unwrap()[0]
                .1
                .clone()
                .into_owned();
            (
                limit,
                notes
                    .into_changes()
                    .first()
                    .map(|change| format!("{} {}", change.name, change.path))
                    .unwrap_or_default(),
            )
        };
        assert_eq!(
            limit(asked(false), "claude-haiku-4-5"),
            ("64000".to_owned(), "max_completion_tokens lowered to the model's limit".to_owned())
        );
        assert_eq!(limit(asked(false), "claude-opus-5-5"), ("65536".to_owned(), String::new()));
        assert_eq!(limit(asked(true), "claude-haiku-4-5"), ("65536".to_owned(), String::new()));
        assert_eq!(limit(asked(false), "mystery"), ("65536".to_owned(), String::new()));
    }

    #[test]
    fn sampling_by_model() {
        let both = |temperature, top_p| Wishes {
            temperature: Some(number(temperature)),
            top_p: Some(number(top_p)),
            ..Wishes::default()
        };
        check(both("0.70", "0.5"), FREE, "claude-haiku-4-5", "temperature=0.70 (top_p left out)");
        check(
            both("1.7", "1"),
            FREE,
            "claude-haiku-4-5",
            "temperature=1 (temperature lowered to 1)",
        );
        check(both("0.7", "1"), FREE, "claude-opus-5-5", "(temperature left out)");
        check(both("1", "1.0"), FREE, "claude-opus-5-5", "");
        check(
            Wishes { top_p: Some(number("0.9")), top_k: Some("4".into()), ..Wishes::default() },
            FREE,
            "claude-haiku-4-5",
            "top_p=0.9 top_k=4",
        );
        check(
            Wishes { temperature: Some(number("0.2")), ..effort("low") },
            FREE,
            "claude-haiku-4-5",
            r#"thinking={"type":"enabled","budget_tokens":2048} (temperature left out)"#,
        );
    }

    #[test]
    fn limits_by_model() {
        let limit = |wishes: Wishes<'_>, model: &str| {
            settings(wishes, FREE, &ModelTraits::of(model), &mut Notes::new(false)).unwrap()[0]
                .1
                .clone()
                .into_owned()
        };
        assert_eq!(limit(Wishes::default(), "claude-opus-5-5"), "32000");
        assert_eq!(
            limit(Wishes { stream: true, ..Wishes::default() }, "claude-opus-5-5"),
            "128000"
        );
        assert_eq!(limit(Wishes { stream: true, ..Wishes::default() }, "mystery"), "8000");
        assert_eq!(
            limit(Wishes { max_tokens: Some(7), ..Wishes::default() }, "claude-opus-5-5"),
            "7"
        );
        assert_eq!(
            limit(
                Wishes {
                    thinking: Some((
                        "thinking",
                        r#"{"type":"enabled","budget_tokens":40000}"#.into()
                    )),
                    ..Wishes::default()
                },
                "claude-sonnet-4-5"
            ),
            "41024"
        );
    }

    #[test]
    fn the_clients_own_members_win() {
        let source = br#"{"effort":"max","task_budget":{"n":1}}"#;
        let wishes = Wishes {
            output_config: Some(RawObject::parse(source).unwrap()),
            format: Some("{}".into()),
            ..effort("low")
        };
        check(
            wishes,
            FREE,
            "claude-opus-5-5",
            r#"thinking={"type":"adaptive","display":"summarized"} output_config={"effort":"max","task_budget":{"n":1},"format":{}}"#,
        );
    }
}
