//! Fault injection.
//!
//! Rules are tried in order, and the first that matches a call applies. [`Rule`] describes the JSON of a
//! rule.

mod effect;
mod oddity;
mod rule;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

pub(crate) use effect::{Sent, around};
use oddity::Oddity;
pub(crate) use rule::{Endpoint, GrantType, Rule};

/// A call before it is processed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) on: Endpoint,
    /// The location or company of its token or code.
    pub(crate) subject: Option<&'a str>,
    pub(crate) grant: Option<GrantType>,
    /// Of an API call.
    pub(crate) path: Option<&'a str>,
}

/// The effect on a call.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It gets this response without being processed.
    Respond(FixedResponse),
    /// It gets an error that repeats what was sent, without being processed.
    Echo(StatusCode),
    /// It is processed, and its response is changed.
    Alter(Alteration),
    /// It waits before it is processed. It is dropped if its caller disconnects meanwhile.
    Hang(Duration),
    /// The connection closes before the call is processed.
    ResetBefore,
    /// The connection closes after the call was processed.
    ProcessThenLose,
    /// It is processed, and the body of the response takes this long.
    SlowBody(Duration),
}

impl Fault {
    pub(crate) fn is_processed(&self) -> bool {
        match self {
            Self::Respond(_) | Self::Echo(_) | Self::ResetBefore => false,
            Self::Alter(_) | Self::Hang(_) | Self::ProcessThenLose | Self::SlowBody(_) => true,
        }
    }
}

/// A fixed response.
#[derive(Clone, Debug)]
pub(crate) struct FixedResponse {
    status: StatusCode,
    content_type: &'static str,
    retry_after_s: Option<u64>,
    body: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Alteration {
    /// The body ends in the middle.
    Truncate,
    /// A token response keeps only its two tokens.
    OnlyTokens,
    /// A token response has no refresh token, and the presented one stays valid.
    WithoutRefreshToken,
    /// A token response in an undocumented shape.
    Odd {
        oddity: Oddity,
        value: Option<Value>,
    },
}

/// The active rules.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<ActiveRule>);

/// An active rule with its counter.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ActiveRule {
    #[serde(flatten)]
    rule: Rule,
    /// How many calls it was applied to.
    fired: u64,
    #[serde(skip)]
    fault: Fault,
    #[serde(skip)]
    random: u64,
}

impl Faults {
    /// Parses and checks a list of rules.
    ///
    /// # Errors
    /// One message for each invalid rule, with its position.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Vec<String>> {
        let rules: Vec<Rule> = serde_json::from_slice(json)
            .map_err(|mistake| vec![format!("not a list of rules: {mistake}")])?;
        let mut active = Vec::new();
        let mut mistakes = Vec::new();
        for (position, rule) in rules.into_iter().enumerate() {
            match rule.fault() {
                Ok(fault) => active.push(ActiveRule {
                    fault,
                    fired: 0,
                    random: rule.seed(),
                    rule,
                }),
                Err(mistake) => mistakes.push(format!("rule {position}: {mistake}")),
            }
        }
        if mistakes.is_empty() {
            Ok(Self(active))
        } else {
            Err(mistakes)
        }
    }

    /// The fault for this call, if a rule applies.
    pub(crate) fn next_fault(&mut self, call: Call<'_>) -> Option<Fault> {
        let active = self.0.iter_mut().find_map(|active| active.applies(call))?;
        active.fired += 1;
        Some(active.fault.clone())
    }

    pub(crate) fn shown(&self) -> Vec<ActiveRule> {
        self.0.clone()
    }
}

impl ActiveRule {
    fn applies(&mut self, call: Call<'_>) -> Option<&mut Self> {
        let applies = self.rule.applies_to(call)
            && match (self.rule.next, self.rule.share) {
                (Some(next), _) => self.fired < next,
                (None, Some(share)) => self.draw() < share,
                (None, None) => false,
            };
        applies.then_some(self)
    }

    /// A random number in 0..1 by SplitMix64. The sequence depends only on the seed.
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // A double represents 53 bits exactly.
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
            path: None,
        }
    }

    #[test]
    fn next_limits_the_number_of_calls() {
        let mut faults = faults(r#"[{"on":"token","kind":"status","status":500,"next":2}]"#);
        assert!(faults.next_fault(call("a")).is_some());
        assert!(faults.next_fault(call("b")).is_some());
        assert!(faults.next_fault(call("c")).is_none());
        assert_eq!(faults.shown()[0].fired, 2);
    }

    #[test]
    fn share_is_deterministic_for_a_seed() {
        let rule = r#"[{"on":"token","kind":"reset_before","share":0.25,"seed":7}]"#;
        let run = || {
            let mut faults = faults(rule);
            (0..4000)
                .map(|_| faults.next_fault(call("a")).is_some())
                .collect::<Vec<_>>()
        };
        let affected = run().iter().filter(|affected| **affected).count();
        assert!((900..1100).contains(&affected), "{affected} of 4000");
        assert_eq!(run(), run());
    }

    #[test]
    fn share_of_one_always_applies_and_of_zero_never() {
        for (share, expected) in [("1.0", 100), ("0.0", 0)] {
            let json = format!(r#"[{{"on":"token","kind":"reset_before","share":{share}}}]"#);
            let mut faults = faults(&json);
            let affected = (0..100).filter(|_| faults.next_fault(call("a")).is_some());
            assert_eq!(affected.count(), expected);
        }
    }

    #[test]
    fn rule_can_be_limited_to_location_endpoint_and_grant() {
        let mut faults = faults(
            r#"[{"on":"token","kind":"invalid_grant","next":9,"locationId":"a","grant":"refresh_token"}]"#,
        );
        assert!(faults.next_fault(call("b")).is_none());
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
            assert!(faults.next_fault(other).is_none(), "{other:?}");
        }
        assert!(faults.next_fault(call("a")).is_some());
    }

    #[test]
    fn rule_can_be_limited_to_a_path() {
        let mut faults = faults(
            r#"[{"on":"api","kind":"reset_before","next":9,"path":"/oauth/locationToken"}]"#,
        );
        for (path, expected) in [
            (Some("/oauth/locationToken"), true),
            (Some("/oauth/locationToken/"), true),
            (Some("/oauth/installedLocations"), false),
            (None, false),
        ] {
            let on = Endpoint::Api;
            let found = faults.next_fault(Call {
                on,
                path,
                ..call("a")
            });
            assert_eq!(found.is_some(), expected, "{path:?}");
        }
    }

    #[test]
    fn first_matching_rule_applies() {
        let mut faults = faults(
            r#"[{"on":"token","kind":"hang","ms":5,"next":1},
                {"on":"token","kind":"reset_before","next":1}]"#,
        );
        assert!(matches!(faults.next_fault(call("a")), Some(Fault::Hang(_))));
        assert!(matches!(
            faults.next_fault(call("a")),
            Some(Fault::ResetBefore)
        ));
        assert!(faults.next_fault(call("a")).is_none());
    }

    #[test]
    fn rule_is_shown_as_it_was_given() {
        let given =
            r#"{"on":"api","kind":"status","status":503,"retry_after":2,"body":"html","next":1"#;
        let shown = serde_json::to_string(&faults(&format!("[{given}}}]")).shown()).unwrap();
        assert_eq!(shown, format!(r#"[{given},"fired":0}}]"#));
    }

    #[test]
    fn invalid_rules_are_reported() {
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
                r#"{"on":"token","kind":"reset_before","path":"/x","next":1}"#,
                "`path`",
            ),
            (
                r#"{"on":"token","kind":"odd_answer","next":1}"#,
                "needs `oddity`",
            ),
            (r#"{"on":"api","kind":"echo","next":1}"#, "needs `status`"),
            (
                r#"{"on":"api","kind":"echo","status":200,"next":1}"#,
                "`status`",
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
