//! The command line: formats of the output, pipes, exit codes, colours, completions and man pages.

use std::collections::BTreeSet;
use std::fs;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tests::port;
use tests::program::Start;
use tests::redis::Redis;
use tests::rows;
use tests::scratch::Scratch;
use tests::up::Up;

const PATIENCE: Duration = Duration::from_secs(90);
const HOUR: Duration = Duration::from_secs(3600);

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a script in which `$evergreen` is the program, with the settings of a command of `up`.
async fn shell(up: &Up, script: &str) -> Output {
    let command = up.command(&[]);
    let mut start = Start::new("bash").args(&["-c", script]);
    start.env = command.env;
    let start = start.env("evergreen", command.program.display());
    start.run_within(PATIENCE).await
}

async fn run(up: &Up, args: &[&str]) -> Output {
    let output = up.command(args).run_within(PATIENCE).await;
    assert!(output.status.success(), "{args:?}: {output:?}");
    output
}

/// The output of a command with `--output json`.
async fn json(up: &Up, args: &[&str]) -> Value {
    let output = run(up, &[args, &["--output", "json"]].concat()).await;
    let printed = text(&output.stdout);
    serde_json::from_str(&printed).unwrap_or_else(|why| panic!("{args:?}: {why}: {printed}"))
}

/// The lines that a command prints with `--quiet`. It says nothing else.
async fn quiet(up: &Up, args: &[&str]) -> Vec<String> {
    let output = run(up, &[args, &["--quiet"]].concat()).await;
    assert_eq!(text(&output.stderr), "", "{args:?}");
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_that_goes_away_ends_a_command_quietly() {
    let up = Up::start(&[]).await;
    for location in ["locA", "locB"] {
        up.install(location).await;
    }
    for command in [
        "installations list",
        "installations list --output json",
        "keys list",
        "audit",
        "settings",
        // These are longer than the buffer of a pipe.
        "openapi",
        "completions bash",
    ] {
        for reader in ["head -1", "true"] {
            let script = format!("set -o pipefail; \"$evergreen\" {command} | {reader}");
            let output = shell(&up, &script).await;
            assert_eq!(output.status.code(), Some(0), "{script}: {output:?}");
            assert_eq!(text(&output.stderr), "", "{script}");
        }
    }
    let full = shell(&up, "\"$evergreen\" keys list > /dev/full").await;
    assert_eq!(full.status.code(), Some(74), "{full:?}");
    assert!(text(&full.stderr).contains("cannot be written"), "{full:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn import_goes_on_when_nobody_reads_its_lines() {
    let up = Up::start(&[]).await;
    let scratch = Scratch::new();
    let locations = (0..3000).map(|number| format!("loc{number:05}"));
    let file = scratch.join("tokens.json");
    fs::write(
        &file,
        Value::from(rows::minted(locations, HOUR)).to_string(),
    )
    .unwrap();
    let script = format!("set -o pipefail; \"$evergreen\" installations import {file} | head -1");
    let output = shell(&up, &script).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let ids = quiet(&up, &["installations", "list"]).await;
    assert_eq!(ids.len(), 3000, "all pages, and all rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_prints_json() {
    let up = Up::start(&[]).await;
    let (one, two) = (up.install("locA").await, up.install("locB").await);
    let lists: [&[&str]; 10] = [
        &["installations", "list"],
        &["installations", "list", "--sort", "expires"],
        &["installations", "list", "--status", "invalid"],
        &["apps", "list"],
        &["keys", "list"],
        &["audit"],
        &["events", "endpoints"],
        &["events", "list"],
        &["events", "list", "--dead"],
        &["settings"],
    ];
    for list in lists {
        assert!(json(&up, list).await.is_array(), "{list:?}");
    }
    let listed = json(&up, &["installations", "list", "--sort", "name"]).await;
    let ids: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .filter_map(id_of)
        .collect();
    assert_eq!(ids, [&*one, &*two]);
    let first = json(&up, &["installations", "list", "--limit", "1"]).await;
    assert_eq!(first.as_array().unwrap().len(), 1);

    let link = ["installations", "connect-link"];
    let again = ["installations", "reconnect-link", &one];
    for (command, member) in [
        (&["installations", "show", &one][..], "scopes"),
        (&["installations", "refresh", &one], "generation"),
        (&["installations", "tag", &one, "--set", "vip"], "tags"),
        (&link, "url"),
        (&["console"], "url"),
        (&again, "url"),
        (&["installations", "revoke", &two], "installationId"),
        (
            &["installations", "delete", &two, "--yes"],
            "installationId",
        ),
        (&["keys", "create", "--name", "shop"], "key"),
        (&["keys", "rotate", "shop"], "oldEndsAt"),
        (&["seal", "status"], "rings"),
        (&["seal", "rotate"], "phase"),
        (&["log-level"], "filter"),
        (&["log-level", "debug", "--for", "1s"], "filter"),
    ] {
        let printed = json(&up, command).await;
        assert!(printed.get(member).is_some(), "{command:?}: {printed}");
    }
    let address = up.internal.trim_start_matches("http://");
    let healthcheck = up
        .command(&["healthcheck", "--output", "json"])
        .env("EVERGREEN_INTERNAL_LISTEN", address);
    let healthcheck = healthcheck.run().await;
    let printed: Value = serde_json::from_slice(&healthcheck.stdout).unwrap();
    assert_eq!(printed["ready"], true);

    let scratch = Scratch::new();
    let file = scratch.join("export");
    let export = ["installations", "export", "--with-tokens", "--out", &file];
    assert_eq!(json(&up, &export).await["exported"], 1);
    let import = json(&up, &["installations", "import", &file]).await;
    assert_eq!(import[0]["result"], "unchanged", "{import}");
    let rows = rows::minted(["locC".to_owned()].into_iter(), HOUR);
    fs::write(&file, Value::from(rows).to_string()).unwrap();
    let dry = json(&up, &["installations", "import", &file, "--dry-run"]).await;
    assert_eq!(dry[0]["result"], "imported", "{dry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn store_is_checked_as_json() {
    let redis = Redis::start().await;
    let check = Start::evergreen(&["check-store", "--output", "json"]);
    let checked = check.env("EVERGREEN_REDIS_URL", redis.url()).run().await;
    let printed: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let verdict = printed["verdict"].as_str().unwrap();
    // A bad one is printed, too, and its exit code is 1.
    let code = i32::from(verdict == "bad");
    assert_eq!(checked.status.code(), Some(code), "{printed}");
    assert!(
        !printed["tried"].as_array().unwrap().is_empty(),
        "{printed}"
    );
}

fn id_of(installation: &Value) -> Option<&str> {
    installation["installationId"].as_str()
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_commands_print_ids_keys_and_links_alone() {
    let up = Up::start(&[]).await;
    assert!(quiet(&up, &["installations", "list"]).await.is_empty());
    let id = up.install("locA").await;
    assert_eq!(quiet(&up, &["installations", "list"]).await, [&*id]);
    assert_eq!(quiet(&up, &["installations", "show", &id]).await, [&*id]);
    let key = quiet(&up, &["keys", "create", "--name", "shop"]).await;
    assert!(key.len() == 1 && key[0].starts_with("evg_"), "{key:?}");
    let keys = quiet(&up, &["keys", "list", "--live"]).await;
    assert!(keys.iter().all(|id| id.len() == 64), "{keys:?}");
    let link = quiet(&up, &["installations", "connect-link"]).await;
    assert!(link.len() == 1 && link[0].starts_with("http"), "{link:?}");
    let listeners = quiet(&up, &["settings", "evergreen_listen"]).await;
    assert!(listeners.contains(&"EVERGREEN_LISTEN".to_owned()));
    let audit = quiet(&up, &["log-level"]).await;
    assert_eq!(audit, ["info"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_list_says_what_to_do() {
    let up = Up::start(&[]).await;
    let empty = run(&up, &["installations", "list"]).await;
    assert_eq!(text(&empty.stdout).lines().count(), 1, "{empty:?}");
    assert!(text(&empty.stderr).contains("connect-link"), "{empty:?}");
    let filtered = run(&up, &["installations", "list", "--tag", "vip"]).await;
    assert!(text(&filtered.stderr).contains("No installation matches"));
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_are_stable_and_say_who_was_asked() {
    let ended = async |start: Start| {
        let output = start.run().await;
        (
            output.status.code().unwrap_or(-1),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (code, said, _) = ended(Start::evergreen(&[])).await;
    assert!(code == 0 && said.contains("First steps"), "{said}");
    let (code, _, _) = ended(Start::evergreen(&["keys", "list", "--no-such-flag"])).await;
    assert_eq!(code, 2);
    let (code, _, said) = ended(Start::evergreen(&["log-level", "info", "--for", "0s"])).await;
    assert!(code == 2 && said.contains("longer than 0s"), "{said}");

    let scratch = Scratch::new();
    let list = Start::evergreen(&["installations", "list"])
        .env("EVERGREEN_DATA_DIR", scratch.join("none"));
    let (code, _, said) = ended(list.clone().env("EVERGREEN_ADMIN_URL", "here")).await;
    assert_eq!(code, 64, "{said}");
    let nobody = format!("http://127.0.0.1:{}", port::free());
    let (code, _, said) = ended(list.clone().env("EVERGREEN_ADMIN_URL", &nobody)).await;
    assert!(code == 69 && said.contains(&nobody), "{said}");
    assert!(!said.contains("did not start"), "{said}");
    let store = format!("redis://user:secret@127.0.0.1:{}", port::free());
    let keys = Start::evergreen(&["keys", "list"]).env("EVERGREEN_REDIS_URL", &store);
    let (code, _, said) = ended(keys).await;
    let shown = store.replace("user:secret@", "");
    assert!(code == 69 && said.contains(&shown), "{said}");
    assert!(!said.contains("secret"), "{said}");

    let up = Up::start(&[]).await;
    let (code, _, said) = ended(up.command(&["installations", "show", "nobody"])).await;
    assert!(code == 1 && said.contains(&up.internal), "{said}");
    let foreign = list
        .env("EVERGREEN_ADMIN_URL", &up.internal)
        .env("EVERGREEN_ADMIN_KEY", "evg_wrong");
    let (code, _, said) = ended(foreign).await;
    assert!(code == 1 && said.contains(&up.internal), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_and_short_lines_are_for_terminals_alone() {
    let up = Up::start(&[]).await;
    up.install("locA").await;
    let list = |env: &'static str| format!("{env} \"$evergreen\" installations list");
    let printed = async |script: &str| text(&shell(&up, script).await.stdout);
    let escape = '\u{1b}';
    assert!(!printed(&list("")).await.contains(escape));
    assert!(
        !printed(&list("NO_COLOR=1 CLICOLOR_FORCE=1"))
            .await
            .contains(escape)
    );
    assert!(printed(&list("CLICOLOR_FORCE=1")).await.contains(escape));
    // `script` gives the command a terminal.
    let on_terminal = |env: &'static str| {
        let command = list(env).replace('"', "");
        format!("TERM=xterm script -qec 'stty rows 24 cols 90; {command}' /dev/null < /dev/null")
    };
    let coloured = printed(&on_terminal("")).await;
    assert!(coloured.contains(escape), "{coloured:?}");
    let plain = printed(&on_terminal("NO_COLOR=1")).await;
    assert!(!plain.contains(escape), "{plain:?}");
    assert!(plain.contains("locA"), "{plain}");
    let table = plain
        .lines()
        .filter(|line| line.to_lowercase().starts_with("install"));
    let table: Vec<&str> = table.map(|line| line.trim_end_matches('\r')).collect();
    assert_eq!(table.len(), 2, "{plain}");
    for line in table {
        assert!(line.chars().count() <= 90, "{line}");
    }
    let left_out = "Not shown, for lack of space";
    assert!(plain.contains(left_out), "{plain}");
    assert!(printed(&list("")).await.contains("NEXT REFRESH"));
}

/// The commands that the help of a command lists.
async fn commands_of(command: &[String]) -> Vec<String> {
    let args: Vec<&str> = command.iter().map(String::as_str).collect();
    let help = Start::evergreen(&[&args[..], &["--help"]].concat())
        .run()
        .await;
    let help = text(&help.stdout);
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with(' '));
    // Long descriptions go on in lines that are indented further.
    let names = lines.filter_map(|line| line.strip_prefix("  "));
    let names = names.filter(|line| !line.starts_with(' '));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_has_a_man_page_and_shells_read_the_completions() {
    let scratch = Scratch::new();
    let man = scratch.path().to_str().unwrap();
    let written = Start::evergreen(&["man", man]).run().await;
    assert!(written.status.success(), "{written:?}");
    let mut expected = BTreeSet::from(["evergreen.1".to_owned()]);
    for command in commands_of(&[]).await {
        expected.insert(format!("evergreen-{command}.1"));
        for inner in commands_of(std::slice::from_ref(&command)).await {
            expected.insert(format!("evergreen-{command}-{inner}.1"));
        }
    }
    assert!(expected.len() > 30, "{expected:?}");
    let found = fs::read_dir(scratch.path()).unwrap();
    let found: BTreeSet<String> = found
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected);
    for name in &found {
        let page = fs::read_to_string(scratch.path().join(name)).unwrap();
        assert!(
            page.contains(".SH NAME") && page.contains(".SH OPTIONS"),
            "{name}"
        );
    }
    let page = fs::read_to_string(scratch.path().join("evergreen.1")).unwrap();
    assert!(page.contains("Exit codes"), "{page}");
    let nowhere = Start::evergreen(&["man", &scratch.join("none")])
        .run()
        .await;
    assert_eq!(nowhere.status.code(), Some(69), "{nowhere:?}");

    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = Start::evergreen(&["completions", shell]).run().await;
        let script = text(&script.stdout);
        assert!(script.contains("installations"), "{shell}: {script}");
        if shell == "bash" {
            let file = scratch.join("completions");
            fs::write(&file, &script).unwrap();
            let parsed = Start::new("bash").args(&["-n", &file]).run().await;
            assert!(parsed.status.success(), "{parsed:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_is_in_its_document() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/commands.md");
    let page = fs::read_to_string(page).unwrap();
    let commands = commands_of(&[]).await;
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let named = format!("`evergreen {command}`");
        assert!(page.contains(&named), "docs/commands.md lacks {named}");
    }
}
