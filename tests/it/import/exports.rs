//! Exports: what is in them, and the way into another evergreen.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// A location of [`AGENCY`].
const OF_AGENCY: &str = "sandboxHarborDental1";

#[tokio::test(flavor = "multi_thread")]
async fn export_of_one_evergreen_is_imported_by_another() {
    let sandbox = Sandbox::start(&[]).await;
    let old = Up::start(&[]).await.against(&sandbox).await;
    old.install("loc1").await;
    old.install("loc2").await;
    let agency = client::install_agency(&old.client, &old.public, AGENCY).await;
    tests::wait::until("the list of locations", PATIENCE, || async {
        let seen = shown(&old, OF_AGENCY).await;
        tests::wait::holds(seen["parentId"] == agency.as_str(), seen)
    })
    .await;
    printed(&command(&old, &["revoke", "loc2"]).run().await);
    printed(
        &command(&old, &["tag", OF_AGENCY, "--set", "vip"])
            .run()
            .await,
    );

    let scratch = Scratch::new();
    let out = scratch.join("export");
    let refused = command(&old, &["export", "--out", &out]).run().await;
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("--with-tokens"), "{why}");
    let export = ["export", "--with-tokens", "--out", &out];
    let said = printed(&command(&old, &export).run().await);
    assert!(said.starts_with("2 installations"), "{said}");
    assert!(said.contains("3 are not: locations of agencies"), "{said}");
    assert!(said.contains("1 are not: invalid or revoked"), "{said}");
    let named = "1 locations of agencies have an external id or tags";
    assert!(said.contains(named), "{said}");
    let mode = fs::metadata(&out).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = fs::read_to_string(&out).unwrap();
    let again = command(&old, &export).run().await;
    assert_eq!(again.status.code(), Some(1), "it is not overwritten");
    assert_eq!(fs::read_to_string(&out).unwrap(), before);
    let replaced = [&export[..], &["--overwrite"]].concat();
    printed(&command(&old, &replaced).run().await);
    let left: Vec<_> = fs::read_dir(scratch.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let audit = old
        .command(&["audit", "--action", "installations_exported"])
        .run()
        .await;
    let audit = printed(&audit);
    assert!(
        audit.contains("2 installations with their tokens"),
        "{audit}"
    );

    old.program.kill().await;
    let new = Up::start(&[]).await.against(&sandbox).await;
    let output = command(&new, &["import", &out, "--verify"])
        .run_within(PATIENCE)
        .await;
    assert_eq!(summary(&output), "2 verified, 0 not verified", "{output:?}");
    assert_eq!(call(&new, "loc1").await.0, 200);
    tests::wait::until("a call for a location of the agency", PATIENCE, || async {
        let (status, body) = call(&new, OF_AGENCY).await;
        tests::wait::holds(status == 200, (status, body))
    })
    .await;
    let moved = shown(&new, "loc1").await;
    assert_eq!(moved["app"], "default", "{moved}");
    assert!(
        moved["scopes"]
            .as_array()
            .is_some_and(|scopes| !scopes.is_empty()),
        "{moved}"
    );
    let output = command(&new, &["import", &out]).run().await;
    assert_eq!(summary(&output), "0 imported, 2 unchanged, 0 refused");
    expect_each_spent_once(&sandbox, 2).await;
}
