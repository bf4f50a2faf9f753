//! `evergreen`: keeps GoHighLevel's OAuth tokens fresh, and forwards calls with them.

mod args;
mod bench;
mod data_dir;
mod exit;
mod guard;
mod keys;
mod operate;
mod process;
mod rings;
mod run;
mod settings;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use exit::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    refuse_huge_pages();
    // A second installation could only be refused, and nobody else installs one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::runtime)
        .and_then(|runtime| runtime.block_on(act(args)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.code()
        }
    }
}

/// Where the kernel gives huge pages to everybody, each thread's first use of a size would make
/// 2 MB resident: an upload of 25 MB grew the process by 10.
fn refuse_huge_pages() {
    #[cfg(target_os = "linux")]
    // A kernel that cannot be told costs memory, and nothing else.
    let _ = nix::sys::prctl::set_thp_disable(true);
}

async fn act(args: Args) -> Result<(), Failure> {
    let source = settings::source(&args)?;
    match args.command {
        Command::Up(_) => run::up(&source).await,
        Command::Broker(_) => run::broker(&source).await,
        Command::Gateway(_) => run::gateway(&source).await,
        Command::Sandbox(_) => run::sandbox(&source).await,
        Command::Installations(what) => operate::installations(&source, what).await,
        Command::Keys(what) => keys::act(&source, what).await,
        Command::Bench(what) => bench::act(&source, what).await,
    }
}
