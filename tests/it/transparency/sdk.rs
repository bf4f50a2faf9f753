//! GHL's official SDKs for Node.js and Python, with another base URL and key. With an agency's key, calls that name no
//! location name it in a header.

use serde_json::{Value, json};
use tests::client;
use tests::packages;
use tests::program::Start;
use tests::scratch::Scratch;
use tests::up::Up;

use super::{AGENCY, PATIENCE, until_listed};

/// A location of [`AGENCY`].
const LOCATION: &str = "sandboxHarborDental1";

/// evergreen's own scopes, and `companies.readonly` for `GET /companies/{id}`.
const SCOPES: &str = "products.readonly products.write contacts.readonly contacts.write medias.write \
                      locations.readonly companies.readonly oauth.readonly oauth.write";

/// A directory with the SDK for Node.js and a script. Needs `node` and `npm`, and fails without them.
pub(super) async fn node_sdk(script: &str) -> Scratch {
    node_packages(&["package.json", "package-lock.json", script]).await
}

/// A directory with these files of `tests/sdk`, and the packages that `package-lock.json` names.
async fn node_packages(files: &[&str]) -> Scratch {
    let scratch = packages::copies("tests/sdk", files);
    packages::install_node_packages(&scratch).await;
    scratch
}

/// A directory with a script, and a Python that has the SDK. Needs `python3` with `venv`, and fails without them.
pub(super) async fn python_sdk(script: &str) -> (Scratch, Start) {
    let scratch = packages::copies("tests/sdk", &["requirements.txt", script]);
    let python = packages::install_python_packages(&scratch, "requirements.txt").await;
    (scratch, python)
}

#[tokio::test(flavor = "multi_thread")]
async fn official_node_sdk_works_through_gateway() {
    let scratch = node_sdk("through.js").await;
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    up.install("locB").await;
    let create = ["keys", "create", "--name", "sdk", "--installation", &id];
    let key = String::from_utf8(up.command(&create).run().await.stdout).unwrap();
    // The SDK does not notice that the first token had expired.
    up.sandbox.steer("expire", "locA").await;
    let sdk = Start::new("node").args(&[
        scratch.join("through.js").as_str(),
        &format!("{}/ghl", up.public),
        key.trim_end(),
        "locA",
    ]);
    let ran = sdk.run_within(PATIENCE).await;
    assert!(ran.status.success(), "{ran:?}");
    let seen: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(seen["product"], "from the SDK");
    assert_eq!(seen["contact"], "sdk@example.com");
    assert_eq!(seen["location"], "locA");
    assert!(seen["media"].is_string(), "{seen}");
    let missing = json!({
        "isGhls": true,
        "code": "NOT_FOUND",
        "statusCode": 404,
        "message": "Product not found",
    });
    assert_eq!(
        seen["missing"], missing,
        "GHL's error, as its SDK reports it"
    );
    assert_eq!(seen["invalid"]["statusCode"], 422);
    let refused = &seen["elsewhere"];
    assert_eq!(
        (&refused["isGhls"], &refused["statusCode"]),
        (&json!(true), &json!(403))
    );
    assert_eq!(
        refused["message"],
        "The API key is not for this installation"
    );
    assert_eq!(up.sandbox.count("calls_with_expired_token").await, 1);
}

/// Runs a program of `tests/sdk` with a key for an agency and one of its locations. Returns the program's results.
async fn results_for_an_agency(program: Start) -> Value {
    let up = Up::start(&[("GHL_SCOPES", SCOPES)]).await;
    let agency = client::install_agency(&up.client, &up.public, AGENCY).await;
    until_listed(&up, &agency).await;
    let create = ["keys", "create", "--name", "sdk", "--installation", &agency];
    let key = String::from_utf8(up.command(&create).run().await.stdout).unwrap();
    let base = format!("{}/ghl", up.public);
    let program = program.args(&[base.as_str(), key.trim_end(), AGENCY, LOCATION]);
    let ran = program.run_within(PATIENCE).await;
    assert!(ran.status.success(), "{ran:?}");
    let minted = up.sandbox.count("location_tokens_minted").await;
    assert_eq!(minted, 1, "all calls of the location use the same token");
    assert_eq!(up.sandbox.count("calls_with_unknown_token").await, 0);
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// The results of the operations that both SDKs have.
fn expected_results() -> Value {
    json!({
        "createContact": "sdk@example.com",
        "upsertContact": [false, true],
        "searchContacts": ["Nora"],
        "createProduct": "from the SDK",
        "updateProduct": "renamed",
        "getProduct": "renamed",
        "listProducts": ["renamed"],
        "getLocation": LOCATION,
        "searchLocations": 3,
        "getCompany": AGENCY,
        "getContact": ["Nora", "North"],
        "deleteContact": true,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn official_node_sdk_calls_a_location_of_an_agency() {
    let scratch = node_sdk("agency.js").await;
    let program = Start::new("node").args(&[scratch.join("agency.js")]);
    let seen = results_for_an_agency(program).await;
    let mut expected = expected_results();
    expected["uploadMedia"] = json!("string");
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn official_python_sdk_calls_a_location_of_an_agency() {
    let (scratch, python) = python_sdk("agency.py").await;
    let program = python.args(&[scratch.join("agency.py")]);
    assert_eq!(results_for_an_agency(program).await, expected_results());
}

#[tokio::test(flavor = "multi_thread")]
async fn official_mcp_sdk_works_through_gateway() {
    let scratch =
        node_packages(&["mcp/package.json", "mcp/package-lock.json", "mcp/client.js"]).await;
    let up = Up::start(&[]).await;
    up.install("locA").await;
    up.install("locB").await;
    for (location, email) in [("locA", "nora@a.example"), ("locB", "nora@b.example")] {
        let contact = json!({"locationId": location, "email": email});
        let create = up.client.post(format!("{}/ghl/contacts/", up.public));
        let (status, made) = client::send(create.json(&contact)).await;
        assert_eq!(status, 201, "{made}");
    }
    let create = ["keys", "create", "--name", "mcp"];
    let key = String::from_utf8(up.command(&create).run().await.stdout).unwrap();
    let program = Start::new("node").args(&[
        scratch.join("client.js").as_str(),
        &format!("{}/mcp", up.public),
        key.trim_end(),
        "locA",
    ]);
    let ran = program.run_within(PATIENCE).await;
    assert!(ran.status.success(), "{ran:?}");
    let seen: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let expected = json!({
        "server": "sandbox",
        "tools": ["contacts_get-contacts", "locations_get-location"],
        "contacts": [["nora@a.example"], [], ["nora@a.example"]],
        "notification": "contacts_get-contacts",
        "hadSession": true,
    });
    assert_eq!(seen, expected);
}
