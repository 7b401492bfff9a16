//! A search of a whole batch finds what a search of each text finds, whatever
//! edits came before.

use std::time::Duration;

use fastrand::Rng;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

use super::super::search::{Budget, Search};
use super::{Pattern, compile, grammar};
use crate::plugin::guest::Meter;
use crate::traces::{Batch, Edit, Index, Message, NewValue, Owner, Spot, Texts};

const KEYS: [&str; 5] = ["user.email", "url.path", "a@b", "card 4111111111111111", "k"];
const TEXTS: [&str; 10] = [
    "ada@example.org",
    "4111111111111111",
    "0411111111111111",
    "order 4711 of bob@b.io, 5500000000000004",
    "/api/v1/orders/{id}",
    "",
    "GET",
    "Bearer abc",
    "müßig 🐝",
    "123-45-6789",
];
const PATTERNS: [&str; 9] = [
    r"[a-z0-9._]+@[a-z0-9.]+",
    r"\b4[0-9]{12}(?:[0-9]{3})?\b",
    r"(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14})",
    r"\d{3}-\d{2}-\d{4}",
    r"(?i)bearer (\S+)",
    r"ß",
    r"\d+",
    r"<.>",
    r"GET|POST",
];

fn one<'a>(random: &mut Rng, list: &[&'a str]) -> &'a str {
    list[random.usize(..list.len())]
}

fn attributes(random: &mut Rng) -> Vec<KeyValue> {
    let value = |random: &mut Rng| match random.usize(..6) {
        0 => Value::IntValue(4_111_111_111_111_111),
        1 => Value::BytesValue(one(random, &TEXTS).into()),
        2 => Value::StringValue(grammar::text(random)),
        _ => Value::StringValue(one(random, &TEXTS).into()),
    };
    let pair = |random: &mut Rng| KeyValue {
        key: one(random, &KEYS).into(),
        value: Some(AnyValue { value: Some(value(random)) }),
        ..KeyValue::default()
    };
    (0..random.usize(..5)).map(|_| pair(random)).collect()
}

fn batch(random: &mut Rng) -> Batch {
    let span = |random: &mut Rng| Span {
        trace_id: (0..16).map(|_| random.u8(1..)).collect(),
        span_id: (0..8).map(|_| random.u8(1..)).collect(),
        name: one(random, &TEXTS).into(),
        attributes: attributes(random),
        events: vec![Event { attributes: attributes(random), ..Event::default() }],
        ..Span::default()
    };
    let resource = |random: &mut Rng| ResourceSpans {
        resource: Some(Resource { attributes: attributes(random), ..Resource::default() }),
        scope_spans: vec![ScopeSpans {
            spans: (0..random.usize(1..8)).map(|_| span(random)).collect(),
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    };
    let resource_spans = (0..random.usize(1..3)).map(|_| resource(random)).collect();
    let message = Message::copy_of(&ExportTraceServiceRequest { resource_spans }.encode_to_vec());
    Batch::receive(message, Default::default(), true).unwrap().0
}

/// What earlier plugins may have done.
fn edits(random: &mut Rng, index: &Index) -> Vec<Edit> {
    let owner = [Owner::Span, Owner::Resource, Owner::Event][random.usize(..3)];
    let some = |random: &mut Rng, owner| {
        let rows = (0..index.count(owner)).filter(|_| random.bool());
        rows.filter_map(|row| index.entry(owner, row)).map(|entry| entry as u32).collect::<Vec<u32>>()
    };
    let (entries, key) = (some(random, owner), one(random, &KEYS).to_owned());
    match random.usize(..5) {
        0 => vec![Edit::Remove { owner, entries, key }],
        1 => vec![Edit::Drop { entries: some(random, Owner::Span), reason: "chance".into() }],
        2 => vec![Edit::Set { owner, entries, key, value: NewValue::Text(one(random, &TEXTS).into()) }],
        3 => vec![Edit::Set { owner, entries, key, value: NewValue::Int(4_111_111_111_111_111) }],
        _ => {
            let mut texts = Texts { codes: entries.iter().map(|_| random.u32(..3)).collect(), ..Texts::default() };
            for _ in 0..3 {
                texts.data.extend_from_slice(one(random, &TEXTS).as_bytes());
                texts.ends.push(texts.data.len() as u32);
            }
            vec![Edit::SetTexts { owner, entries, key, texts }]
        }
    }
}

type Written = (u32, String, String);

/// The texts that the patterns change, and what they become.
fn replaced(index: &Index, search: &Search<'_>, spots: impl Iterator<Item = Spot>) -> Vec<Written> {
    let each = spots.filter_map(|spot| {
        let text = index.text_at(&spot);
        let matches = search.matches(text, spot.found_by).unwrap();
        let replaced = search.replace(text, spot.found_by, "<*>", usize::MAX).unwrap();
        assert_eq!(matches, replaced.is_some(), "{text:?}");
        Some((spot.row, text.to_owned(), replaced?))
    });
    each.collect()
}

#[test]
fn with_and_without_prefilters_the_same_is_found_and_replaced() {
    let mut random = Rng::with_seed(9);
    let meter = Meter::default();
    let fixed: Vec<Pattern> = PATTERNS.iter().map(|pattern| compile(pattern).unwrap()).collect();
    let chance = (0..200).filter_map(|_| compile(&grammar::pattern(&mut random)).ok());
    let patterns: Vec<Pattern> = fixed.into_iter().chain(chance).collect();
    let filtered: Vec<&Pattern> = patterns.iter().filter(|pattern| pattern.prefilter().is_some()).collect();
    assert!(filtered.len() > 20, "{} of the patterns have a prefilter", filtered.len());
    let (mut scanned, mut found) = (0, 0);
    for _ in 0..2000 {
        let mut batch = batch(&mut random);
        for _ in 0..random.usize(..4) {
            let edits = edits(&mut random, batch.index().unwrap());
            batch.apply(edits).unwrap();
        }
        let index = batch.index().unwrap();
        let among: Vec<&Pattern> = match random.usize(..4) {
            0 => (0..2).map(|_| &patterns[random.usize(..patterns.len())]).collect(),
            1 => vec![&patterns[random.usize(..PATTERNS.len())], &patterns[random.usize(..PATTERNS.len())]],
            _ => (0..random.usize(1..4)).map(|_| filtered[random.usize(..filtered.len())]).collect(),
        };
        let search = Search::new(among, Budget::new(&meter, Duration::MAX));
        for owner in Owner::ALL {
            let with: Vec<Spot> = search.spots(index, owner).unwrap().collect();
            scanned += usize::from(with.len() < index.all_texts(owner).count());
            let without = replaced(index, &search, index.all_texts(owner));
            found += without.len();
            assert_eq!(replaced(index, &search, with.into_iter()), without);
        }
    }
    assert!(scanned > 1000 && found > 1000, "{scanned} scans told something, {found} texts matched");
}

#[test]
fn packed_texts_are_searched_alike_with_and_without_prefilters() {
    let meter = Meter::default();
    let patterns: Vec<Pattern> = PATTERNS.iter().map(|pattern| compile(pattern).unwrap()).collect();
    let (mut data, mut ends) = (vec![], vec![]);
    for text in TEXTS {
        data.extend_from_slice(text.as_bytes());
        ends.push(data.len() as u32);
    }
    for pattern in &patterns {
        let search = Search::new(vec![pattern], Budget::new(&meter, Duration::MAX));
        for (text, (given, which)) in TEXTS.iter().zip(search.each(&data, &ends).unwrap()) {
            assert_eq!(*text, given);
            let alone = search.matches(text, u64::MAX).unwrap();
            assert_eq!(search.matches(given, which).unwrap(), alone, "{:?} in {text:?}", pattern.text());
        }
    }
}

/// Whether bytes may hold a match, as far as the prefilter of the pattern tells;
/// `None` where it has none.
fn may_hold(pattern: &str, bytes: &str) -> Option<bool> {
    compile(pattern).unwrap().prefilter().map(|prefilter| prefilter.find(bytes.as_bytes(), 0).is_some())
}

#[test]
fn a_prefilter_looks_for_what_every_match_must_hold() {
    let told = [
        (r"[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}", "a.b", "@"),
        (r"4[0-9]{12}(?:[0-9]{3})?", "a 411111111111 b", "4111111111111"),
        (r"(?:4[0-9]{12}|5[1-5][0-9]{14})", "x123456789012x", "x1234567890123x"),
        (r"\d{3}-\d{2}-\d{4}", "123-45-678 ", "123-45-6789"),
        (r"(?i)bearer [a-z]+", "b e a r e r", "BEARer "),
        (r"(?i)straße", "sta ße", "STRAẞE"),
        (r"(?:secret|token)=\S+", "sekret=", "token="),
        (r"a(b(cde)+f)?ghij+", "ghi", "ghij"),
        (r"x{4}y?z", "xxx", "xxxx"),
        (r"(?:abc){2}d", "ab", "abc"),
        (r"\bAKIA[0-9A-Z]{16}\b", "AKI A", "AKIA0123456789ABCDEF"),
    ];
    for (pattern, without, with) in told {
        assert_eq!([may_hold(pattern, without), may_hold(pattern, with)], [Some(false), Some(true)], "{pattern}");
    }
    for pattern in
        [r"\d+", ".*", "a", "[a-z]+", "", "secret|[0-9]+", "(?:@)?", "(?:@)*a", r"\w{3,5}", "[^@]", r"\pL{20}"]
    {
        assert_eq!(may_hold(pattern, ""), None, "{pattern}");
    }
}
