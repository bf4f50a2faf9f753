//! Simulates replicas that share a location's limit by response headers alone.

use std::collections::VecDeque;

use super::*;

const WINDOW_MS: u64 = 1_000;
const MAX: u32 = 100;

/// GHL as the sandbox simulates it. A window begins with its first call.
#[derive(Default)]
struct Ghl {
    began_ms: Option<u64>,
    used: u32,
    refused: u32,
}

impl Ghl {
    fn answer(&mut self, ms: u64) -> RateLimitHeaders {
        if self.began_ms.is_none_or(|began| ms >= began + WINDOW_MS) {
            self.began_ms = Some(ms);
            self.used = 0;
        }
        if self.used == MAX {
            self.refused += 1;
            return refusal();
        }
        self.used += 1;
        left(MAX - self.used)
    }
}

struct Replica {
    trial: Trial,
    queued: u32,
    /// When a response arrives, for which call, with which headers.
    answers: VecDeque<(u64, CountedCall, RateLimitHeaders)>,
}

/// Runs replicas with these numbers of queued calls until all are answered. Returns GHL's state and the time of the
/// last response.
fn burst(queued: &[u32], latency_ms: impl Fn(u64, usize) -> u64) -> (Ghl, u64) {
    let mut ghl = Ghl::default();
    let mut in_flight: Vec<(u64, usize, CountedCall)> = Vec::new();
    let mut replicas: Vec<_> = queued
        .iter()
        .map(|queued| Replica {
            trial: Trial::new(),
            queued: *queued,
            answers: VecDeque::new(),
        })
        .collect();
    for ms in 0..60_000 {
        for (number, replica) in replicas.iter_mut().enumerate() {
            let is_due = |(at, _, _): &(u64, CountedCall, RateLimitHeaders)| *at <= ms;
            while let Some(index) = replica.answers.iter().position(is_due) {
                let (_, sent, headers) = replica.answers.remove(index).unwrap();
                replica.trial.answer(sent, headers, ms);
                replica.queued += u32::from(headers.is_refusal);
            }
            while replica.queued > 0 {
                let Decision::Go(sent) = replica.trial.admit(ms) else {
                    break;
                };
                replica.queued -= 1;
                in_flight.push((ms + latency_ms(ms, number), number, sent));
            }
        }
        in_flight.sort_by_key(|(arrives, ..)| *arrives);
        while in_flight
            .first()
            .is_some_and(|(arrives, ..)| *arrives <= ms)
        {
            let (_, number, sent) = in_flight.remove(0);
            let headers = ghl.answer(ms);
            let back = ms + latency_ms(ms + 7, number);
            replicas[number].answers.push_back((back, sent, headers));
        }
        let is_done = |replica: &Replica| replica.queued == 0 && replica.answers.is_empty();
        if in_flight.is_empty() && replicas.iter().all(is_done) {
            return (ghl, ms);
        }
    }
    panic!("the calls were not answered in time");
}

/// A pseudorandom latency from 1 to 16 ms.
fn uneven(ms: u64, number: usize) -> u64 {
    let seed = ms
        .wrapping_mul(0x9E37_79B9)
        .wrapping_add(number as u64 * 77);
    1 + (seed.wrapping_mul(seed | 1) >> 7) % 16
}

#[test]
fn three_replicas_use_the_full_limit_with_few_429s() {
    for (name, queued) in [
        ("even", &[334, 333, 333][..]),
        ("uneven", &[800, 150, 50]),
        ("alone", &[1000]),
    ] {
        let (ghl, ended) = burst(queued, uneven);
        assert!((9_000..10_600).contains(&ended), "{name}: {ended} ms");
        let replicas = u32::try_from(queued.len()).unwrap();
        assert!(ghl.refused <= 20 * replicas, "{name}: {}", ghl.refused);
    }
}

#[test]
fn limit_is_used_fully_despite_high_latency() {
    for queued in [&[1000][..], &[334, 333, 333], &[100; 10]] {
        let (_, ended) = burst(queued, |ms, number| 10 + 4 * uneven(ms, number));
        let replicas = queued.len();
        assert!(ended < 12_000, "{replicas} replicas: {ended} ms");
    }
}

#[test]
fn ten_replicas_lose_little_throughput() {
    let (ghl, ended) = burst(&[100; 10], uneven);
    assert!(ended < 11_100, "{ended} ms");
    assert!(ghl.refused < 500, "{}", ghl.refused);
}

#[test]
fn replica_with_higher_latency_gets_its_share() {
    let far = |ms, number| uneven(ms, number) + if number == 2 { 30 } else { 0 };
    let (ghl, ended) = burst(&[333, 333, 333], far);
    assert!(ended < 11_100, "{ended} ms");
    assert!(ghl.refused < 150, "{}", ghl.refused);
}
