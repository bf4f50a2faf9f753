//! The documentation of all routes (OpenAPI), and the errors that it promises.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tests::client;
use tests::fleet::{Fleet, FleetConfig};
use tests::program::Start;
use tests::up::Up;

/// Routes between gateways and brokers, which need the access keys of the deployment.
const BETWEEN_PROCESSES: [&str; 3] = [
    "/v1/audit",
    "/v1/installations/{id}/refresh",
    "/v1/locations/{location}/lookup",
];

/// Those of brokers. The document has those of gateways, which are the same.
const HEALTH: [&str; 2] = ["/", "/health"];

/// The pages of the console, which are for people.
const CONSOLE: &str = "/console";

/// The routes to GHL's MCP server, which the description names. GHL and MCP document what they take.
const MCP: [&str; 3] = ["/mcp", "/mcp/", "/mcp/{*path}"];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the repository")
}

fn checked_in() -> String {
    fs::read_to_string(root().join("docs/openapi.json")).expect("the document")
}

fn document() -> Value {
    serde_json::from_str(&checked_in()).expect("JSON")
}

/// The methods, the paths and the operations of the document.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let of_path = |(path, item): (&String, &Value)| {
        let item = item.as_object().expect("a path").clone();
        let path = path.clone();
        item.into_iter()
            .map(move |(method, it)| (method.to_uppercase(), path.clone(), it))
    };
    paths.iter().flat_map(of_path).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn document_is_checked_in_as_it_is_generated() {
    let printed = Start::evergreen(&["openapi"]).run().await;
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(
        printed == checked_in(),
        "docs/openapi.json is out of date: cargo run -p evergreen-cli -- openapi > docs/openapi.json"
    );
    assert_eq!(document()["openapi"], "3.1.0");
}

#[test]
fn each_operation_says_what_it_does_and_who_may() {
    let document = document();
    let tags = document["tags"].as_array().unwrap();
    let tags: BTreeSet<&str> = tags.iter().filter_map(|tag| tag["name"].as_str()).collect();
    let (mut ids, mut used) = (BTreeSet::new(), BTreeSet::new());
    let operations = operations(&document);
    assert!(operations.len() > 40, "{}", operations.len());
    for (method, path, operation) in &operations {
        let at = format!("{method} {path}");
        let summary = operation["summary"].as_str().unwrap_or_default();
        assert!(
            summary.len() > 5 && !summary.ends_with('.'),
            "{at}: {summary}"
        );
        assert!(operation["security"].is_array(), "{at}");
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{id} is there twice");
        let tag = operation["tags"][0].as_str().unwrap();
        assert!(tags.contains(tag), "{at}: {tag}");
        used.insert(tag);
        for (status, response) in operation["responses"].as_object().unwrap() {
            let is_error = status.starts_with(['4', '5']);
            let media_types = response["content"].as_object();
            assert!(!is_error || media_types.is_some(), "{at}: {status}");
            let is_problem =
                media_types.is_some_and(|it| it.contains_key("application/problem+json"));
            assert_eq!(
                is_problem,
                is_error && path.starts_with("/v1/"),
                "{at}: {status}"
            );
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let description = parameter["description"].as_str().unwrap_or_default();
            assert!(description.len() > 5, "{at}: {}", parameter["name"]);
        }
    }
    assert_eq!(used, tags);
}

/// The string literals that follow `before` in the sources of a crate.
fn literals_after(crate_name: &str, before: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut directories = vec![root().join(crate_name).join("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if !path.ends_with("tests.rs") && !path.iter().any(|part| part == "tests") {
                let source = fs::read_to_string(&path).unwrap();
                let source = source.split("#[cfg(test)]").next().unwrap_or_default();
                let after = source.split(before).skip(1).map(str::trim_start);
                let literals = after.filter_map(|text| text.strip_prefix('"')?.split('"').next());
                found.extend(literals.map(str::to_owned));
            }
        }
    }
    found
}

/// Handlers with documentation are registered with `routes!` or `documented!`, which take the path from it.
#[test]
fn only_routes_to_ghl_between_processes_and_of_health_are_registered_without_documentation() {
    let crates = ["broker", "cli", "gateway", "service"];
    let registered = crates.map(|name| literals_after(name, ".route("));
    let registered = registered.into_iter().flatten();
    let registered: BTreeSet<String> = registered
        .filter(|path| !path.starts_with(CONSOLE))
        .collect();
    let expected = BETWEEN_PROCESSES.into_iter().chain(HEALTH).chain(MCP);
    assert_eq!(registered, expected.map(str::to_owned).collect());
}

/// A gateway passes these on to a broker, whose documentation they have.
#[test]
fn routes_that_gateways_pass_on_are_documented() {
    let source = fs::read_to_string(root().join("gateway/src/api/broker_proxy.rs")).unwrap();
    // Every second part is a literal.
    let literals = source.split('"').skip(1).step_by(2);
    let passed_on: BTreeSet<&str> = literals.filter(|it| it.starts_with('/')).collect();
    assert!(passed_on.len() > 10, "{passed_on:?}");
    let document = document();
    for path in passed_on {
        assert!(document["paths"][path].is_object(), "{path}");
    }
}

/// The answer to a request of an operation, whose parameters have their own names as values, so that they name nothing.
async fn answer(up: &Up, method: &str, path: &str, operation: &Value) -> (String, Value) {
    let base = match operation["servers"].is_array() {
        true => &up.public,
        false => &up.internal,
    };
    let url = format!("{base}{}", path.replace(['{', '}'], ""));
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    // With the administrator's key, since an unknown operation may look like any other without one.
    let response = up.client.request(method, url).send().await.unwrap();
    let status = response.status().as_u16().to_string();
    (status, client::body(response).await)
}

/// Whether an answer is that of an operation, and not that for a path or a method that is unknown.
fn is_of_an_operation(path: &str, (status, body): &(String, Value)) -> bool {
    let is_page = path == "/oauth/result/{outcome}";
    let code = body["code"].as_str().unwrap_or_default();
    let is_unknown = code == "method_not_allowed" || (code == "route_not_found" && !is_page);
    status != "405" && !is_unknown
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_operations_exist() {
    let up = Up::start(&[]).await;
    for (method, path, operation) in operations(&document()) {
        let seen = answer(&up, &method, &path, &operation).await;
        let at = format!("{method} {path}: {seen:?}");
        assert!(is_of_an_operation(&path, &seen), "{at}");
        assert!(operation["responses"][&seen.0].is_object(), "{at}");
        // Without a key, a refusal is for another reason, such as a missing signature.
        let is_refused = matches!(seen.0.as_str(), "401" | "403");
        let takes_a_key = operation["security"] != json!([]);
        assert!(!(is_refused && takes_a_key), "{at}");
    }
    // Hardly any path has these methods.
    let documented = operations(&document());
    for (_, path, operation) in &documented {
        for method in ["PUT", "OPTIONS"] {
            if documented
                .iter()
                .any(|(has, at, _)| has == method && at == path)
            {
                continue;
            }
            let seen = answer(&up, method, path, operation).await;
            assert!(
                !is_of_an_operation(path, &seen),
                "{method} {path}: {seen:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_serves_the_document_to_its_own_hosts() {
    let up = Up::start(&[]).await;
    let fleet = Fleet::start(&FleetConfig {
        brokers: 1,
        lock_nodes: 1,
        sandbox: &[],
        settings: &[],
    })
    .await;
    for internal in [
        &up.internal,
        &fleet.brokers[0].internal,
        &fleet.gateways[0].internal,
    ] {
        let url = format!("{internal}/openapi.json");
        let client = client::anonymous();
        let response = client.get(&url).send().await.unwrap();
        assert_eq!(response.status(), 200, "{internal}");
        assert_eq!(response.headers()["content-type"], "application/json");
        assert!(response.text().await.unwrap() == checked_in(), "{internal}");
        for (name, value) in [("host", "evil.example"), ("sec-fetch-site", "cross-site")] {
            let foreign = client.get(&url).header(name, value).send().await.unwrap();
            assert_eq!(foreign.status(), 403, "{internal}: {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_below_v1_are_problems_and_others_have_ghls_shape() {
    let up = Up::start(&[]).await;
    let (public, internal) = (&up.public, &up.internal);
    let id = "install_000000000000000000000000";
    let with_key = |path: &str| up.client.get(format!("{internal}{path}"));
    let without_key = client::anonymous().get(format!("{internal}/v1/keys"));
    let post = up.client.post(format!("{internal}/v1/keys"));
    let connect = client::anonymous().post(format!("{internal}/v1/connect-links"));
    for (request, status, code) in [
        (without_key, 401, "api_key_missing"),
        (with_key("/v1/nothing"), 404, "route_not_found"),
        (
            with_key("/v1/installations/nobody"),
            400,
            "installation_not_found",
        ),
        (with_key("/v1/installations/%FF"), 400, "request_invalid"),
        (
            with_key("/v1/installations?limit=x"),
            400,
            "request_invalid",
        ),
        (
            with_key(&format!("/v1/installations/{id}/token")),
            400,
            "installation_not_found",
        ),
        (post.body("{"), 415, "content_type_unsupported"),
        (connect, 401, "api_key_missing"),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), media_type(&response)),
            (status, "application/problem+json"),
            "{code}"
        );
        let problem = client::body(response).await;
        assert_eq!(problem["type"], format!("urn:evergreen:error:{code}"));
        assert_eq!(problem["status"], status);
        assert_eq!(problem["detail"], problem["message"]);
        assert_eq!(problem["code"], code);
        assert_eq!(problem["statusCode"], status);
        assert!(problem["title"].is_string() && problem["error"].is_string());
    }
    for path in [
        format!("/api/oauth/status?installation_id={id}"),
        format!("/ghl/contacts/?installation_id={id}"),
        "/nothing".to_owned(),
    ] {
        let response = up
            .client
            .get(format!("{public}{path}"))
            .send()
            .await
            .unwrap();
        assert_eq!(media_type(&response), "application/json", "{path}");
        let error = client::body(response).await;
        assert_eq!(error["type"], json!(null), "{path}");
        assert!(error["statusCode"].is_number() && error["message"].is_string());
    }
}

fn media_type(response: &Response) -> &str {
    response.headers()["content-type"].to_str().unwrap()
}
