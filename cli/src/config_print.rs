//! `evergreen config print`: the settings as a process reads them, and where each is from.
//!
//! The real code reads them, and notes each name, its default, and whether it is a secret. So the list cannot differ from
//! what a process uses, and no secret can be forgotten.

use std::path::Path;

use serde_json::{Value, json};
use service::config::{Kind, Layered, Origin, Read, Source};

use crate::args::ConfigPrint;
use crate::exit::Failure;
use crate::output::Output;
use crate::role::Role;
use crate::run;
use crate::settings_list::place;

/// `evergreen config print`.
pub(crate) fn act(source: &Layered, output: Output, wanted: &ConfigPrint) -> Result<(), Failure> {
    let role = wanted.role.unwrap_or_else(|| Role::guess(source));
    let inspected = run::inspect(role, source);
    let unread = unread(source, &inspected.reads);
    let rows = rows(&inspected.reads, wanted.all);
    let shown = text(role, &rows, &unread);
    output.report(&json(role, &rows, &unread), &shown, || shown.clone())?;
    inspected.settings?;
    Ok(())
}

/// A setting as it is shown.
#[derive(Debug)]
struct Row {
    read: Read,
    /// Where it stands in the manual, and under which heading.
    place: (usize, &'static str),
}

/// The settings to show, by groups. `all`: also those that are not set.
fn rows(reads: &[Read], all: bool) -> Vec<Row> {
    let has_file = |key: &str| {
        let files = [format!("{key}_FILE"), format!("{key}_file")];
        reads
            .iter()
            .any(|read| read.origin.is_some() && files.contains(&read.key))
    };
    let is_shown = |read: &&Read| match (&read.origin, read.kind) {
        // The marks by which `up` remembers its sandbox.
        _ if read.key.starts_with('(') => false,
        (Some(_), _) => true,
        (None, Kind::SecretFile) => false,
        (None, Kind::Secret | Kind::Plain) => all && !has_file(&read.key),
    };
    let shown = reads.iter().filter(is_shown).cloned();
    let mut rows: Vec<Row> = shown
        .map(|read| Row {
            place: place(&read.key),
            read: masked(read),
        })
        .collect();
    rows.sort_by_key(|row| row.place);
    rows
}

/// Without the path of a secret's file if there is no such file: the secret itself may stand in its place.
fn masked(read: Read) -> Read {
    let is_file = |path: &String| Path::new(path).is_file();
    match read.kind {
        Kind::SecretFile => Read {
            value: read.value.filter(is_file),
            ..read
        },
        Kind::Plain | Kind::Secret => read,
    }
}

/// Names of settings that are set, and that the process does not read.
fn unread(source: &dyn Source, reads: &[Read]) -> Vec<String> {
    let is_ours = |key: &str| key.starts_with("EVERGREEN_") || key.starts_with("GHL_");
    let mut keys = source.keys();
    keys.retain(|key| {
        let is_set = || source.get(key).is_some_and(|it| !it.trim().is_empty());
        is_ours(key) && !reads.iter().any(|read| read.key == *key) && is_set()
    });
    keys.retain(|key| key != "EVERGREEN_CONFIG");
    keys.sort_unstable();
    keys
}

fn origin_word(origin: &Origin) -> &'static str {
    match origin {
        Origin::Flag => "flag",
        Origin::Environment => "environment",
        Origin::File(_) => "file",
        Origin::AppFile(_) => "app file",
        Origin::Program => "evergreen",
    }
}

fn json(role: Role, rows: &[Row], unread: &[String]) -> Value {
    let settings: Vec<Value> = rows
        .iter()
        .map(|Row { read, place }| {
            let path = match &read.origin {
                Some(Origin::File(path) | Origin::AppFile(path)) => {
                    Some(path.display().to_string())
                }
                _ => None,
            };
            json!({
                "name": read.key,
                "group": place.1,
                "is_set": read.origin.is_some(),
                "is_secret": read.kind == Kind::Secret,
                "value": read.value,
                "default": read.default,
                "source": read.origin.as_ref().map_or("default", origin_word),
                "file": path,
            })
        })
        .collect();
    json!({ "command": role.command(), "settings": settings, "not_read": unread })
}

/// TOML that can be used as a settings file. A comment says where each setting is from.
fn text(role: Role, rows: &[Row], unread: &[String]) -> String {
    let mut lines = vec![format!(
        "# The settings of `evergreen {}`, by their order of precedence: flags, environment, file.",
        role.command()
    )];
    let mut heading = "";
    let (top, sections): (Vec<_>, Vec<_>) =
        rows.iter().partition(|row| !row.read.key.contains('.'));
    for Row { read, place } in top {
        if heading != place.1 {
            heading = place.1;
            lines.extend([String::new(), format!("# {heading}")]);
        }
        lines.push(line(&read.key, read));
    }
    for key in unread {
        lines.push(format!("# {key} is set, and not read by this command"));
    }
    let mut header = String::new();
    for Row { read, .. } in sections {
        let Some((section, field)) = read.key.rsplit_once('.') else {
            continue;
        };
        if header != section {
            section.clone_into(&mut header);
            lines.extend([String::new(), section_header(section)]);
        }
        lines.push(line(field, read));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// `[apps.NAME]`, or `[[events]]` for `events.1`.
fn section_header(section: &str) -> String {
    match section.split_once('.') {
        Some((list @ ("events" | "webhooks"), _)) => format!("[[{list}]]"),
        _ => format!("[{section}]"),
    }
}

/// A text in quotes. TOML has the escapes of JSON.
fn toml_text(text: &str) -> String {
    json!(text).to_string()
}

fn line(name: &str, read: &Read) -> String {
    match (&read.origin, &read.value, &read.default) {
        (Some(Origin::Program), Some(value), _) => {
            format!("# {name} = {}  # set by evergreen itself", toml_text(value))
        }
        (Some(origin), Some(value), _) => format!("{name} = {}  # {origin}", toml_text(value)),
        (Some(origin), None, _) => format!("# {name} is set  # {origin}"),
        (None, _, Some(default)) => format!("# {name} = {}  # default", toml_text(default)),
        (None, _, None) => format!("# {name} is not set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, kind: Kind, value: Option<&str>, origin: Option<Origin>) -> Read {
        Read {
            key: key.to_owned(),
            kind,
            value: value.map(str::to_owned),
            origin,
            default: None,
        }
    }

    fn shown(all: bool) -> String {
        let file = || Some(Origin::File("/etc/evergreen.toml".into()));
        let default = Read {
            default: Some("info".to_owned()),
            ..read("EVERGREEN_LOG", Kind::Plain, None, None)
        };
        let environment = Some(Origin::Environment);
        let reads = vec![
            read("(sandbox)", Kind::Plain, Some("yes"), Some(Origin::Program)),
            default,
            read("EVERGREEN_REDIS_URL", Kind::Secret, None, None),
            read(
                "EVERGREEN_REDIS_URL_FILE",
                Kind::SecretFile,
                Some("hunter2"),
                file(),
            ),
            read(
                "GHL_CLIENT_ID",
                Kind::Plain,
                Some("a\"b"),
                environment.clone(),
            ),
            read("GHL_CLIENT_SECRET", Kind::Secret, None, environment),
            read("GHL_SSO_KEY", Kind::Secret, None, None),
            read("apps.b.client_id", Kind::Plain, Some("x"), file()),
            read("events.1.url", Kind::Plain, Some("https://x"), file()),
        ];
        text(
            Role::Up,
            &rows(&reads, all),
            &["EVERGREEN_LOCK_URLS".to_owned()],
        )
    }

    #[test]
    fn settings_are_a_file_with_their_sources_and_without_secrets() {
        let text = shown(false);
        let expected = "\n# GHL app\nGHL_CLIENT_ID = \"a\\\"b\"  # environment\n\
                        # GHL_CLIENT_SECRET is set  # environment\n\n# Store\n\
                        # EVERGREEN_REDIS_URL_FILE is set  # /etc/evergreen.toml\n\
                        # EVERGREEN_LOCK_URLS is set, and not read by this command\n\n\
                        [apps.b]\nclient_id = \"x\"  # /etc/evergreen.toml\n\n\
                        [[events]]\nurl = \"https://x\"  # /etc/evergreen.toml\n";
        let (_, rest) = text.split_once('\n').unwrap();
        assert_eq!(rest, expected);
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn all_settings_have_their_defaults() {
        let text = shown(true);
        assert!(
            text.contains("# EVERGREEN_LOG = \"info\"  # default\n"),
            "{text}"
        );
        assert!(text.contains("# GHL_SSO_KEY is not set\n"), "{text}");
        assert!(!text.contains("EVERGREEN_REDIS_URL is not set"), "{text}");
    }
}
