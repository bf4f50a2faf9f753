//! `evergreen settings`: all settings, as `docs/settings.md` has them.

use serde_json::{Value, json};

use crate::args::{ListSettings, SettingsOf};
use crate::exit::Failure;
use crate::output::{Output, Style, paint};

/// Made from `docs/settings.md` by `tools/settings-list`.
const LIST: &str = include_str!("settings_list.txt");

/// The columns of the text, as in the help of commands.
const WIDTH: usize = 96;

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting<'t> {
    section: &'t str,
    name: &'t str,
    default: &'t str,
    read_by: &'t str,
    is_secret: bool,
    meaning: &'t str,
}

/// `evergreen settings …`.
pub(crate) fn show(output: Output, wanted: &ListSettings) -> Result<(), Failure> {
    let found: Vec<Setting<'_>> = all().filter(|it| it.matches(wanted)).collect();
    if found.is_empty() {
        output.note("No setting matches. `evergreen settings` lists all");
        if output.is_table() {
            return Ok(());
        }
    }
    let names: Vec<&str> = found.iter().map(|it| it.name).collect();
    let json: Vec<Value> = found.iter().map(|it| it.to_json()).collect();
    output.report(&Value::from(json), &names.join("\n"), || text(&found))
}

/// The settings below the headings of their sections.
fn text(settings: &[Setting<'_>]) -> String {
    let mut lines = Vec::new();
    let mut section = "";
    for it in settings {
        if it.section != section {
            section = it.section;
            lines.push(format!("\n{}\n", paint(Style::Title, section)));
        }
        let secret = match it.is_secret {
            true => format!(" [secret: also {}_FILE]", it.name),
            false => String::new(),
        };
        lines.push(format!("  {}", paint(Style::Good, it.name)));
        lines.push(indented(it.meaning));
        let facts = format!(
            "[default: {}] [read by: {}]{secret}",
            it.default, it.read_by
        );
        lines.push(paint(Style::Faint, &indented(&facts)));
    }
    lines.join("\n").trim_start_matches('\n').to_owned()
}

/// The text in lines that are not longer than [`WIDTH`].
fn indented(text: &str) -> String {
    let mut lines = vec!["     ".to_owned()];
    for word in text.split(' ') {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last + 1 + word.chars().count() > WIDTH {
            lines.push("     ".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n")
}

/// Where a setting stands in the list, and its section. The file of a secret stands where the secret does, and a field of
/// an app or an endpoint with its kind.
pub(crate) fn place(name: &str) -> (usize, &'static str) {
    let known = match name.split_once('.') {
        Some(("events" | "webhooks", _)) => "EVERGREEN_EVENTS_URL",
        Some(_) => "EVERGREEN_APPS_DIR",
        None => name,
    };
    let secret = known.strip_suffix("_FILE").unwrap_or(known);
    let of = |name: &str| all().position(|it| it.name == name);
    let number = of(known).or_else(|| of(secret)).unwrap_or(usize::MAX);
    let section = all().nth(number).map_or("Others", |it| it.section);
    (number, section)
}

fn all() -> impl Iterator<Item = Setting<'static>> {
    let mut section = "";
    LIST.lines().filter_map(move |line| {
        if let Some(heading) = line.strip_prefix("# ") {
            section = heading;
            return None;
        }
        let mut cells = line.split('\t');
        let mut next = || cells.next().unwrap_or_default();
        Some(Setting {
            section,
            name: next(),
            default: next(),
            read_by: next(),
            is_secret: next() == "S",
            meaning: next(),
        })
    })
}

impl Setting<'_> {
    fn matches(&self, wanted: &ListSettings) -> bool {
        let word = wanted.word.as_deref().unwrap_or_default().to_lowercase();
        let texts = [self.name, self.section, self.meaning];
        let has_word = texts.iter().any(|text| text.to_lowercase().contains(&word));
        has_word
            && wanted
                .command
                .is_none_or(|it| self.is_read_by(command_name(it)))
    }

    fn is_read_by(&self, command: &str) -> bool {
        let serves = command != "cli";
        self.read_by
            .split(", ")
            .any(|it| it == command || it == "all" || (it == "all that serve" && serves))
    }

    fn to_json(self) -> Value {
        json!({
            "name": self.name,
            "section": self.section,
            "default": self.default,
            "readBy": self.read_by,
            "secret": self.is_secret,
            "meaning": self.meaning,
        })
    }
}

/// As `docs/settings.md` names it.
fn command_name(command: SettingsOf) -> &'static str {
    match command {
        SettingsOf::Up => "up",
        SettingsOf::Broker => "broker",
        SettingsOf::Gateway => "gateway",
        SettingsOf::Cli => "cli",
    }
}

/// Whether the command reads the setting.
#[cfg(test)]
pub(crate) fn is_read_by(name: &str, command: &str) -> bool {
    all().any(|it| it.name == name && it.is_read_by(command))
}

/// The default of a setting, as it is documented.
#[cfg(test)]
pub(crate) fn default_of(name: &str) -> Option<&'static str> {
    all().find(|it| it.name == name).map(|it| it.default)
}

/// The text below the help of a command that serves: its examples, the settings that are used most, and where the others
/// are.
pub(crate) fn most_used(command: &str, names: &[&str], examples: &str) -> String {
    let found = names
        .iter()
        .filter_map(|name| all().find(|it| it.name == *name));
    let lines = found.map(|it| {
        let secret = if it.is_secret { ", secret" } else { "" };
        // The first sentence is enough here.
        let meaning = it.meaning.split(". ").next().unwrap_or_default();
        let meaning = indented(&format!("{meaning} [default: {}{secret}]", it.default));
        format!("  {}\n{meaning}\n", it.name)
    });
    format!(
        "{examples}\n\nMost used settings, from the environment or the file of --config:\n{}\n\
         All settings of this command: evergreen settings --for {command}",
        lines.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_setting() {
        let all: Vec<Setting<'_>> = all().collect();
        assert!(all.len() > 90, "{}", all.len());
        for it in all {
            let is_whole = [it.section, it.name, it.default, it.read_by, it.meaning]
                .iter()
                .all(|text| !text.is_empty());
            assert!(is_whole && !it.name.contains(' '), "{it:?}");
        }
    }

    #[test]
    fn known_settings_are_listed() {
        for name in crate::settings::KNOWN {
            assert!(all().any(|it| it.name == *name), "{name}");
        }
    }

    #[test]
    fn settings_are_found_by_a_word_and_by_their_command() {
        let found = |word: &str, command| {
            let word = Some(word.to_owned());
            let wanted = ListSettings { word, command };
            let found = all().filter(|it| it.matches(&wanted));
            found.map(|it| it.name).collect::<Vec<_>>()
        };
        assert_eq!(found("evergreen_drain", None), ["EVERGREEN_DRAIN"]);
        assert!(found("timeouts", None).contains(&"EVERGREEN_QUEUE_TIMEOUT"));
        let of_gateway = found("", Some(SettingsOf::Gateway));
        assert!(of_gateway.contains(&"EVERGREEN_BROKER_URL"));
        assert!(of_gateway.contains(&"EVERGREEN_LOG"), "all that serve");
        assert!(!of_gateway.contains(&"GHL_CLIENT_SECRET"));
        assert!(!found("", Some(SettingsOf::Cli)).contains(&"EVERGREEN_LOG"));
    }

    #[test]
    fn text_has_sections_and_short_lines() {
        let settings: Vec<Setting<'_>> = all().collect();
        let text = anstream::adapter::strip_str(&text(&settings)).to_string();
        assert!(
            text.starts_with("GHL app\n\n  GHL_CLIENT_ID\n      the client id"),
            "{text}"
        );
        assert!(
            text.contains("[secret: also GHL_CLIENT_SECRET_FILE]"),
            "{text}"
        );
        let longest = text.lines().max_by_key(|line| line.chars().count());
        let longest = longest.unwrap_or_default();
        assert!(longest.chars().count() <= WIDTH, "{longest}");
    }

    #[test]
    fn help_has_the_defaults_of_the_settings_and_names_no_other() {
        let text = most_used(
            "up",
            &["GHL_LOGIN_WINDOW", "GHL_ACCESS_TOKEN", "NO_SUCH"],
            "",
        );
        assert!(text.contains("[default: new]"), "{text}");
        assert!(text.contains("[default: none, secret]"), "{text}");
        assert!(!text.contains("NO_SUCH"), "{text}");
    }
}
