//! The examples of `docs/clients.md` work. Those that read pages do not send the key to GHL.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::client::send;
use tests::program::Start;
use tests::scratch::Scratch;
use tests::up::Up;

use super::PATIENCE;
use super::sdk::{node_sdk, python_sdk};

/// The examples in this language, in their order.
fn examples(language: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/clients.md");
    let page = fs::read_to_string(page).unwrap();
    let start = format!("```{language}\n");
    let blocks = page.split(&start).skip(1);
    let code = blocks.filter_map(|block| block.split("```").next());
    code.map(str::to_owned).collect()
}

/// Runs each example as a program, which prints how many records the example has collected. `program` makes a program of
/// an example.
async fn run(language: &str, scratch: &Scratch, program: impl Fn(&str) -> (Start, String)) {
    let up = Up::start(&[]).await;
    up.install("locA").await;
    let create = ["keys", "create", "--name", "docs"];
    let key = String::from_utf8(up.command(&create).run().await.stdout).unwrap();
    for number in 0..3 {
        let contact = json!({ "locationId": "locA", "email": format!("{number}@example.com") });
        let request = up.client.post(format!("{}/ghl/contacts/", up.public));
        assert_eq!(send(request.json(&contact)).await.0, 201);
    }
    let examples = examples(language);
    assert_eq!(examples.len(), 3, "{examples:#?}");
    let mut printed = Vec::new();
    for example in &examples {
        let example = example
            .replace("http://127.0.0.1:8080", &up.public)
            .replace("evg_…", key.trim_end())
            .replace("limit=100", "limit=2");
        let (start, code) = program(&example);
        let file = scratch.join("example");
        fs::write(&file, code).unwrap();
        let ran = start.args(&[&file]).run_within(PATIENCE).await;
        assert!(ran.status.success(), "{example}\n{ran:?}");
        printed.push(String::from_utf8(ran.stdout).unwrap().trim().to_owned());
    }
    assert_eq!(printed, ["3", "0", "0"], "records of both pages");
    let ledger = up.sandbox.ledger().await;
    assert_eq!(ledger["calls_with_unknown_token"], Value::from(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn node_examples_of_clients_md_work() {
    let scratch = node_sdk("through.js").await;
    run("js", &scratch, |example| {
        let start = "const locationId = 'locA', all = [];\n(async () => {\n";
        let end = "\nconsole.log(all.length);\n})();";
        (Start::new("node"), format!("{start}{example}{end}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_examples_of_clients_md_work() {
    let (scratch, python) = python_sdk("agency.py").await;
    run("python", &scratch, |example| {
        let start = "import asyncio, httpx\nfrom urllib.parse import urlsplit\n\
                     location_id, all = 'locA', []\nasync def main():\n";
        let body = example.lines().map(|line| format!("    {line}\n"));
        let body: String = body.collect();
        let end = "asyncio.run(main())\nprint(len(all))\n";
        (python.clone(), format!("{start}{body}{end}"))
    })
    .await;
}
