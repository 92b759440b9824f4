//! The pages of `docs/`: those of clients are what the program would do, and every page is in the book.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use seaway::config::Environment;
use seaway::connect::clients::{CLIENTS, ClientSetup};
use seaway::connect::{Facts, OTHERS, other};

const KEY: &str = "the local key";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// A home folder in which every client can be set up.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("SillyTavern/data/default-user/settings.json", "{}"),
        ("LibreChat/librechat.example.yaml", ""),
        (".local/state/seaway/key", KEY),
    ] {
        let path = home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    home
}

fn facts(home: &Path) -> Facts {
    Facts {
        statusline: None,
        budget: false,
        url: "http://127.0.0.1:7329".into(),
        key_command: ["seaway", "key", "show"].map(Into::into).into(),
        key: Some(KEY.to_owned().into()),
        key_file: home.join(".local/state/seaway/key"),
        models: ["opus", "sonnet", "haiku"].map(Into::into).into(),
        model: "sonnet".into(),
        searches: true,
        no_proxy: None,
        environment: Environment::default(),
        home: home.to_owned(),
        folder: home.join("project"),
    }
}

/// What is done to set a client up, in full.
fn set_up(client: &ClientSetup, facts: &Facts) -> String {
    let setup = client.setup(facts);
    // Those that also have words for doing it by hand are found by where they lie.
    let place = if OTHERS.iter().any(|other| other.name == client.name) {
        "In its folder, once it has been started:\n\n"
    } else {
        ""
    };
    let mut page = format!(
        "# {}\n\n{place}```sh\nseaway connect {}\n```\n\nwrites this, and leaves all else in these files as it is:\n",
        client.about, client.name
    );
    for file in &setup.files {
        let text = file.change.apply("", true).unwrap();
        let kind = file.path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        let kind = kind.replace("yml", "yaml");
        page += &format!("\n`{}`\n\n```{kind}\n{}\n```\n", file.path.display(), text.trim_end());
    }
    let private = if page.contains(&format!("\"{KEY}\"")) {
        "The key stands in it, so it is made private. "
    } else {
        "No key stands in it: a rotated one needs nothing. "
    };
    page + &format!(
        "\n{private}Then {}. `--model MODEL` chooses another model, `--dry-run` shows the difference first, `--undo` puts back what was there.\n",
        setup.then
    )
}

/// Every client's page, by its file's name.
fn pages() -> BTreeMap<String, String> {
    const MADE: &str = "<!-- Made of what the program would do: UPDATE_CORPUS=1 cargo test -p seaway --test it -- docs -->\n";
    let home = home();
    let facts = facts(home.path());
    let mut pages: BTreeMap<String, String> =
        CLIENTS.iter().map(|client| (client.name.to_owned(), set_up(client, &facts))).collect();
    for one in OTHERS {
        let told = other(one.name, &facts).unwrap();
        let (about, _) = told.split_once(':').unwrap();
        let by_hand = format!("```text\n{}\n```\n", told.trim_end());
        let page = pages.entry(one.name.to_owned()).or_default();
        *page = if page.is_empty() {
            format!(
                "# {about}\n\nIt is set up by hand; `seaway connect {}` says this with your own address:\n\n{by_hand}",
                one.name
            )
        } else {
            format!("{page}\n## By hand\n\n{by_hand}")
        };
    }
    let root = home.path().display().to_string();
    let shown = |page: String| page.replace(&root, "~") + "\n" + MADE;
    pages.into_iter().map(|(name, page)| (format!("{name}.md"), shown(page))).collect()
}

#[test]
fn every_client_has_a_page_of_what_the_program_would_do() {
    let folder = docs().join("clients");
    let pages = pages();
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        for (name, page) in &pages {
            fs::write(folder.join(name), page).unwrap();
        }
    }
    let there = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let there: BTreeMap<String, String> = there
        .map(|path| {
            (path.file_name().unwrap().display().to_string(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    let names = |pages: &BTreeMap<String, String>| pages.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&there),
        names(&pages),
        "UPDATE_CORPUS=1 writes them; take away what is too many"
    );
    for (name, page) in pages {
        assert_eq!(there[&name], page, "docs/clients/{name}: UPDATE_CORPUS=1 writes it anew");
    }
}

#[test]
fn every_page_is_in_the_book() {
    let summary = fs::read_to_string(docs().join("SUMMARY.md")).unwrap();
    let mut folders = vec![docs()];
    let mut pages = 0;
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "md")
                && !path.ends_with("SUMMARY.md")
            {
                let name = path.strip_prefix(docs()).unwrap().display().to_string();
                assert!(summary.contains(&format!("]({name})")), "docs/SUMMARY.md lacks {name}");
                pages += 1;
            }
        }
    }
    assert!(pages > 30, "{pages} pages");
}
