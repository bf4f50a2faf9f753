//! Generated input. Each run has another seed, which is printed with a failure.

use properties::Target;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use ring::digest;

use crate::corpus;
use crate::mutation::nearly_valid;

/// All targets together take less than 20 s in a debug build.
const CASES: u32 = 1000;

/// Repeats a run. Set it to what a failure printed.
const SEED: &str = "PROPERTIES_SEED";

/// Runs more or fewer cases.
const CASES_VARIABLE: &str = "PROPERTIES_CASES";

pub(crate) fn run(target: &Target) {
    let seed = std::env::var(SEED).unwrap_or_else(|_| store::random::hex::<8>());
    let cases = std::env::var(CASES_VARIABLE).ok();
    let config = Config {
        cases: cases.map_or(CASES, |text| text.parse().expect("a number of cases")),
        // A failure belongs into the corpus, where the fuzzer finds it, too.
        failure_persistence: None,
        source_file: Some(file!()),
        ..Config::default()
    };
    let hash = digest::digest(&digest::SHA256, seed.as_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, hash.as_ref());
    let mut runner = TestRunner::new_with_rng(config, rng);
    let files = corpus::files(target).into_iter().map(|(_, bytes)| bytes);
    let outcome = runner.run(&nearly_valid(files.collect()), |bytes| {
        (target.check)(&bytes);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, bytes)) => panic!(
            "{}: {reason}\n  the smallest input: b\"{}\"\n  again: {SEED}={seed} cargo test -p properties {}\n  \
             keep the input as a file in fuzz/corpus/{}",
            target.name,
            bytes.escape_ascii(),
            target.name,
            target.name,
        ),
        Err(TestError::Abort(reason)) => panic!("{}: {reason}", target.name),
    }
}
