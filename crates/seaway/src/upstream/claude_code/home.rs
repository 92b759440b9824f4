//! A child's own folders. What the program writes down goes with the child: who is answered, what a tool
//! said, what it remembers. Of its owner's it is given the login alone, and that only by where it lies.

use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;

use crate::config::ProgramConfig;
use crate::confine::outside;

/// The program's own name of the file that says who it is.
const IDENTITY: &str = ".claude.json";

/// The folder of a child's settings, below its temporary one.
pub(super) fn config(temporary: &Path) -> PathBuf {
    temporary.join("config")
}

/// Makes a child's folders.
///
/// # Errors
///
/// If they cannot be made.
pub(super) fn furnish(setting: &ProgramConfig, temporary: &Path) -> io::Result<()> {
    let config = config(temporary);
    crate::auth::private_dir(&config)?;
    std::fs::write(config.join(IDENTITY), identity(setting)?)
}

/// Variables that lead the program to folders of its own.
pub(super) fn environment(
    setting: &ProgramConfig,
    temporary: &Path,
    has_tools: bool,
) -> Vec<(&'static str, SecretString)> {
    let text = |path: &Path| SecretString::from(path.display().to_string());
    let mut variables = vec![("CLAUDE_CONFIG_DIR", text(&config(temporary)))];
    if setting.credential.is_none() && given(setting, "CLAUDE_SECURESTORAGE_CONFIG_DIR").is_none() {
        // Empty means: where it is without being told.
        variables.push((
            "CLAUDE_SECURESTORAGE_CONFIG_DIR",
            given(setting, "CLAUDE_CONFIG_DIR").unwrap_or_default().to_owned().into(),
        ));
    }
    if !has_tools {
        // Nothing but the program itself would look there.
        variables.push(("XDG_CACHE_HOME", text(&temporary.join("cache"))));
    }
    variables
}

fn given<'s>(setting: &'s ProgramConfig, name: &str) -> Option<&'s str> {
    setting
        .environment
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.expose_secret())
}

/// What `~` means to the program.
pub(super) fn home(setting: &ProgramConfig) -> PathBuf {
    given(setting, "HOME").map(PathBuf::from).unwrap_or_default()
}

/// The folder in which the program keeps its owner's login, where that is a file.
pub(super) fn login_folder(setting: &ProgramConfig) -> Option<PathBuf> {
    named(setting)
        .next()
        .or_else(|| given(setting, "HOME").map(|home| Path::new(home).join(".claude")))
}

/// What a child without tools writes beside its temporary folder: the login, which it renews.
pub(super) fn written(setting: &ProgramConfig) -> Vec<PathBuf> {
    login_folder(setting).filter(|_| setting.credential.is_none()).into_iter().collect()
}

/// Folders that are named in place of the usual one, the one of the login first.
fn named(setting: &ProgramConfig) -> impl Iterator<Item = PathBuf> {
    let names = ["CLAUDE_SECURESTORAGE_CONFIG_DIR", "CLAUDE_CONFIG_DIR"].into_iter();
    names
        .filter_map(|name| given(setting, name))
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
}

/// What the program has of its owner's, wherever that may be: settings, memories, transcripts, the login.
pub(super) fn owners(setting: &ProgramConfig) -> Vec<PathBuf> {
    let home = given(setting, "HOME").map(PathBuf::from);
    named(setting)
        .chain(home.iter().flat_map(|home| [home.join(".claude"), home.join(IDENTITY)]))
        .collect()
}

/// What the program keeps of an account and a device beside the login, which is no secret. Nothing else of that file
/// is looked at.
#[derive(serde::Deserialize)]
struct ProgramIdentity<'a> {
    #[serde(rename = "userID", borrow, default)]
    user_id: Option<&'a RawValue>,
    #[serde(rename = "oauthAccount", borrow, default)]
    account: Option<&'a RawValue>,
}

/// Who the program is: its owner's device and account where the owner's login is used, else a device of ours. A new
/// one for every child would look like as many devices.
pub(super) fn identity(setting: &ProgramConfig) -> io::Result<String> {
    let folder = given(setting, "CLAUDE_CONFIG_DIR")
        .or_else(|| given(setting, "HOME"))
        .filter(|_| setting.credential.is_none());
    let known = folder
        .map(|folder| Path::new(folder).join(IDENTITY))
        .and_then(|path| outside(move || std::fs::read_to_string(path)).ok())
        .unwrap_or_default();
    let kept = serde_json::from_str::<ProgramIdentity<'_>>(&known).ok();
    let user = kept.as_ref().and_then(|kept| kept.user_id).map(|id| id.get().to_owned());
    let user = user.map_or_else(|| device(setting), Ok)?;
    let account = kept
        .and_then(|kept| kept.account)
        .map_or_else(String::new, |account| format!(",\"oauthAccount\":{}", account.get()));
    Ok(format!("{{\"userID\":{user}{account}}}"))
}

/// The id of the device that this installation is, as JSON; made once.
fn device(setting: &ProgramConfig) -> io::Result<String> {
    let path = setting.folder.join("device");
    let known = std::fs::read_to_string(&path)
        .ok()
        .filter(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let id = if let Some(id) = known {
        id
    } else {
        let id = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        crate::auth::private_dir(&setting.folder)?;
        replace(&path, id.as_bytes())?;
        id
    };
    Ok(format!("\"{id}\""))
}

/// Writes a file that only its owner can read, whole or not at all.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    io::Write::write_all(&mut file, content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_stays_the_same_and_an_account_is_its_owners_without_anything_else_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut setting = ProgramConfig::example(folder.path());
        let first = identity(&setting).unwrap();
        assert_eq!(first, identity(&setting).unwrap());
        assert!(first.starts_with("{\"userID\":\"") && first.len() == 64 + 13, "{first}");
        let own = folder.path().join("own");
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join(IDENTITY), r#"{"userID":"u","oauthAccount":{"accountUuid":"a"},"mcpServers":{"x":{"env":{"KEY":"secret"}}}}"#).unwrap();
        setting.environment = vec![("CLAUDE_CONFIG_DIR".into(), own.display().to_string().into())];
        assert_eq!(
            identity(&setting).unwrap(),
            r#"{"userID":"u","oauthAccount":{"accountUuid":"a"}}"#
        );
    }

    #[test]
    fn a_child_is_led_to_the_login_and_to_nothing_else_of_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let mut setting = ProgramConfig::example(folder.path());
        let value = |setting: &ProgramConfig, name: &str| {
            let all = environment(setting, Path::new("/t"), false);
            all.into_iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.expose_secret().to_owned())
        };
        assert_eq!(value(&setting, "CLAUDE_CONFIG_DIR").as_deref(), Some("/t/config"));
        assert_eq!(value(&setting, "CLAUDE_SECURESTORAGE_CONFIG_DIR").as_deref(), Some(""));
        setting.environment =
            vec![("CLAUDE_CONFIG_DIR".into(), "/home/me/claude".to_owned().into())];
        assert_eq!(
            value(&setting, "CLAUDE_SECURESTORAGE_CONFIG_DIR").as_deref(),
            Some("/home/me/claude")
        );
    }
}
