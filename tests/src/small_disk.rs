//! A small file system in a mount namespace, for programs that must run out of disk space.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use crate::program::{Program, Start};
use crate::scratch::Scratch;

#[derive(Debug)]
pub struct SmallDisk {
    scratch: Scratch,
    /// Keeps the namespace alive while programs start and end.
    holder: Program,
}

impl SmallDisk {
    /// # Panics
    /// If it cannot be mounted.
    pub async fn start(megabytes: u32) -> Self {
        let scratch = Scratch::new();
        let mount = format!(
            "mount -t tmpfs -o size={megabytes}m tmpfs '{}' && echo mounted && exec sleep 600",
            scratch.path().display()
        );
        let holder = Start::new("unshare")
            .args(&["-Urm", "sh", "-c", &mount])
            .spawn();
        holder
            .wait_for_line(&["mounted"], Duration::from_secs(20))
            .await;
        Self { scratch, holder }
    }

    /// The path of a file, as programs on the disk see it.
    #[must_use]
    pub fn join(&self, name: &str) -> String {
        self.scratch.join(name)
    }

    /// The program, started in the mount namespace.
    #[must_use]
    pub fn run(&self, start: Start) -> Start {
        let holder = self.holder.id().to_string();
        let enter = ["nsenter", "-t", &holder, "-U", "-m"];
        start.under(&[&enter[..], &["--preserve-credentials", "--"]].concat())
    }

    /// The path of a file, as this process sees it.
    ///
    /// # Panics
    /// Never: temporary directories have absolute paths.
    #[must_use]
    pub fn outside(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        let path = self.scratch.path().strip_prefix("/");
        root.join(path.expect("an absolute path")).join(name)
    }

    /// Fills the disk completely. Can be called repeatedly.
    ///
    /// # Panics
    /// If no file can be created.
    pub fn fill(&self) {
        let path = self.outside("fill");
        let file = OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.expect("a file");
        while file.write_all(&[b'x'; 4096]).is_ok() {}
    }

    /// Frees the space again.
    ///
    /// # Panics
    /// If it was not filled.
    pub fn empty(&self) {
        fs::remove_file(self.outside("fill")).expect("what filled it");
    }
}
