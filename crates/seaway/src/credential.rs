//! Where an upstream's secret comes from: read fresh, cached, read again when refused.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};
use tokio_util::task::TaskTracker;

use crate::config::{Carrier, CredentialConfig as Setting, OWN_LOGIN, PLAN_TOKEN, Source};
use crate::confine::outside;
use crate::process::{self, ProcessError};
use crate::refreshed::{Fetched, GatewayGone, Refreshed};

/// How long a credential command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How long a failed command is left alone.
const FAILED_FOR: Duration = Duration::from_secs(10);

/// Why there is no credential. Says what to do about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CredentialError {
    #[error("{0}")]
    Unset(String),
    #[error("cannot read the credential file {path}")]
    File {
        path: PathBuf,
        #[source]
        source: Arc<std::io::Error>,
    },
    #[error("the credential file {path} {why}")]
    Content { path: PathBuf, why: String },
    #[error("the credential command failed: {0}; its own words are in the log")]
    Command(Arc<ProcessError>),
    #[error("the credential command did not end: {0}")]
    GatewayGone(#[from] GatewayGone),
    #[error("the credential has a character that no header can carry")]
    Characters,
    #[error("{OWN_LOGIN}")]
    Plan,
}

type HeaderResult = Result<HeaderValue, CredentialError>;

/// One upstream's credential.
#[derive(Debug)]
pub struct Credential {
    setting: Setting,
    /// What was read last of a source that is at hand.
    read: Mutex<Option<Read>>,
    /// What a command printed: it runs once for all who wait, and to its end if they leave.
    printed: Refreshed<HeaderResult>,
}

#[derive(Debug)]
struct Read {
    header: HeaderValue,
    good: Good,
}

/// How long what was read may be used without looking again.
#[derive(Debug)]
enum Good {
    Always,
    While { modified: SystemTime, expires: Option<jiff::Timestamp> },
}

impl Credential {
    /// A command runs in one of `tasks`.
    pub fn new(setting: Setting, tasks: &TaskTracker) -> Self {
        Self { setting, read: Mutex::default(), printed: Refreshed::new(tasks.clone()) }
    }

    /// True if asking again may give another value, so a 401 is worth one more try.
    pub fn can_change(&self) -> bool {
        matches!(self.setting.source, Source::File { .. } | Source::Command { .. })
    }

    /// Writes the credential's header. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] if there is none to be had.
    pub async fn write(&self, headers: &mut HeaderMap) -> Result<(), CredentialError> {
        let header = match &self.setting.source {
            Source::Command { line, ttl } => self.print(line, *ttl).await?,
            Source::Value(value) => self.kept(|| Ok((value.clone(), Good::Always)))?,
            Source::File { path, pointer, expires_pointer } => {
                self.kept(|| read_file(path, pointer.as_deref(), expires_pointer.as_deref()))?
            }
            Source::Unset(why) => return Err(CredentialError::Unset(why.clone())),
        };
        headers.insert(self.header_name(), header);
        Ok(())
    }

    /// Forgets `refused`, so that the next [`Credential::write`] asks anew. What somebody else
    /// has renewed meanwhile is kept.
    pub fn refused(&self, refused: &HeaderMap) {
        let refused = refused.get(self.header_name());
        self.lock_read().take_if(|read| Some(&read.header) == refused);
        self.printed.forget_if(|printed| printed.as_ref().ok() == refused);
    }

    fn header_name(&self) -> HeaderName {
        match self.setting.carrier {
            Carrier::ApiKey => HeaderName::from_static("x-api-key"),
            Carrier::Bearer => header::AUTHORIZATION,
        }
    }

    fn lock_read(&self) -> MutexGuard<'_, Option<Read>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(
        &self,
        read: impl FnOnce() -> Result<(SecretString, Good), CredentialError>,
    ) -> HeaderResult {
        let mut kept = self.lock_read();
        if let Some(kept) = kept.as_ref().filter(|kept| self.still_good(&kept.good)) {
            return Ok(kept.header.clone());
        }
        let (secret, good) = read()?;
        let header = written(self.setting.carrier, &secret)?;
        *kept = Some(Read { header: header.clone(), good });
        Ok(header)
    }

    fn still_good(&self, good: &Good) -> bool {
        match (good, &self.setting.source) {
            (Good::Always, _) => true,
            (Good::While { modified, expires }, Source::File { path, .. }) => {
                let fresh = expires.is_none_or(|expires| jiff::Timestamp::now() < expires);
                fresh && modified_at(path).is_ok_and(|now| now == *modified)
            }
            (Good::While { .. }, _) => false,
        }
    }

    async fn print(&self, line: &str, ttl: Duration) -> HeaderResult {
        let carrier = self.setting.carrier;
        let line = || line.to_owned();
        let printed = self.printed.get(move || {
            let line = line();
            async move {
                let value = run(&line).await.and_then(|secret| written(carrier, &secret));
                Fetched {
                    fresh: if value.is_ok() { ttl } else { FAILED_FOR },
                    value,
                    lasting: false,
                }
            }
        });
        printed.await?
    }
}

async fn run(line: &str) -> Result<SecretString, CredentialError> {
    let ran = process::capture(line, COMMAND_LIMIT).await;
    ran.map_err(|error| {
        if let ProcessError::Failed { stderr, .. } = &error {
            tracing::warn!(%error, stderr, "the credential command failed");
        }
        CredentialError::Command(Arc::new(error))
    })
}

/// Writes a secret as its header's value.
fn written(carrier: Carrier, secret: &SecretString) -> HeaderResult {
    let text = secret.expose_secret().trim();
    if text.starts_with(PLAN_TOKEN) {
        return Err(CredentialError::Plan);
    }
    let header = match carrier {
        Carrier::ApiKey => HeaderValue::from_str(text),
        Carrier::Bearer => HeaderValue::from_str(&format!("Bearer {text}")),
    };
    let mut header = header.map_err(|_| CredentialError::Characters)?;
    header.set_sensitive(true);
    Ok(header)
}

fn modified_at(path: &Path) -> std::io::Result<SystemTime> {
    std::fs::metadata(path)?.modified()
}

fn read_file(
    path: &Path,
    pointer: Option<&str>,
    expires: Option<&str>,
) -> Result<(SecretString, Good), CredentialError> {
    let io = |source| CredentialError::File { path: path.to_owned(), source: Arc::new(source) };
    let wrong = |why: String| CredentialError::Content { path: path.to_owned(), why };
    // The time is taken first: a change during the read is then seen the next time.
    let modified = modified_at(path).map_err(io)?;
    let place = path.to_owned();
    let text = outside(move || std::fs::read_to_string(place)).map_err(io)?;
    let Some(pointer) = pointer else {
        if text.trim().is_empty() {
            return Err(wrong("is empty".into()));
        }
        return Ok((text.into(), Good::While { modified, expires: None }));
    };
    let json: serde_json::Value = serde_json::from_str(&text)
        .map_err(|_| wrong("is not JSON, but a pointer into it is set".into()))?;
    let found =
        json.pointer(pointer).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
    let secret = found.ok_or_else(|| wrong(format!("has no text at `{pointer}`")))?;
    let expires = match expires {
        Some(pointer) => Some(
            json.pointer(pointer)
                .and_then(timestamp)
                .ok_or_else(|| wrong(format!("has no time at `{pointer}`")))?,
        ),
        None => None,
    };
    if expires.is_some_and(|expires| expires <= jiff::Timestamp::now()) {
        return Err(wrong(
            "holds a credential that has expired; renew it with the tool that wrote it".into(),
        ));
    }
    Ok((secret.to_owned().into(), Good::While { modified, expires }))
}

/// A time as files hold it: RFC 3339, or seconds or milliseconds since 1970.
fn timestamp(value: &serde_json::Value) -> Option<jiff::Timestamp> {
    if let Some(text) = value.as_str() {
        return text.parse().ok();
    }
    let number = value.as_i64()?;
    // Seconds stay below this until the year 5138; milliseconds passed it in 1973.
    let millis = if number.abs() < 100_000_000_000 { number.checked_mul(1000)? } else { number };
    jiff::Timestamp::from_millisecond(millis).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(carrier: Carrier, source: Source) -> Credential {
        Credential::new(Setting { carrier, source }, &TaskTracker::new())
    }

    fn file(
        content: &str,
        pointer: Option<&str>,
        expires: Option<&str>,
    ) -> (tempfile::NamedTempFile, Credential) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let source = Source::File {
            path: file.path().into(),
            pointer: pointer.map(Into::into),
            expires_pointer: expires.map(Into::into),
        };
        (file, credential(Carrier::Bearer, source))
    }

    async fn value(credential: &Credential) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        credential.write(&mut headers).await.map_err(|error| error.to_string())?;
        Ok(headers[header::AUTHORIZATION].to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_file_is_read_anew_when_it_changes() {
        let (file, credential) = file("one\n", None, None);
        assert_eq!(value(&credential).await.unwrap(), "Bearer one");
        std::fs::write(file.path(), "two\n").unwrap();
        let later = SystemTime::now() + Duration::from_secs(2);
        file.as_file().set_modified(later).unwrap();
        assert_eq!(value(&credential).await.unwrap(), "Bearer two");
        std::fs::write(file.path(), "").unwrap();
        file.as_file().set_modified(later + Duration::from_secs(2)).unwrap();
        assert!(value(&credential).await.unwrap_err().ends_with("is empty"));
    }

    #[tokio::test]
    async fn a_pointer_finds_the_credential_and_its_expiry() {
        let json = r#"{"t":{"a":"tok"},"e":4102444800000,"old":"2001-01-01T00:00:00Z"}"#;
        assert_eq!(value(&file(json, Some("/t/a"), Some("/e")).1).await.unwrap(), "Bearer tok");
        assert!(
            value(&file(json, Some("/t/a"), Some("/old")).1)
                .await
                .unwrap_err()
                .contains("has expired")
        );
        assert!(
            value(&file(json, Some("/x"), None).1).await.unwrap_err().contains("no text at `/x`")
        );
        assert!(value(&file("x", Some("/x"), None).1).await.unwrap_err().contains("not JSON"));
    }

    #[tokio::test]
    async fn a_command_runs_again_only_when_its_value_was_refused() {
        let folder = tempfile::tempdir().unwrap();
        let counter = folder.path().join("n");
        let line = format!("echo x >> {0}; wc -l < {0}", counter.display());
        let credential =
            credential(Carrier::Bearer, Source::Command { line, ttl: Duration::from_secs(600) });
        let mut headers = HeaderMap::new();
        credential.write(&mut headers).await.unwrap();
        assert_eq!(value(&credential).await.unwrap(), "Bearer 1");
        credential.refused(&headers);
        assert_eq!(value(&credential).await.unwrap(), "Bearer 2");
        credential.refused(&headers);
        assert_eq!(
            value(&credential).await.unwrap(),
            "Bearer 2",
            "an old refusal does not undo a renewal"
        );
    }

    #[tokio::test]
    async fn a_failing_command_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let count = folder.path().join("n");
        let line = format!("echo x >> {}; echo no luck >&2; exit 3", count.display());
        let credential = credential(Carrier::ApiKey, Source::Command { line, ttl: Duration::ZERO });
        assert!(value(&credential).await.is_err());
        assert_eq!(
            value(&credential).await.unwrap_err(),
            "the credential command failed: it exited with status 3; its own words are in the log"
        );
        assert_eq!(
            std::fs::read_to_string(&count).unwrap().lines().count(),
            1,
            "it is left alone for a while"
        );
    }

    #[tokio::test]
    async fn a_command_runs_once_for_all_and_goes_on_when_they_leave() {
        let folder = tempfile::tempdir().unwrap();
        let (count, gate) = (folder.path().join("n"), folder.path().join("gate"));
        let line = format!(
            "echo x >> {}; until [ -e {} ]; do sleep 0.01; done; echo token",
            count.display(),
            gate.display()
        );
        let credential =
            credential(Carrier::Bearer, Source::Command { line, ttl: Duration::from_secs(600) });
        for _ in 0..5 {
            let left = tokio::time::timeout(Duration::from_millis(20), value(&credential)).await;
            assert!(left.is_err(), "it waits: {left:?}");
        }
        std::fs::write(&gate, "").unwrap();
        assert_eq!(value(&credential).await.unwrap(), "Bearer token");
        assert_eq!(std::fs::read_to_string(&count).unwrap().lines().count(), 1);
    }
}
