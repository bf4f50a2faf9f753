//! Faults on order: what GHL does on a bad day.
//!
//! Rules are tried in their order; the first that applies to a call strikes it. The JSON of a
//! rule is described at [`Rule`].

mod effect;
mod oddity;
mod rule;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

pub(crate) use effect::around;
use oddity::Oddity;
pub(crate) use rule::{Endpoint, GrantType, Rule};

/// What is known of a call before it is processed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) on: Endpoint,
    /// The location or company whose token or code it presents.
    pub(crate) subject: Option<&'a str>,
    pub(crate) grant: Option<GrantType>,
}

/// What happens to a call.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is not processed and gets this answer.
    Answer(Canned),
    /// It is processed and its answer changed.
    Alter(Alteration),
    /// It waits before it is processed. A caller who has left by then is not processed.
    Hang(Duration),
    /// The connection closes before it is processed.
    ResetBefore,
    /// The connection closes after it was processed.
    ProcessThenLose,
    /// It is processed, and the answer's body takes this long.
    SlowBody(Duration),
}

impl Fault {
    pub(crate) fn is_processed(&self) -> bool {
        match self {
            Self::Answer(_) | Self::ResetBefore => false,
            Self::Alter(_) | Self::Hang(_) | Self::ProcessThenLose | Self::SlowBody(_) => true,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Canned {
    status: StatusCode,
    content_type: &'static str,
    retry_after_s: Option<u64>,
    body: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Alteration {
    /// The body ends in the middle.
    Truncate,
    /// Of a token answer only the two tokens are left.
    OnlyTokens,
    /// A token answer names no refresh token, and the presented one stays good.
    WithoutRefreshToken,
    /// A token answer in a form that GHL does not document.
    Odd {
        oddity: Oddity,
        value: Option<Value>,
    },
}

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Armed>);

/// A rule as it is shown, with what became of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Armed {
    #[serde(flatten)]
    rule: Rule,
    /// How many calls it has struck.
    fired: u64,
    #[serde(skip)]
    fault: Fault,
    #[serde(skip)]
    random: u64,
}

impl Faults {
    /// The rules, checked. Each mistake is a message that names the rule by its position.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Vec<String>> {
        let rules: Vec<Rule> = serde_json::from_slice(json)
            .map_err(|mistake| vec![format!("not a list of rules: {mistake}")])?;
        let mut armed = Vec::new();
        let mut mistakes = Vec::new();
        for (position, rule) in rules.into_iter().enumerate() {
            match rule.fault() {
                Ok(fault) => armed.push(Armed {
                    fault,
                    fired: 0,
                    random: rule.seed(),
                    rule,
                }),
                Err(mistake) => mistakes.push(format!("rule {position}: {mistake}")),
            }
        }
        if mistakes.is_empty() {
            Ok(Self(armed))
        } else {
            Err(mistakes)
        }
    }

    /// The fault that strikes this call, if one does.
    pub(crate) fn strike(&mut self, call: Call<'_>) -> Option<Fault> {
        let armed = self.0.iter_mut().find_map(|armed| armed.strikes(call))?;
        armed.fired += 1;
        Some(armed.fault.clone())
    }

    pub(crate) fn shown(&self) -> Vec<Armed> {
        self.0.clone()
    }
}

impl Armed {
    fn strikes(&mut self, call: Call<'_>) -> Option<&mut Self> {
        let strikes = self.rule.applies_to(call)
            && match (self.rule.next, self.rule.share) {
                (Some(next), _) => self.fired < next,
                (None, Some(share)) => self.draw() < share,
                (None, None) => false,
            };
        strikes.then_some(self)
    }

    /// A number from 0 up to 1, the same ones in every run: SplitMix64.
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // A double holds 53 bits exactly.
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(json: &str) -> Faults {
        Faults::parse(json.as_bytes()).unwrap()
    }

    fn call(subject: &str) -> Call<'_> {
        Call {
            on: Endpoint::Token,
            subject: Some(subject),
            grant: Some(GrantType::RefreshToken),
        }
    }

    #[test]
    fn next_strikes_so_often() {
        let mut faults = faults(r#"[{"on":"token","kind":"status","status":500,"next":2}]"#);
        assert!(faults.strike(call("a")).is_some());
        assert!(faults.strike(call("b")).is_some());
        assert!(faults.strike(call("c")).is_none());
        assert_eq!(faults.shown()[0].fired, 2);
    }

    #[test]
    fn a_share_strikes_so_many_and_the_same_with_the_same_seed() {
        let rule = r#"[{"on":"token","kind":"reset_before","share":0.25,"seed":7}]"#;
        let run = || {
            let mut faults = faults(rule);
            (0..4000)
                .map(|_| faults.strike(call("a")).is_some())
                .collect::<Vec<_>>()
        };
        let struck = run().iter().filter(|struck| **struck).count();
        assert!((900..1100).contains(&struck), "{struck} of 4000");
        assert_eq!(run(), run());
    }

    #[test]
    fn a_share_of_one_always_strikes_and_of_zero_never() {
        for (share, expected) in [("1.0", 100), ("0.0", 0)] {
            let json = format!(r#"[{{"on":"token","kind":"reset_before","share":{share}}}]"#);
            let mut faults = faults(&json);
            let struck = (0..100).filter(|_| faults.strike(call("a")).is_some());
            assert_eq!(struck.count(), expected);
        }
    }

    #[test]
    fn a_rule_can_be_for_one_location_endpoint_and_grant() {
        let mut faults = faults(
            r#"[{"on":"token","kind":"invalid_grant","next":9,"locationId":"a","grant":"refresh_token"}]"#,
        );
        assert!(faults.strike(call("b")).is_none());
        let others = [
            Call {
                on: Endpoint::Api,
                ..call("a")
            },
            Call {
                grant: Some(GrantType::AuthorizationCode),
                ..call("a")
            },
            Call {
                subject: None,
                ..call("a")
            },
        ];
        for other in others {
            assert!(faults.strike(other).is_none(), "{other:?}");
        }
        assert!(faults.strike(call("a")).is_some());
    }

    #[test]
    fn the_first_rule_that_applies_strikes() {
        let mut faults = faults(
            r#"[{"on":"token","kind":"hang","ms":5,"next":1},
                {"on":"token","kind":"reset_before","next":1}]"#,
        );
        assert!(matches!(faults.strike(call("a")), Some(Fault::Hang(_))));
        assert!(matches!(faults.strike(call("a")), Some(Fault::ResetBefore)));
        assert!(faults.strike(call("a")).is_none());
    }

    #[test]
    fn a_rule_is_shown_as_it_was_given() {
        let given =
            r#"{"on":"api","kind":"status","status":503,"retry_after":2,"body":"html","next":1"#;
        let shown = serde_json::to_string(&faults(&format!("[{given}}}]")).shown()).unwrap();
        assert_eq!(shown, format!(r#"[{given},"fired":0}}]"#));
    }

    #[test]
    fn bad_rules_are_named() {
        for (rule, part) in [
            (r#"{"on":"moon","kind":"hang"}"#, "unknown variant"),
            (
                r#"{"on":"api","kind":"hang","ms":1,"nxt":1}"#,
                "unknown field",
            ),
            (r#"{"on":"api","kind":"hang","next":1}"#, "needs `ms`"),
            (r#"{"on":"api","kind":"hang","ms":1}"#, "either `next`"),
            (
                r#"{"on":"api","kind":"hang","ms":1,"next":1,"share":0.5}"#,
                "either `next`",
            ),
            (
                r#"{"on":"api","kind":"hang","ms":1,"share":1.5}"#,
                "`share`",
            ),
            (
                r#"{"on":"api","kind":"hang","ms":1,"next":1,"seed":1}"#,
                "`seed`",
            ),
            (r#"{"on":"api","kind":"invalid_grant","next":1}"#, "token"),
            (
                r#"{"on":"api","kind":"reset_before","next":1,"status":500}"#,
                "`status`",
            ),
            (r#"{"on":"api","kind":"status","next":1}"#, "needs `status`"),
            (
                r#"{"on":"api","kind":"status","status":99,"next":1}"#,
                "`status`",
            ),
            (
                r#"{"on":"token","kind":"status","status":200,"next":1}"#,
                "`body`",
            ),
            (
                r#"{"on":"token","kind":"status","status":500,"body":"missing_fields","next":1}"#,
                "200",
            ),
            (
                r#"{"on":"api","kind":"status","status":200,"body":"missing_fields","next":1}"#,
                "token",
            ),
            (
                r#"{"on":"api","kind":"reset_before","grant":"refresh_token","next":1}"#,
                "`grant`",
            ),
            (
                r#"{"on":"token","kind":"odd_answer","next":1}"#,
                "needs `oddity`",
            ),
            (
                r#"{"on":"api","kind":"odd_answer","oddity":"gzip","next":1}"#,
                "token",
            ),
            (
                r#"{"on":"token","kind":"odd_answer","oddity":"gzip","value":1,"next":1}"#,
                "`value`",
            ),
            (
                r#"{"on":"token","kind":"odd_answer","oddity":"expires_in","next":1}"#,
                "`value`",
            ),
            (
                r#"{"on":"token","kind":"reset_before","oddity":"gzip","next":1}"#,
                "`oddity`",
            ),
            (r#""nothing""#, "not a list"),
        ] {
            let mistakes = Faults::parse(format!("[{rule}]").as_bytes()).unwrap_err();
            assert!(mistakes[0].contains(part), "{rule}: {mistakes:?}");
        }
    }
}
