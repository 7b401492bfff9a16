//! No search runs on when the call's time is over.

use std::time::Duration;

use super::super::search::{Budget, Search};
use super::{Pattern, compile};
use crate::plugin::guest::{GuestFault, Meter};

/// One search of a text takes long: its automaton has more states than a cache holds.
const EXPLODES: &str = "(?:[ab0-]*a[ab0-]{60}){8}[c-z]";
/// Each match is found by a search to the text's end.
const QUADRATIC: &str = "[a-c0]*z|a";

fn text(length: usize) -> String {
    let mut random = fastrand::Rng::with_seed(1);
    (0..length).map(|_| ['a', 'b', '0'][random.usize(..3)]).collect()
}

fn is_cut_off(pattern: &str, text: &str) {
    let pattern = compile(pattern).unwrap();
    let meter = Meter::default();
    let deadline = Duration::from_millis(20);
    let search = Search::new(vec![&pattern], Budget::new(&meter, deadline));
    meter.start();
    meter.resume();
    let ended = search.replace(text, u64::MAX, "#", usize::MAX);
    assert!(matches!(ended, Err(GuestFault::Searched { .. })), "{pattern:?}: {ended:?}", pattern = pattern.text());
    let said = ended.unwrap_err().to_string();
    assert!(said.contains(pattern.text()) && said.contains("limits.deadline"), "{said}");
}

/// The longest of them would take minutes.
#[test]
fn a_search_that_does_not_end_in_time_is_cut_off() {
    for (pattern, length) in [(EXPLODES, 1 << 20), (EXPLODES, 1 << 16), (QUADRATIC, 1 << 18), (QUADRATIC, 1 << 20)] {
        is_cut_off(pattern, &text(length));
    }
}

#[test]
fn many_short_texts_are_one_search() {
    let pattern = compile(EXPLODES).unwrap();
    let meter = Meter::default();
    let search = Search::new(vec![&pattern], Budget::new(&meter, Duration::ZERO));
    meter.start();
    meter.resume();
    let short = text(500);
    let ended = (0..100_000).find_map(|_| search.matches(&short, u64::MAX).err());
    assert!(matches!(ended, Some(GuestFault::Searched { .. })));
}

#[test]
fn a_long_text_is_searched_whole_where_there_is_time() {
    let meter = Meter::default();
    let long = text(1 << 19) + "z";
    let pattern: Pattern = compile("[a-z0-]+z").unwrap();
    let search = Search::new(vec![&pattern], Budget::new(&meter, Duration::from_secs(3600)));
    assert_eq!(search.replace(&long, u64::MAX, "#", usize::MAX).unwrap().as_deref(), Some("#"));
}
