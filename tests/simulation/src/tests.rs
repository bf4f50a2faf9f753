use super::{Class, Plan, Report, Rules, run};

/// How many seeds are tried to find a run that fails without a rule. The first few suffice.
const SEEDS: u64 = 200;

#[test]
fn seed_determines_the_run() {
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

/// The events of a run, without the log lines of brokers. Other threads of this process influence which
/// lines are logged.
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

fn fails_only_without_the_rule(rules: Rules, class: Class) {
    let failure = first_failure(rules, class);
    let failure = failure.unwrap_or_else(|| panic!("no run fails under {rules:?}"));
    let plan = Plan::of_class(failure.seed, class);
    let whole = run(&plan, Rules::ALL, false);
    assert_eq!(
        whole.violations, [""; 0],
        "the run also fails with all rules"
    );
}

#[test]
fn simulation_fails_without_late_responses() {
    let rules = Rules {
        late_answers: false,
        ..Rules::ALL
    };
    fails_only_without_the_rule(rules, Class::GhlAlone);
}

#[test]
fn simulation_fails_without_containment() {
    let rules = Rules {
        containment: false,
        ..Rules::ALL
    };
    fails_only_without_the_rule(rules, Class::GhlAlone);
}

#[test]
fn simulation_fails_without_kept_responses() {
    let rules = Rules {
        keep_answers: false,
        ..Rules::ALL
    };
    fails_only_without_the_rule(rules, Class::Other);
}

#[test]
fn simulation_fails_without_suspects() {
    let rules = Rules {
        suspects: false,
        ..Rules::ALL
    };
    fails_only_without_the_rule(rules, Class::GhlAlone);
}

#[test]
fn lossy_outage_loses_at_most_8_of_600_installations() {
    for seed in 0..3 {
        let report = run(&Plan::lossy_outage(seed, 600), Rules::ALL, false);
        assert_eq!(report.violations, [""; 0], "seed {seed}");
        assert!(report.lost <= 8, "seed {seed}: {} are lost", report.lost);
    }
}
