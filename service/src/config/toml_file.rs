//! The settings file. It is TOML with the names of the environment variables as keys, with a section for each app, and
//! with lists of sections.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use toml::{Table, Value};

use super::place::{LISTS, place};
use super::{Origin, Source, nearest, without_mark};

/// A settings file, read once.
#[derive(Clone)]
pub struct TomlFile {
    entries: HashMap<String, String>,
    /// The file, or the directory of the files of apps.
    path: PathBuf,
    /// Whether each app has a file of its own.
    is_directory: bool,
}

/// Why a settings file cannot be used. No variant contains a value of the file, since any value may be secret.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file is missing or may not be read.
    #[error("cannot read the settings file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}, line {line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The parser's message.
        message: String,
    },
    /// An entry that is not a valid setting.
    #[error("{}: {} {problem}", path.display(), place(key).escape_debug())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The name of the setting.
        key: String,
        /// The mistake in it. Does not quote the value.
        problem: String,
    },
}

impl TomlFile {
    /// Reads the whole file. A single invalid entry is an error.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let text = fs::read_to_string(path).map_err(|source| FileError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, without_mark(&text))
    }

    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, FileError> {
        let table = parse_toml(path, text)?;
        let mut entries = HashMap::with_capacity(table.len());
        let wrong = |key: String, problem: String| {
            let path = path.to_owned();
            FileError::Entry { path, key, problem }
        };
        for (key, value) in table {
            match value {
                Value::Table(apps) if key == APPS => {
                    for (name, app) in apps {
                        let section = format!("{APPS}.{name}");
                        let Value::Table(fields) = app else {
                            let problem = "is no section: write [apps.NAME]".to_owned();
                            return Err(wrong(section, problem));
                        };
                        read_section(&section, fields, &mut entries)
                            .map_err(|(key, problem)| wrong(key, problem))?;
                    }
                }
                Value::Array(sections) if LISTS.contains(&key.as_str()) => {
                    read_list(&key, sections, &mut entries)
                        .map_err(|(key, problem)| wrong(key, problem))?;
                }
                value if LISTS.contains(&key.as_str()) => {
                    let problem = match value {
                        Value::Table(_) => "is one section: write [[NAME]], with two brackets",
                        _ => "is no list of sections: write [[NAME]]",
                    };
                    return Err(wrong(key, problem.to_owned()));
                }
                value => match setting(&key, value) {
                    Ok(value) => drop(entries.insert(key, value)),
                    Err(problem) => return Err(wrong(key, problem)),
                },
            }
        }
        Ok(Self {
            entries,
            path: path.to_owned(),
            is_directory: false,
        })
    }

    /// Reads a directory with one file for each app: `NAME.toml` has what a section `[apps.NAME]` would have. Other files
    /// are ignored.
    pub fn read_apps(directory: &Path) -> Result<Self, FileError> {
        let unreadable = |source| FileError::Unreadable {
            path: directory.to_owned(),
            source,
        };
        let mut entries = HashMap::new();
        for file in fs::read_dir(directory).map_err(unreadable)? {
            let path = file.map_err(unreadable)?.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            let is_app = path.extension().is_some_and(|it| it == "toml");
            let Some(name) = name.filter(|name| is_app && !name.starts_with('.')) else {
                continue;
            };
            let text = fs::read_to_string(&path).map_err(|source| FileError::Unreadable {
                path: path.clone(),
                source,
            })?;
            let fields = parse_toml(&path, without_mark(&text))?;
            read_section(&format!("{APPS}.{name}"), fields, &mut entries)
                .map_err(|(key, problem)| FileError::Entry { path, key, problem })?;
        }
        Ok(Self {
            entries,
            path: directory.to_owned(),
            is_directory: true,
        })
    }
}

/// The kind of the sections.
const APPS: &str = "apps";

fn parse_toml(path: &Path, text: &str) -> Result<Table, FileError> {
    // The parser's Display quotes the invalid line, which may contain a secret.
    text.parse()
        .map_err(|error: toml::de::Error| FileError::Syntax {
            path: path.to_owned(),
            line: error.span().map_or(1, |span| line_of(text, span.start)),
            message: error.message().to_owned(),
        })
}

/// Adds the fields of each section of a list, as `list.number.field`. Numbers begin with 1.
fn read_list(
    list: &str,
    sections: Vec<Value>,
    entries: &mut HashMap<String, String>,
) -> Result<(), (String, String)> {
    for (number, section) in (1..).zip(sections) {
        let key = format!("{list}.{number}");
        match section {
            Value::Table(fields) if fields.is_empty() => return Err((key, "is empty".to_owned())),
            Value::Table(fields) => read_section(&key, fields, entries)?,
            _ => return Err((key, "is no section: write [[NAME]]".to_owned())),
        }
    }
    Ok(())
}

/// Adds the fields of a section, as `section.field`. A list becomes lines.
fn read_section(
    section: &str,
    fields: Table,
    entries: &mut HashMap<String, String>,
) -> Result<(), (String, String)> {
    for (field, value) in fields {
        let key = format!("{section}.{field}");
        let text = match value {
            Value::Array(items) => {
                let texts = items.into_iter().map(|item| match item {
                    Value::String(text) => Some(text),
                    _ => None,
                });
                let texts: Option<Vec<String>> = texts.collect();
                texts
                    .map(|texts| texts.join("\n"))
                    .ok_or_else(|| "is a list of something else than texts".to_owned())
            }
            value => plain(value),
        };
        match text {
            Ok(text) => drop(entries.insert(key, text)),
            Err(problem) => return Err((key, problem)),
        }
    }
    Ok(())
}

impl Source for TomlFile {
    fn get(&self, key: &str) -> Option<String> {
        self.entries.get(key).cloned()
    }

    fn keys(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    fn origin(&self, key: &str) -> Option<Origin> {
        self.entries.get(key)?;
        let app = key.strip_prefix(APPS).and_then(|it| it.strip_prefix('.'));
        let app = app.and_then(|it| it.split_once('.')).map(|(app, _)| app);
        Some(match app {
            Some(app) if self.is_directory => {
                Origin::AppFile(self.path.join(format!("{app}.toml")))
            }
            Some(_) | None => Origin::File(self.path.clone()),
        })
    }
}

impl fmt::Debug for TomlFile {
    /// Without the values, since some are secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TomlFile")
            .field("keys", &self.entries.keys())
            .finish_non_exhaustive()
    }
}

/// The value as an environment variable would contain it.
fn setting(key: &str, value: Value) -> Result<String, String> {
    let spelled_as_a_variable = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if key.chars().all(spelled_as_a_variable) {
        return plain(value);
    }
    let meant = match &value {
        Value::Table(_) => nearest(key, [APPS]).map(|_| "[apps.NAME]".to_owned()),
        Value::Array(_) => nearest(key, LISTS).map(|list| format!("[[{list}]]")),
        _ => None,
    };
    Err(match (meant, value) {
        (Some(meant), _) => format!("is no section: did you mean {meant}?"),
        (None, section @ Value::Table(_)) => plain(section).err().unwrap_or_default(),
        (None, _) => {
            "is no setting: settings are spelled as the variables are, EVERGREEN_LISTEN for one"
                .to_owned()
        }
    })
}

fn plain(value: Value) -> Result<String, String> {
    let problem = match value {
        Value::String(text) => return Ok(text),
        Value::Integer(number) => return Ok(number.to_string()),
        Value::Float(number) => return Ok(number.to_string()),
        Value::Boolean(flag) => return Ok(flag.to_string()),
        Value::Array(_) => "is a list: write it as one string, separated by commas",
        Value::Datetime(_) => "is a date, and no setting is one: put it in quotes",
        Value::Table(_) => "is a section: settings stand at the top level, and apps in [apps.NAME]",
    };
    Err(problem.to_owned())
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text
        .bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TomlFile, String> {
        TomlFile::parse(Path::new("evergreen.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn toml_values_become_environment_strings() {
        let file = parse("A = \"5m\"\nB = 7\nC = true\nD = 0.5\n").unwrap();
        let values = ["A", "B", "C", "D"].map(|key| file.get(key).unwrap());
        assert_eq!(values, ["5m", "7", "true", "0.5"]);
        assert_eq!(file.get("E"), None);
    }

    #[test]
    fn section_of_an_app_becomes_settings_with_a_prefix() {
        let text = "A = 1\n[apps.staging]\nclient_id = \"x-1\"\nclient_secrets = [\"a\", \"b\"]\n";
        let file = parse(text).unwrap();
        let get = |key: &str| file.get(key).unwrap();
        assert_eq!(get("A"), "1");
        assert_eq!(get("apps.staging.client_id"), "x-1");
        assert_eq!(get("apps.staging.client_secrets"), "a\nb");
        let error = parse("[apps]\nstaging = 1").unwrap_err();
        assert!(error.contains("apps.staging is no section"), "{error}");
        let error = parse("[apps.staging]\nscopes = [1]").unwrap_err();
        assert!(error.contains("apps.staging.scopes"), "{error}");
    }

    #[test]
    fn sections_of_a_list_become_settings_with_a_number() {
        let text =
            "A = 1\n[[events]]\nurl = \"u\"\nsecrets = [\"a\", \"b\"]\n[[events]]\nurl = \"v\"\n";
        let file = parse(text).unwrap();
        let get = |key: &str| file.get(key).unwrap();
        assert_eq!(get("A"), "1");
        assert_eq!(get("events.1.url"), "u");
        assert_eq!(get("events.1.secrets"), "a\nb");
        assert_eq!(get("events.2.url"), "v");
        for (text, expected) in [
            ("[events]\nurl = \"u\"", "events is one section: write [["),
            ("events = 1", "events is no list of sections"),
            ("events = [1]", "[[events]] number 1 is no section"),
            ("[[webhooks]]\n", "[[webhooks]] number 1 is empty"),
            (
                "[[events]]\ntypes = [1]",
                "[[events]] number 1: types is a list",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn each_file_of_a_directory_is_an_app() {
        let name = format!("evergreen-{}-apps", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("staging.toml"), "client_id = \"x-1\"\n").unwrap();
        fs::write(directory.join(".hidden.toml"), "nonsense").unwrap();
        fs::write(directory.join("notes.txt"), "nonsense").unwrap();
        let apps = TomlFile::read_apps(&directory).unwrap();
        assert_eq!(apps.keys(), ["apps.staging.client_id"]);
        fs::write(directory.join("broken.toml"), "client_secret = hunter2").unwrap();
        let error = TomlFile::read_apps(&directory).unwrap_err().to_string();
        assert!(
            error.contains("broken.toml") && !error.contains("hunter2"),
            "{error}"
        );
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn byte_order_mark_is_skipped() {
        let name = format!("evergreen-{}-marked.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, "\u{feff}A = \"5m\"\n").unwrap();
        let file = TomlFile::read(&path).unwrap();
        assert_eq!(file.get("A").as_deref(), Some("5m"));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn invalid_entries_are_rejected() {
        for (text, expected) in [
            ("evergreen_listen = \"x\"", "spelled as the variables"),
            ("[GHL]\nCLIENT_ID = \"x\"", "is a section"),
            ("GHL_SCOPES = [\"a\"]", "separated by commas"),
            ("A = 2026-01-01", "is a date"),
            ("[app.staging]\nclient_id = \"x\"", "mean [apps.NAME]"),
            ("[[event]]\nurl = \"u\"", "mean [[events]]"),
            ("[gateway]\nA = 1", "is a section"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("evergreen.toml: "), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn syntax_error_names_the_line_and_does_not_quote_it() {
        let error = parse("A = \"fine\"\nGHL_CLIENT_SECRET = hunter2\n").unwrap_err();
        assert!(error.starts_with("evergreen.toml, line 2: "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn missing_file_is_named() {
        let error = TomlFile::read(Path::new("/nowhere/evergreen.toml")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/evergreen.toml"));
    }
}
