//! What a Claude model takes and what it refuses, told by its name.
//!
//! A request that is right for one model is an error for another. Models are known by
//! family and number, not by a list of ids, so dated ids, prefixes and suffixes of other
//! platforms, and models newer than this gateway find their row. One that is not known at
//! all gets the cautious row: nothing that some model refuses is sent, until its upstream
//! says more ([`Capabilities`]).
//!
//! <https://platform.claude.com/docs/en/about-claude/models/overview>

use serde::Deserialize;

/// The families of Claude models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Opus,
    Sonnet,
    Haiku,
    Fable,
    Mythos,
}

/// A model's family and number, whatever else its id says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    pub family: Family,
    pub major: u8,
    pub minor: u8,
}

impl Model {
    /// Reads an id such as `claude-opus-5-5`, `us.anthropic.claude-3-7-sonnet-latest` or `claudesonnet45`.
    pub fn parse(id: &str) -> Option<Self> {
        let id = id.to_ascii_lowercase();
        let rest = &id[id.find("claude")? + "claude".len()..];
        let families = [
            ("opus", Family::Opus),
            ("sonnet", Family::Sonnet),
            ("haiku", Family::Haiku),
            ("fable", Family::Fable),
            ("mythos", Family::Mythos),
        ];
        let (name, family) = families.into_iter().find(|(name, _)| rest.contains(name))?;
        // The number stands behind the family, or before it in the older ids.
        let (before, behind) = rest.split_once(name)?;
        let (major, minor) = version(behind).or_else(|| version(before))?;
        Some(Self { family, major, minor })
    }
}

/// The first version number in a text: `-4-5`, `4.5`, `45` or `-4`. A date is none.
fn version(text: &str) -> Option<(u8, u8)> {
    let separated = !text.starts_with(|c: char| c.is_ascii_digit());
    let mut numbers =
        text.split(|c: char| !c.is_ascii_digit()).skip_while(|number| number.is_empty());
    let major = numbers.next().filter(|major| major.len() <= 2)?;
    match major.as_bytes() {
        // `opus45`: both in one.
        [major, minor] if !separated => Some((major - b'0', minor - b'0')),
        _ => {
            let minor = numbers.next().filter(|minor| (1..=2).contains(&minor.len()));
            Some((major.parse().ok()?, minor.map_or(Some(0), |minor| minor.parse().ok())?))
        }
    }
}

/// Which of the sampling parameters a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// None but their defaults.
    Refused,
    /// From 0 to 1, and not both `temperature` and `top_p`.
    One,
}

/// How a model can be told to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    /// The model cannot, or is not known to.
    No,
    /// With `type: "enabled"` and a budget.
    Manual,
    /// With `type: "adaptive"`.
    Adaptive,
}

/// How a model can be told not to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    /// By saying nothing.
    Silence,
    /// With `type: "disabled"`.
    Disabled,
    /// With `type: "between_tools"`.
    BetweenTools,
    /// It always thinks; little at `effort: "low"`.
    Never,
}

/// The levels of `output_config.effort`, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    Low,
    Medium,
    High,
    /// Below `Max` in effort, but newer: not every model that knows `max` knows it.
    Xhigh,
    Max,
}

impl Effort {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }
}

/// What a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelTraits {
    pub sampling: Sampling,
    /// The conversation may end with the beginning of the answer.
    pub prefill: bool,
    pub thinking: Thinking,
    pub off: Off,
    /// `disabled` does not go with the efforts above `high`.
    pub off_has_low_efforts: bool,
    pub efforts: &'static [Effort],
    /// `tool_choice` may be `any` or `tool`.
    pub forced_tool: bool,
    /// `system` turns may stand in the conversation.
    pub system_turns: bool,
    /// Schemas of tools and answers can be enforced; `None` where nobody knows.
    pub structured: Option<bool>,
    /// The most tokens that an answer may have.
    pub max_output: u64,
    /// That is the model's own limit, and no guess.
    pub limit_is_known: bool,
    /// It takes thinking with a budget.
    pub manual: bool,
    /// How it thinks is known, and no guess.
    pub known: bool,
}

const FEW: &[Effort] = &[Effort::Low, Effort::Medium, Effort::High];
const TO_MAX: &[Effort] = &[Effort::Low, Effort::Medium, Effort::High, Effort::Max];
const ALL: &[Effort] = &[Effort::Low, Effort::Medium, Effort::High, Effort::Xhigh, Effort::Max];

/// The row for models that nobody knows. What a client asks for by name, such as a schema for the
/// answer, is sent all the same: an error is better than an answer that ignores it.
const UNKNOWN: ModelTraits = ModelTraits {
    sampling: Sampling::Refused,
    prefill: false,
    thinking: Thinking::No,
    off: Off::Silence,
    off_has_low_efforts: false,
    efforts: &[],
    forced_tool: true,
    system_turns: false,
    structured: None,
    max_output: 8_000,
    limit_is_known: false,
    manual: false,
    known: false,
};

/// The newest models; each row below says what it has of its own.
const NEWEST: ModelTraits = ModelTraits {
    sampling: Sampling::Refused,
    prefill: false,
    thinking: Thinking::Adaptive,
    off: Off::Disabled,
    off_has_low_efforts: false,
    efforts: ALL,
    forced_tool: true,
    system_turns: true,
    structured: Some(true),
    max_output: 128_000,
    limit_is_known: true,
    manual: false,
    known: true,
};

/// Models that think with a budget, before 4.6.
const MANUAL: ModelTraits = ModelTraits {
    sampling: Sampling::One,
    prefill: true,
    thinking: Thinking::Manual,
    off: Off::Silence,
    off_has_low_efforts: false,
    efforts: &[],
    forced_tool: true,
    system_turns: false,
    structured: Some(true),
    max_output: 64_000,
    limit_is_known: true,
    manual: true,
    known: true,
};

impl ModelTraits {
    /// Tells what the model with this id takes.
    pub fn of(id: &str) -> Self {
        Model::parse(id).map_or(UNKNOWN, Self::of_model)
    }

    fn of_model(model: Model) -> Self {
        let from = |major, minor| (model.major, model.minor) >= (major, minor);
        match model.family {
            Family::Fable | Family::Mythos => {
                Self { off: Off::Never, forced_tool: !from(5, 1), ..NEWEST }
            }
            Family::Opus if from(5, 5) => Self { off: Off::Never, forced_tool: false, ..NEWEST },
            Family::Sonnet if from(5, 5) => {
                Self { off: Off::BetweenTools, forced_tool: false, ..NEWEST }
            }
            Family::Haiku if from(5, 5) => NEWEST,
            Family::Opus if from(5, 0) => Self { off_has_low_efforts: true, ..NEWEST },
            Family::Opus if from(4, 8) => NEWEST,
            Family::Opus if from(4, 7) => Self { system_turns: false, ..NEWEST },
            _ if from(5, 0) => Self { system_turns: false, ..NEWEST },
            _ if from(4, 6) => Self {
                sampling: Sampling::One,
                efforts: TO_MAX,
                system_turns: false,
                manual: true,
                ..NEWEST
            },
            // The model has efforts, but does not think adaptively.
            Family::Opus if from(4, 5) => Self { thinking: Thinking::No, efforts: FEW, ..MANUAL },
            Family::Opus if from(4, 1) => Self { max_output: 32_000, ..MANUAL },
            _ if from(4, 5) => MANUAL,
            Family::Opus if from(3, 7) => {
                Self { structured: Some(false), max_output: 32_000, ..MANUAL }
            }
            _ if from(3, 7) => Self { structured: Some(false), ..MANUAL },
            _ if from(3, 5) => Self {
                thinking: Thinking::No,
                manual: false,
                structured: Some(false),
                max_output: 8_192,
                ..MANUAL
            },
            _ => Self {
                thinking: Thinking::No,
                manual: false,
                structured: Some(false),
                max_output: 4_096,
                ..MANUAL
            },
        }
    }

    /// True if nobody knows the model by its name.
    pub fn is_unknown(id: &str) -> bool {
        Model::parse(id).is_none()
    }

    /// Adds what an upstream says of a model that is not known by its name.
    pub fn with(self, told: &Capabilities) -> Self {
        let supported = |flag: &Option<Supported>| flag.as_ref().is_some_and(|flag| flag.supported);
        let types = told.capabilities.thinking.types.as_ref();
        let adaptive = types.is_some_and(|types| supported(&types.adaptive));
        let manual = types.is_some_and(|types| supported(&types.enabled));
        Self {
            thinking: match (adaptive, manual) {
                (true, _) => Thinking::Adaptive,
                (false, true) => Thinking::Manual,
                (false, false) => self.thinking,
            },
            efforts: told.capabilities.effort.as_ref().map_or(self.efforts, ToldEffort::levels),
            structured: told
                .capabilities
                .structured_outputs
                .as_ref()
                .map(|flag| flag.supported)
                .or(self.structured),
            max_output: told.max_tokens.filter(|tokens| *tokens > 0).unwrap_or(self.max_output),
            limit_is_known: self.limit_is_known || told.max_tokens.is_some_and(|tokens| tokens > 0),
            manual: self.manual || manual,
            known: self.known || types.is_some(),
            ..self
        }
    }

    /// The level that a model has for a wish, or the nearest one that it knows.
    pub fn effort(&self, wish: Effort) -> Option<Effort> {
        let order = match wish {
            Effort::Xhigh => &[Effort::Xhigh, Effort::Max, Effort::High][..],
            Effort::Max => &[Effort::Max, Effort::High],
            Effort::Low => &[Effort::Low],
            Effort::Medium => &[Effort::Medium],
            Effort::High => &[Effort::High],
        };
        order.iter().copied().find(|level| self.efforts.contains(level))
    }
}

/// An entry of the Models API, as far as it tells what a model takes.
///
/// <https://platform.claude.com/docs/en/api/models-list>
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    max_tokens: Option<u64>,
    capabilities: ToldCapabilities,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ToldCapabilities {
    effort: Option<ToldEffort>,
    thinking: ToldThinking,
    structured_outputs: Option<Supported>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ToldThinking {
    types: Option<ToldTypes>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ToldTypes {
    adaptive: Option<Supported>,
    enabled: Option<Supported>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ToldEffort {
    supported: bool,
    max: Option<Supported>,
    xhigh: Option<Supported>,
}

impl ToldEffort {
    fn levels(&self) -> &'static [Effort] {
        let has = |flag: &Option<Supported>| flag.as_ref().is_some_and(|flag| flag.supported);
        match (self.supported, has(&self.xhigh), has(&self.max)) {
            (false, _, _) => &[],
            (true, true, _) => ALL,
            (true, false, true) => TO_MAX,
            (true, false, false) => FEW,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Supported {
    supported: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_known_by_family_and_number() {
        let check = |id: &str, expect: Option<(Family, u16)>| {
            assert_eq!(
                Model::parse(id).map(|model| (
                    model.family,
                    u16::from(model.major) * 10 + u16::from(model.minor)
                )),
                expect,
                "{id}"
            );
        };
        check("claude-opus-5-5", Some((Family::Opus, 55)));
        check("claude-haiku-4-5-20251001", Some((Family::Haiku, 45)));
        check("claude-3-7-sonnet-latest", Some((Family::Sonnet, 37)));
        check("claude-3-5-haiku-20241022", Some((Family::Haiku, 35)));
        check("claude-sonnet-4-20250514", Some((Family::Sonnet, 40)));
        check("us.anthropic.claude-opus-4-7-v1:0", Some((Family::Opus, 47)));
        check("anthropic/claude-sonnet-4.6", Some((Family::Sonnet, 46)));
        check("claude-sonnet-4-5@20250929", Some((Family::Sonnet, 45)));
        check("vertex_ai/claude-fable-5@latest", Some((Family::Fable, 50)));
        check("claudeopus48", Some((Family::Opus, 48)));
        check("CLAUDE-OPUS-6", Some((Family::Opus, 60)));
        check("claude-3-opus-20240229", Some((Family::Opus, 30)));
        check("claude-opus-4-10", Some((Family::Opus, 50)));
        check("claude-opus-10", Some((Family::Opus, 100)));
        check("claude-opus", None);
        check("claude-2.1", None);
        check("gpt-4o", None);
    }

    #[test]
    fn every_row_of_the_table() {
        let flags = |id: &str| {
            let traits = ModelTraits::of(id);
            let manual = traits.thinking == Thinking::Manual;
            let adaptive = traits.thinking == Thinking::Adaptive;
            (
                traits.sampling == Sampling::One,
                traits.prefill,
                manual,
                adaptive,
                traits.efforts.len(),
                traits.forced_tool,
                traits.system_turns,
                traits.max_output / 1000,
            )
        };
        assert_eq!(flags("claude-fable-5"), (false, false, false, true, 5, true, true, 128));
        assert_eq!(flags("claude-mythos-5-1"), (false, false, false, true, 5, false, true, 128));
        assert_eq!(flags("claude-opus-5-5"), (false, false, false, true, 5, false, true, 128));
        assert_eq!(flags("claude-sonnet-5-5"), (false, false, false, true, 5, false, true, 128));
        assert_eq!(flags("claude-haiku-5-5"), (false, false, false, true, 5, true, true, 128));
        assert_eq!(flags("claude-opus-5"), (false, false, false, true, 5, true, true, 128));
        assert_eq!(flags("claude-opus-4-8"), (false, false, false, true, 5, true, true, 128));
        assert_eq!(flags("claude-opus-4-7"), (false, false, false, true, 5, true, false, 128));
        assert_eq!(flags("claude-sonnet-5"), (false, false, false, true, 5, true, false, 128));
        assert_eq!(flags("claude-opus-4-6"), (true, false, false, true, 4, true, false, 128));
        assert_eq!(flags("claude-sonnet-4-6"), (true, false, false, true, 4, true, false, 128));
        assert_eq!(flags("claude-opus-4-5"), (true, true, false, false, 3, true, false, 64));
        assert_eq!(flags("claude-sonnet-4-5"), (true, true, true, false, 0, true, false, 64));
        assert_eq!(
            flags("claude-haiku-4-5-20251001"),
            (true, true, true, false, 0, true, false, 64)
        );
        assert_eq!(flags("somebody-elses"), (false, false, false, false, 0, true, false, 8));
    }

    #[test]
    fn an_upstream_tells_what_its_unknown_model_takes() {
        let told: Capabilities = serde_json::from_str(
            r#"{"id":"x","max_tokens":5000,"capabilities":{"effort":{"supported":true,"max":{"supported":true}},"thinking":{"supported":true,"types":{"adaptive":{"supported":true}}},"structured_outputs":{"supported":false},"new":{}}}"#,
        )
        .unwrap();
        let traits = ModelTraits::of("x").with(&told);
        assert_eq!(
            (traits.thinking, traits.efforts, traits.structured, traits.max_output),
            (Thinking::Adaptive, TO_MAX, Some(false), 5000)
        );
        assert_eq!(ModelTraits::of("x").with(&Capabilities::default()), UNKNOWN);
    }

    #[test]
    fn a_wish_gets_the_nearest_level() {
        assert_eq!(ModelTraits::of("claude-opus-4-6").effort(Effort::Xhigh), Some(Effort::Max));
        assert_eq!(ModelTraits::of("claude-opus-4-5").effort(Effort::Max), Some(Effort::High));
        assert_eq!(ModelTraits::of("claude-haiku-4-5").effort(Effort::Low), None);
    }
}
