//! `evergreen`: keeps GoHighLevel's OAuth tokens fresh, and forwards calls with them.

mod args;
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

async fn act(args: Args) -> Result<(), Failure> {
    let source = settings::source(&args)?;
    match args.command {
        Command::Up(_) => run::up(&source).await,
        Command::Broker(_) => run::broker(&source).await,
        Command::Gateway(_) => run::gateway(&source).await,
        Command::Sandbox(_) => run::sandbox(&source).await,
        Command::Installations(what) => operate::installations(&source, what).await,
        Command::Keys(what) => keys::act(&source, what).await,
    }
}
