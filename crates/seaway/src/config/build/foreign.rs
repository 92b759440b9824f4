//! Variables of the tools that people come from: told, where they would be passed over in silence.

use crate::config::Environment;
use crate::config::layers::Layers;

/// What another tool reads, and what says the same here.
const FOREIGN: [(&str, &str); 12] = [
    ("HTTP_PORT", "`port`, $SEAWAY_PORT"),
    ("AUTH_TOKEN", "`api_key`, $SEAWAY_API_KEY"),
    ("ANTHROPIC_API_BASE", "$ANTHROPIC_BASE_URL, or `upstream.NAME.base_url`"),
    ("REQUEST_TIMEOUT_MS", "`upstream.NAME.first_byte_timeout` and `upstream.NAME.idle_timeout`"),
    ("WORKER_CONCURRENCY", "`claude_code.workers`, $SEAWAY_CLAUDE_CODE__WORKERS"),
    ("MAX_QUEUE_SIZE", "`upstream.NAME.queue`, $SEAWAY_UPSTREAM__NAME__QUEUE"),
    ("QUEUE_TIMEOUT_MS", "`upstream.NAME.queue_timeout`, $SEAWAY_UPSTREAM__NAME__QUEUE_TIMEOUT"),
    ("MAX_SESSIONS", "`claude_code.sessions`, $SEAWAY_CLAUDE_CODE__SESSIONS"),
    ("SESSION_TIMEOUT_MS", "`claude_code.idle`, $SEAWAY_CLAUDE_CODE__IDLE"),
    ("SESSION_TTL_MS", "`claude_code.retention`, $SEAWAY_CLAUDE_CODE__RETENTION"),
    ("DEFAULT_MODEL", "`model.default`, $SEAWAY_MODEL__DEFAULT"),
    ("LOG_LEVEL", "`log_level`, $SEAWAY_LOG_LEVEL"),
];

/// Warns of those that are set, where nothing here says what they would.
pub(super) fn warn(layers: &mut Layers, environment: &Environment) {
    for (name, here) in FOREIGN {
        if environment.get(name).is_some() && !is_said(layers, environment, here) {
            layers.warn(format!("${name} is another tool's and is not read; here it is {here}"));
        }
    }
}

/// True if the setting that stands first is given.
fn is_said(layers: &Layers, environment: &Environment, here: &str) -> bool {
    let mut quoted = here.split('`').skip(1);
    let setting = quoted.next().unwrap_or_default();
    let own: Vec<&str> = setting.split('.').collect();
    let given = layers.iter().any(|(key, _)| {
        key.len() == own.len()
            && key.iter().zip(&own).all(|(key, own)| key == own || *own == "NAME")
    });
    given
        || (here.starts_with("$ANTHROPIC_BASE_URL")
            && environment.get("ANTHROPIC_BASE_URL").is_some())
}
