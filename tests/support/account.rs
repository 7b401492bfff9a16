//! The collector's account of all spans, as its pages and its last words tell it.

use std::net::SocketAddr;

use regex::Regex;
use serde_json::Value;

use super::send::Call;

const CAME: [&str; 3] = ["received", "copied", "recovered"];
const WENT: [&str; 4] = ["sent", "dropped", "rejected", "in_flight"];

/// One reading.
#[derive(Debug, Clone)]
pub struct Account(pub Value);

impl Account {
    /// Reads the account and checks it.
    #[track_caller]
    pub fn read(pages: SocketAddr) -> Self {
        let answer = Call::get(pages, "/debug/accountz?format=json");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json; charset=utf-8")));
        let account = Self(serde_json::from_str(answer.text()).unwrap());
        account.check();
        account
    }

    pub fn sum(&self, state: &str) -> u64 {
        self.0[state].as_u64().unwrap_or_else(|| panic!("there is no `{state}` in {self:?}"))
    }

    /// Spans on the lines of this state, of components that begin so, for this reason if any.
    pub fn of(&self, state: &str, component: &str, reason: Option<&str>) -> u64 {
        let lines = self.0["lines"].as_array().unwrap().iter().filter(|line| {
            let starts = line["component"].as_str().unwrap().starts_with(component);
            line["state"] == state && starts && reason.is_none_or(|reason| line["reason"] == reason)
        });
        lines.map(|line| line["spans"].as_u64().unwrap()).sum()
    }

    /// Every span is one thing, and the sums are those of the lines.
    #[track_caller]
    pub fn check(&self) {
        let sum = |names: &[&str]| names.iter().map(|name| self.sum(name)).sum::<u64>();
        assert_eq!(sum(&CAME), sum(&WENT), "the account does not balance: {:#}", self.0);
        assert_eq!(self.0["balances"], true, "{:#}", self.0);
        for state in ["received", "recovered", "sent", "dropped", "rejected"] {
            assert_eq!(self.of(state, "", None), self.sum(state), "the lines of `{state}`: {:#}", self.0);
        }
    }
}

/// Checks the account that a collector tells when it ends, if it came so far.
#[track_caller]
pub fn check_last_words(log: &str) {
    let Some(line) = log.lines().find(|line| line.contains("The account of all spans")) else { return };
    let of = |name: &&str| -> u64 {
        let number = Regex::new(&format!("\"{name}\": ?(\\d+)")).unwrap();
        number.captures(line).unwrap_or_else(|| panic!("no `{name}` in {line}"))[1].parse().unwrap()
    };
    let [came, went] = [CAME.iter().map(of).sum::<u64>(), WENT.iter().map(of).sum()];
    assert_eq!(came, went, "the last account does not balance: {line}");
}
