//! The data directory of `up`: missing files are not silently created again.

use std::fs;
use std::time::Duration;

use tests::port;
use tests::program::Start;
use tests::scratch::Scratch;
use tests::small_disk::SmallDisk;

const PATIENCE: Duration = Duration::from_secs(90);

fn up(directory: &str) -> Start {
    let at = |port| format!("127.0.0.1:{port}");
    Start::evergreen(&["up"])
        .args(&["--listen", &at(port::free())])
        .args(&["--internal-listen", &at(port::free())])
        .args(&["--data-dir", directory])
        .env("EVERGREEN_SANDBOX_LISTEN", at(port::free()))
}

/// Runs it, expecting that it does not start. Returns its exit code and its message.
async fn failed_start(start: &Start) -> (Option<i32>, String) {
    let output = start.run().await;
    let message = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), message)
}

#[tokio::test(flavor = "multi_thread")]
async fn up_refuses_to_start_without_its_keys_or_store() {
    let scratch = Scratch::new();
    let directory = scratch.join("data");
    let first = up(&directory);
    let program = first.spawn();
    program.wait_for_line(&["evergreen is up"], PATIENCE).await;
    let (code, log) = program.terminate(PATIENCE).await;
    assert_eq!(code, Some(0), "{log:#?}");
    for lost in ["access.keys", "refresh.keys", "store.redb"] {
        let (there, away) = (scratch.join(&format!("data/{lost}")), scratch.join("away"));
        fs::rename(&there, &away).unwrap();
        let (code, message) = failed_start(&up(&directory)).await;
        assert_eq!(code, Some(69), "{message}");
        let expected = format!("{lost} is missing in {directory}");
        assert!(message.contains(&expected), "{message}");
        assert!(!fs::exists(&there).unwrap(), "{lost} was created again");
        fs::rename(&away, &there).unwrap();
    }
    let program = up(&directory).spawn();
    program.wait_for_line(&["evergreen is up"], PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_directory_without_marker_is_accepted_and_marked() {
    let scratch = Scratch::new();
    let directory = scratch.join("data");
    for _ in 0..2 {
        let program = up(&directory).spawn();
        program.wait_for_line(&["evergreen is up"], PATIENCE).await;
        program.terminate(PATIENCE).await;
        // Older versions did not create the marker.
        fs::remove_file(scratch.join("data/store.made")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_store_file_is_refused() {
    let scratch = Scratch::new();
    let directory = scratch.join("data");
    let program = up(&directory).spawn();
    program.wait_for_line(&["evergreen is up"], PATIENCE).await;
    program.terminate(PATIENCE).await;
    fs::write(scratch.join("data/store.redb"), "").unwrap();
    let (code, message) = failed_start(&up(&directory)).await;
    assert_eq!(code, Some(69), "{message}");
    assert!(message.contains("it was truncated"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tmpfs_data_directory_is_refused_unless_allowed() {
    let disk = SmallDisk::start(8).await;
    let start = || disk.run(up(&disk.join("data")));
    let (code, message) = failed_start(&start().env("EVERGREEN_ALLOW_TMPFS", false)).await;
    assert_eq!(code, Some(64), "{message}");
    assert!(message.contains("EVERGREEN_DATA_DIR is"), "{message}");
    assert!(message.contains("on a tmpfs"), "{message}");
    let program = start().env("EVERGREEN_ALLOW_TMPFS", true).spawn();
    program.wait_for_line(&["evergreen is up"], PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_directory_that_is_open_to_others_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let directory = scratch.join("data");
    let program = up(&directory).spawn();
    program.wait_for_line(&["evergreen is up"], PATIENCE).await;
    program.terminate(PATIENCE).await;
    let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path().display().to_string();
        assert_eq!(mode(&path), 0o600, "{path}");
    }
    let key = format!("{directory}/access.keys");
    for (path, wide, right) in [(&directory, 0o750, "700"), (&key, 0o640, "600")] {
        let before = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, fs::Permissions::from_mode(wide)).unwrap();
        let (code, message) = failed_start(&up(&directory)).await;
        assert_eq!(code, Some(69), "{message}");
        assert!(
            message.contains(&format!("chmod {right} {path}")),
            "{message}"
        );
        fs::set_permissions(path, before).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_administrator_key_is_refused() {
    use std::os::unix::fs::OpenOptionsExt;
    let scratch = Scratch::new();
    let directory = scratch.join("data");
    let path = format!("{directory}/admin.key");
    let program = up(&directory).spawn();
    program.wait_for_line(&["evergreen is up"], PATIENCE).await;
    program.terminate(PATIENCE).await;
    fs::remove_file(&path).unwrap();
    // Everybody has an empty key.
    let mut options = fs::OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .unwrap();
    let (code, message) = failed_start(&up(&directory)).await;
    assert_eq!(code, Some(69), "{message}");
    assert!(
        message.contains(&path) && message.contains("remove the file"),
        "{message}"
    );
}
