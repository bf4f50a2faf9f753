use clap::{ArgAction, CommandFactory};

use super::*;

/// A command, its full name, and those below it.
fn all() -> Vec<(String, clap::Command)> {
    fn add(parent: &str, command: &clap::Command, found: &mut Vec<(String, clap::Command)>) {
        let name = format!("{parent} {}", command.get_name());
        let name = name.trim_start().to_owned();
        for inner in command.get_subcommands() {
            add(&name, inner, found);
        }
        found.push((name, command.clone()));
    }
    let mut root = Args::command().disable_help_subcommand(true);
    root.build();
    let mut found = Vec::new();
    add("", &root, &mut found);
    found
}

fn help_of(command: &clap::Command) -> String {
    let text = command.get_after_help().or(command.get_after_long_help());
    text.map(ToString::to_string).unwrap_or_default()
}

/// The command lines in the help of a command, without the parts that are for a shell.
fn examples_of(command: &clap::Command) -> Vec<Vec<String>> {
    let help = help_of(command);
    let lines = help.lines().skip_while(|line| *line != "Examples:");
    let lines = lines.skip(1).take_while(|line| line.starts_with("  "));
    lines
        .map(|line| {
            let start = line.find("evergreen ").expect("an example calls evergreen");
            let line = &line[start..];
            let ends = [" | ", " > ", " < ", ")", "  #"];
            let end = ends.iter().filter_map(|end| line.find(end)).min();
            shlex::split(&line[..end.unwrap_or(line.len())]).expect("quotes that end")
        })
        .collect()
}

#[test]
fn definition_of_the_command_line_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn every_command_has_examples_that_work() {
    let mut count = 0;
    for (name, command) in all() {
        let has_inner = command.get_subcommands().next().is_some();
        let examples = examples_of(&command);
        assert_eq!(
            examples.is_empty(),
            has_inner || command.is_hide_set(),
            "examples of `{name}`: {examples:?}"
        );
        for example in examples {
            let parsed = Args::command().try_get_matches_from(&example);
            assert!(parsed.is_ok(), "{example:?}: {}", parsed.unwrap_err());
            assert!(
                example.join(" ").starts_with(&name),
                "{example:?} is below `{name}`"
            );
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

#[test]
fn every_command_and_flag_is_described() {
    for (name, command) in all() {
        assert!(command.get_about().is_some(), "{name}");
        for argument in command.get_opts() {
            let long = argument.get_long().unwrap_or_default();
            assert!(argument.get_help().is_some(), "{name} --{long}");
        }
    }
}

#[test]
fn value_of_a_setting_is_never_in_the_help() {
    for (name, command) in all() {
        for argument in command.get_arguments() {
            let is_shown = argument.get_env().is_some() && !argument.is_hide_env_values_set();
            assert!(!is_shown, "{name} {}", argument.get_id());
        }
    }
}

#[test]
fn serving_commands_take_the_flags_that_they_use() {
    let flags = |wanted: &str| {
        let all = all();
        let (_, command) = all.iter().find(|(name, _)| name == wanted).unwrap();
        let flags = command.get_opts().filter(|it| !it.is_global_set());
        let flags = flags.filter(|it| matches!(it.get_action(), ArgAction::Set));
        flags
            .filter_map(|it| it.get_long().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let both = ["listen", "internal-listen", "data-dir"];
    assert_eq!(flags("evergreen up"), both);
    assert_eq!(flags("evergreen broker"), both);
    assert_eq!(flags("evergreen gateway"), both[..2]);
}

#[test]
fn help_of_serving_commands_has_settings_that_they_read() {
    for (name, command) in all() {
        let serving = ["evergreen up", "evergreen broker", "evergreen gateway"];
        if !serving.contains(&name.as_str()) {
            continue;
        }
        let help = help_of(&command);
        let (_, settings) = help.split_once("Most used settings").expect("settings");
        let names = settings.lines().filter_map(|line| line.strip_prefix("  "));
        let names = names.filter(|line| !line.starts_with(' '));
        let names: Vec<&str> = names.collect();
        assert!(names.len() >= 5, "{name}: {names:?}");
        for setting in names {
            let command = name.trim_start_matches("evergreen ");
            assert!(
                crate::settings_list::is_read_by(setting, command),
                "{command} does not read {setting}"
            );
        }
    }
}

/// The words of `[name: value]` in a help.
fn bracketed(help: &str, name: &str) -> Option<String> {
    let (_, rest) = help.split_once(&format!("[{name}: "))?;
    Some(rest.split(']').next()?.to_owned())
}

#[test]
fn flags_have_the_defaults_of_their_settings() {
    let mut count = 0;
    for (name, command) in all() {
        for argument in command.get_opts() {
            let help = argument.get_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let Some(setting) = bracketed(&help, "setting") else {
                continue;
            };
            let documented = crate::settings_list::default_of(&setting);
            let documented = documented.unwrap_or_else(|| panic!("{name}: {setting}"));
            if let Some(default) = bracketed(&help, "default") {
                assert!(
                    documented.contains(&default),
                    "{name}: {setting}: {documented}"
                );
                count += 1;
            }
        }
    }
    assert!(count >= 9, "{count}");
}

#[test]
fn duration_of_nothing_is_refused() {
    let parse = |lasts: &str| {
        Args::try_parse_from(["evergreen", "log-level", "debug", "--for", lasts]).is_ok()
    };
    assert!(parse("10m"));
    assert!(!parse("0s"));
    assert!(!parse("soon"));
}

#[test]
fn flags_about_the_output_stand_anywhere() {
    for line in [
        &["evergreen", "--output", "json", "keys", "list"][..],
        &["evergreen", "keys", "--output", "json", "list"],
        &["evergreen", "keys", "list", "--output", "json", "-q"],
    ] {
        assert!(Args::try_parse_from(line).is_ok(), "{line:?}");
    }
    assert!(
        Args::try_parse_from(["evergreen"])
            .unwrap()
            .command
            .is_none()
    );
    assert!(Args::try_parse_from(["evergreen", "keys", "list", "--output", "xml"]).is_err());
}
