use super::{Class, Plan, Report, Rules, run};

/// Seeds that are tried to see a rule missed. The first few do.
const SEEDS: u64 = 200;

#[test]
fn a_seed_gives_exactly_one_run() {
    for seed in 0..4 {
        let once = || run(&Plan::of(seed), Rules::ALL, true);
        let (first, second) = (once(), once());
        let (one, other) = (events(&first), events(&second));
        let differ = one.iter().zip(&other).find(|(one, other)| one != other);
        assert_eq!(differ, None, "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.violations, second.violations, "seed {seed}");
        let other = run(&Plan::of(seed + 4), Rules::ALL, false);
        assert_ne!(first.hash, other.hash);
    }
}

/// What happened, without what brokers log of it: whether a line is logged also depends on what other
/// threads of this process listen to.
fn events(report: &Report) -> Vec<&String> {
    let is_comment = |line: &&String| line.chars().skip(9).take(5).all(|c| c == ' ');
    report.log.iter().filter(|line| !is_comment(line)).collect()
}

/// The first seed of a class that fails under `rules`, and why.
fn first_failure(rules: Rules, class: Class) -> Option<Report> {
    (0..SEEDS)
        .map(|seed| run(&Plan::of_class(seed, class), rules, false))
        .find(|report| !report.violations.is_empty())
}

fn is_missed(rules: Rules, class: Class) {
    let failure = first_failure(rules, class);
    let failure = failure.unwrap_or_else(|| panic!("nobody misses what is left out of {rules:?}"));
    let plan = Plan::of_class(failure.seed, class);
    let whole = run(&plan, Rules::ALL, false);
    assert_eq!(whole.violations, [""; 0], "not for want of a rule");
}

#[test]
fn removing_the_rule_of_late_answers_fails() {
    let rules = Rules {
        late_answers: false,
        ..Rules::ALL
    };
    is_missed(rules, Class::GhlAlone);
}

#[test]
fn removing_containment_fails() {
    let rules = Rules {
        containment: false,
        ..Rules::ALL
    };
    is_missed(rules, Class::GhlAlone);
}

#[test]
fn removing_kept_answers_fails() {
    let rules = Rules {
        keep_answers: false,
        ..Rules::ALL
    };
    is_missed(rules, Class::Other);
}

#[test]
fn removing_suspects_fails() {
    let rules = Rules {
        suspects: false,
        ..Rules::ALL
    };
    is_missed(rules, Class::GhlAlone);
}

#[test]
fn a_lossy_outage_costs_at_most_8_of_600() {
    for seed in 0..3 {
        let report = run(&Plan::lossy_outage(seed, 600), Rules::ALL, false);
        assert_eq!(report.violations, [""; 0], "seed {seed}");
        assert!(report.lost <= 8, "seed {seed}: {} are lost", report.lost);
    }
}
